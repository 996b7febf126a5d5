"""Training speed: forms, phases and kinds of layer, on networks of milliseconds."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    complexity,
    layer_kinds,
    records,
    train_speed,
    train_speed_tables,
    training_steps,
)
from benchmarks.training_steps import EAGER, PHASES, Form, Trainee, parse_form
from gidrn import zoo
from gidrn.crops import CropStore
from gidrn.merged_groups import MergedGroups
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.imdn import IMDNConfig
from gidrn.recipes import Recipe
from tests.scripts_here import run_here

SCRIPT = Path(train_speed.__file__)
CONFIG = GIDRNConfig(channels=24, groups_of_blocks=1, blocks_per_group=2, pool_sizes=(1, 3))
"""Three groups a convolution."""
RECIPE = Recipe(scale=2, batch=2, patch=8, clip_gradient_norm=1.0)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """G-IDRN, IDRN and IMDN with a block or two."""
    configs = {
        "gidrn": CONFIG,
        "idrn": dataclasses.replace(CONFIG, group_width=None),
        "imdn": IMDNConfig(channels=16, blocks=1, distilled=4),
    }
    for name, config in configs.items():
        line = dataclasses.replace(zoo.NETWORKS[name], config=config)
        monkeypatch.setitem(zoo.NETWORKS, name, line)


@pytest.fixture(scope="module")
def store() -> CropStore:
    return training_steps.stand_in_store(2, 8, "cpu")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("eager", EAGER),
        ("bf16", Form(autocast="bf16")),
        ("compile+bf16+merge3", Form("yes", "bf16", merge=3)),
        ("graphs+channels_last+merge_all", Form("graphs", channels_last=True, merge="all")),
    ],
)
def test_a_form_has_a_name(text: str, form: Form) -> None:
    assert parse_form(text) == form
    assert form.name == text
    assert parse_form("+".join(reversed(text.split("+")))) == form


@pytest.mark.parametrize("text", ["", "fp8", "merge0", "merge", "bf16 compile", "bf16+"])
def test_an_unknown_form_names_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="channels_last, compile"):
        parse_form(text)


def test_a_step_trains_and_its_phases_make_it_up(store: CropStore) -> None:
    trainee = Trainee(RECIPE, EAGER, store)
    before = [p.detach().clone() for p in trainee.run.network.parameters()]
    assert trainee.warm_up() == trainee.warm_up() == trainee.run.step == 3
    samples = [trainee.sample(3) for _ in range(3)]
    assert trainee.run.step == 3 + 9
    after = trainee.run.network.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for sample in samples:
        assert set(sample.phases_ms) == set(PHASES)
        assert min(sample.phases_ms.values()) > 0
        # The marks stand inside the clock, and nothing but the clock's own calls around them.
        whole = sum(sample.phases_ms.values())
        assert whole <= 1000 * sample.step_s <= whole + 1


def test_every_form_takes_the_same_step(store: CropStore) -> None:
    def end(text: str) -> tuple[Trainee, torch.Tensor]:
        recipe = dataclasses.replace(RECIPE, adam_epsilon=1e-2)  # no step out of rounding
        trainee = Trainee(recipe, parse_form(text), store)
        return trainee, torch.stack([trainee.step() for _ in range(3)])

    plain, losses = end("eager")
    assert plain.run.recipe.autocast == "none"
    for text, tolerance in (("merge3", 1e-5), ("channels_last", 1e-5), ("bf16", 0.02)):
        other, others = end(text)
        torch.testing.assert_close(others, losses, rtol=tolerance, atol=0)
        assert not torch.equal(others, losses) or text != "bf16"
        merged = [m for m in other.run.network.modules() if isinstance(m, MergedGroups)]
        assert len(merged) == (8 if text == "merge3" else 0)


def test_compile_hands_the_network_to_torch_compile(
    store: CropStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def compile_(
        network: torch.nn.Module, mode: str | None = None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        asked.append(mode)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    for text in ("eager", "compile", "graphs"):
        Trainee(RECIPE, parse_form(text), store)
    assert asked == [None, "reduce-overhead"]


def test_turns_move_on() -> None:
    turns: list[str] = []

    class Stub:
        def __init__(self, name: str) -> None:
            self.name = name

        def warm_up(self) -> int:
            return 1

        def sample(self, steps: int) -> int:
            turns.append(self.name)
            return steps

    stubs = {name: Stub(name) for name in "abc"}
    found: object = training_steps.in_turns(stubs, samples=3, steps=5)  # type: ignore[arg-type]
    assert "".join(turns) == "abcbcacab"
    assert found == {name: [5, 5, 5] for name in "abc"}


PHASE_PARTS = [("draw", "store", "draw"), ("loss", "loss_of", "forward")]


@pytest.mark.parametrize(("phase", "owner", "method"), PHASE_PARTS)
def test_time_is_booked_in_the_phase_that_takes_it(
    phase: str, owner: str, method: str, store: CropStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee = Trainee(RECIPE, EAGER, store)
    trainee.warm_up()
    plain = getattr(getattr(trainee, owner), method)

    def slow(*arguments: Any) -> Any:
        time.sleep(0.2)
        return plain(*arguments)

    monkeypatch.setattr(getattr(trainee, owner), method, slow)
    phases = trainee.sample(1).phases_ms
    assert phases[phase] >= 200
    assert max(phases, key=lambda name: phases[name]) == phase


def test_what_does_not_compile_says_so(store: CropStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(network: torch.nn.Module, mode: str | None = None) -> Any:
        def run(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no working C++ compiler\nand more")

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    with pytest.raises(ValueError, match=r"compile does not compile here \(no working C\+\+"):
        Trainee(RECIPE, parse_form("compile"), store).warm_up()


def test_differences_within_the_spread_are_not_told() -> None:
    def entry(name: str, table: str, **times: list[float]) -> records.Record:
        what = records.What(name, 4, "torch-cpu", precision="fp32", batch=1, size_hw=(8, 8))
        values: dict[str, Any] = {"table": table, "form": "eager"}
        values |= {"multiply_adds": 100, "convolutions": 7, "parameters": 5, "first_step_s": 1.0}
        figures = [records.Figure.of(kind, samples) for kind, samples in times.items()]
        return records.record(what, records.How("test"), figures=figures, values=values)

    def kinds(name: str, pointwise: list[float], grouped: list[float]) -> records.Record:
        rest = {kind: [1.0, 1.0, 1.0] for kind in layer_kinds.KINDS}
        rest |= {"pointwise": pointwise, "grouped": grouped}
        return entry(name, "kinds", **{f"{kind}_ms": ms for kind, ms in rest.items()})

    timed = [entry(name, "networks", s_per_100_steps=[2.0, 2.0, 2.0]) for name in ("a", "b")]
    found = [*timed, kinds("a", [5.0, 6.0, 7.0], [5, 6, 9]), kinds("b", [1.0, 2.0, 3.0], [1, 2, 6])]
    line, fastest = train_speed_tables.findings(found)
    assert "pointwise convolution +4.0." in line
    assert "grouped" not in line
    assert fastest == "Fastest form of a here: eager, 2.00 s per 100 steps."


def test_multiply_adds_by_kind_add_up() -> None:
    with torch.device("meta"):
        network = zoo.create("gidrn", 2)
        kinds = layer_kinds.multiply_adds(network, (12, 10))
        assert sum(kinds.values()) == complexity.count(network, (12, 10)).multiply_adds
    assert kinds["grouped"] == 8 * 24 * 8 * 9 * 120
    assert kinds["pointwise"] == (6 * 24 + 2 * 4 * 24) * 24 * 120
    assert kinds["dense"] == (3 * 24 * 9 + 24 * 12 * 9 + 3 * 12 * 25) * 120
    assert kinds["sums"] == kinds["rest"] == kinds["outside"] == 0


def test_the_profiler_tells_kinds_apart(store: CropStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time moves to the kind that is made slow, whether forwards or back."""
    times = {}
    for name in ("gidrn", "idrn"):
        trainee = Trainee(dataclasses.replace(RECIPE, network=name), EAGER, store)
        trainee.warm_up()
        times[name] = layer_kinds.profiled_step(trainee)
        assert trainee.forward is trainee.run.network
        assert not any(m._forward_hooks for m in trainee.run.network.modules())
    assert times["gidrn"]["grouped"] > 0
    assert times["idrn"]["grouped"] == 0
    for kind in layer_kinds.KINDS:
        assert times["gidrn"][kind] > 0

    class Slow(torch.autograd.Function):
        """The identity, whose gradient takes its time."""

        @staticmethod
        def forward(context: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
            for _ in range(1000):
                gradient = gradient + 0
            return gradient

    trainee = Trainee(RECIPE, EAGER, store)
    trainee.warm_up()
    dull = next(m for m in trainee.run.network.modules() if getattr(m, "groups", 1) > 1)
    quick: Any = dull.forward

    def dawdle(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for _ in range(1000):
                x.sum()
        return torch.as_tensor(quick(x))

    with monkeypatch.context() as patch:
        patch.setattr(dull, "forward", dawdle)
        slow = layer_kinds.profiled_step(trainee)
    gained = {kind: slow[kind] - times["gidrn"][kind] for kind in slow}
    assert max(gained, key=lambda kind: gained[kind]) == "grouped"

    slowed = next(m for m in trainee.run.network.modules() if m.__class__.__name__ == "LeakyReLU")
    apply: Any = Slow.apply
    plain = slowed.forward
    monkeypatch.setattr(slowed, "forward", lambda x: apply(plain(x)))
    slow = layer_kinds.profiled_step(trainee)
    gained = {kind: slow[kind] - times["gidrn"][kind] for kind in slow}
    assert max(gained, key=lambda kind: gained[kind]) == "activation"


def test_a_whole_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_speed, "PAPER_BATCH", 2)
    monkeypatch.setattr(train_speed, "PAPER_PATCH", 8)
    threads, out = torch.get_num_threads(), tmp_path / "speed.json"
    train_speed.main(
        models="imdn,gidrn",
        batch=2,
        patch=8,
        device="cpu",
        threads=1,
        forms="merge3,eager,bf16",
        samples=3,
        out=out,
    )
    assert torch.get_num_threads() == threads
    found = records.read_records(out)
    of = {
        table: [entry for entry in found if entry.values["table"] == table]
        for table in ("forms", "networks", "kinds")
    }
    assert [entry.values["form"] for entry in of["forms"]] == ["merge3", "eager", "bf16"]
    assert [entry.what.precision for entry in of["forms"]] == ["fp32", "fp32", "bf16 autocast"]
    assert {entry.what.model for entry in of["forms"]} == {"gidrn"}
    fastest = min(of["forms"], key=lambda entry: entry.figure("s_per_100_steps").p50)
    in_turns = [(entry.what.model, entry.values["form"]) for entry in of["networks"]]
    assert in_turns[:2] == [("gidrn", "merge3"), ("imdn", "eager")]  # IMDN has nothing to merge
    assert (fastest is of["forms"][0]) == (len(in_turns) == 2)
    assert ("gidrn", fastest.values["form"]) in in_turns
    assert [entry.what.model for entry in of["kinds"]] == ["gidrn", "imdn"]
    for entry in of["forms"] + of["networks"]:
        figure = entry.figure("s_per_100_steps")
        assert len(figure.samples) == entry.how.samples == 3
        phases = sum(entry.figure(f"{phase}_ms").samples[0] for phase in PHASES)
        assert figure.samples[0] / 100 == pytest.approx(phases / 1000, abs=2e-3)
    own, other = of["networks"][:2]
    assert own.published == {"train_s_per_100_iter": 12.7, "gpu": "GTX 1080 Ti"}
    assert other.published == {"train_s_per_100_iter": 5.4, "gpu": "GTX 1080 Ti"}
    shown = capsys.readouterr().out
    assert "the paper, GTX 1080 Ti" in shown
    assert "A plain step of gidrn against one of imdn" in shown
    assert f"Fastest form of gidrn here: {fastest.values['form']}" in shown


def test_the_paper_stands_beside_its_own_batch_and_patch_only() -> None:
    plan = train_speed.Plan(("gidrn",), 4, 16, 64, "cpu", 1, (EAGER,), 3)
    for name, seconds in {"gidrn": 12.7, "idrn": 8.5, "imdn": 5.4, "rfdn_l": 6.1}.items():
        printed = train_speed.published_figures(plan, name)
        assert printed == {"train_s_per_100_iter": seconds, "gpu": "GTX 1080 Ti"}
    assert train_speed.published_figures(plan, "edsr") == {}
    for change in ({"scale": 2}, {"batch": 8}, {"patch": 48}):
        other = dataclasses.replace(plan, **change)  # type: ignore[arg-type]
        assert train_speed.published_figures(other, "gidrn") == {}


def test_default_forms_fit_device_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    here = records.here()
    for arithmetic, bf16 in (((), False), (("avx2", "avx512_bf16"), True)):
        machine = dataclasses.replace(here, arithmetic=arithmetic)
        monkeypatch.setattr(records, "here", lambda machine=machine: machine)
        forms = train_speed.default_forms("cpu", "gidrn")
        assert ("bf16" in forms) == bf16
        assert "merge3" in forms
        assert "graphs" not in forms
        assert "merge" not in train_speed.default_forms("cpu", "imdn")
    for device in ("cpu", "cuda"):
        for form in train_speed.default_forms(device, "gidrn").split(","):
            assert parse_form(form).name == form
    assert "graphs" in train_speed.default_forms("cuda", "imdn")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"models": "gidnr"}, "did you mean 'gidrn'"),
        ({"models": ","}, "--models"),
        ({"forms": ","}, "--forms"),
        ({"forms": "int8"}, "a form is made of"),
        ({"forms": "graphs"}, "CUDA device"),
        ({"forms": "merge2"}, "divisor of 3"),
        ({"forms": "merge3", "models": "imdn"}, "no groups to merge"),
        ({"scale": 5}, "--scale"),
        ({"batch": 0}, "--batch"),
        ({"patch": 0}, "--patch"),
        ({"samples": 2}, "--samples is at least 3"),
        ({"threads": 0}, "--threads"),
        ({"device": "tpu"}, "--device"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, object], says: str, tmp_path: Path) -> None:
    defaults: dict[str, object] = {"device": "cpu", "patch": 8, "out": tmp_path / "s.json"}
    with pytest.raises(ValueError, match=says):
        train_speed.main(**{**defaults, **arguments})  # type: ignore[arg-type]


def test_help_names_the_flags() -> None:
    command = [sys.executable, str(SCRIPT), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for flag in ("models", "scale", "batch", "patch", "device", "threads", "forms", "samples"):
        assert f"--{flag}" in done.stdout


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2() -> None:
    done = run_here(SCRIPT, "--samples", "0")
    assert done.returncode == 2
    assert done.stderr == "error: --samples is at least 3, not 0\n"
