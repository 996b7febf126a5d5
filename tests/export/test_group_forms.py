"""The choice among equal forms: made by time, from runs in turns, and written down."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from export import group_forms, to_onnx
from export.group_forms import ROUNDS, WARM_UP, Choice
from export.proof import Dtype
from export.rewrites import RefusedError
from gidrn import command_line, zoo
from gidrn_runtime import EngineUnavailable, Upscaler, engines, models, plans
from tests.small_networks import trained_like


def test_the_forms_of_a_network() -> None:
    assert group_forms.forms_of(zoo.create("gidrn", 4)) == ["1", "3", "all"]
    mixed = nn.Sequential(nn.Conv2d(8, 8, 1, groups=8), nn.Conv2d(12, 12, 3, groups=12))
    assert group_forms.forms_of(mixed) == ["1", "2", "4", "all"]
    with pytest.raises(RefusedError, match="no grouped convolutions"):
        group_forms.forms_of(zoo.create("imdn", 4))


class Machine:
    """A clock, and engines on which a form takes as long as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ms: dict[str, list[float]]) -> None:
        self.now = 0
        self.ms = ms
        self.order: list[str] = []
        self.closed: list[str] = []
        monkeypatch.setattr(group_forms, "open_form", lambda path, *_: Form(self, path.stem))
        monkeypatch.setattr(group_forms, "REST_S", 0)

    def choose(self, tmp_path: Path, forms: list[str], engine: str = "ort-cpu") -> Choice:
        choice, taken = group_forms.choose(
            lambda form, path: None,
            forms,
            tmp_path,
            engine=engine,
            dtype="fp32",
            size_hw=(8, 12),
            clock=lambda: self.now,
        )
        assert {form: len(ms) for form, ms in taken.items()} == dict.fromkeys(forms, ROUNDS)
        return choice


class Form:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name, self.runs = machine, name, 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        assert frame.shape == (8, 12, 3)
        times = self.machine.ms[self.name]
        self.machine.order.append(self.name)
        self.machine.now += int(times[self.runs % len(times)] * 1e6)
        self.runs += 1
        return frame

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *exception: object) -> None:
        self.machine.closed.append(self.name)

    def describe(self) -> dict[str, object]:
        return {"engine": "played", "engine_version": "1.0", "device": "none"}


@pytest.mark.parametrize(
    ("ms", "merged"),
    [
        ({"1": [10.0], "3": [8.0], "all": [9.0]}, "3"),
        ({"1": [10.0], "3": [11.0], "all": [4.0]}, "all"),
        ({"1": [10.0], "3": [12.0], "all": [30.0]}, "1"),
        ({"1": [10.0], "3": [9.9], "all": [30.0]}, "1"),  # not worth its multiply-adds
        # A busy machine: the plain form's runs are slow by turns, and its rival's with them.
        ({"1": [10.0, 40.0], "3": [8.0, 32.0], "all": [45.0]}, "3"),
    ],
)
def test_the_fastest_in_the_same_round_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ms: dict[str, list[float]], merged: str
) -> None:
    machine = Machine(monkeypatch, ms)
    choice = machine.choose(tmp_path, list(ms))
    assert choice.merged == merged
    assert choice.factor == (None if merged == "all" else int(merged))
    assert (choice.engine, choice.engine_version, choice.device) == ("played", "1.0", "none")
    assert choice.over_plain["1"] == 1
    assert machine.order[:9] == ["1", "3", "all", "3", "all", "1", "all", "1", "3"]
    assert len(machine.order) == len(ms) * (WARM_UP + ROUNDS)
    assert sorted(machine.closed) == sorted(ms)
    told = json.loads(choice.to_text())
    assert told["median_ms"].keys() == ms.keys()
    words = choice.in_words()
    assert words.startswith(f"groups merged by {merged}, by time on played 1.0, none, fp32 at 8x12")


@pytest.mark.parametrize(("engine", "rests"), [("ort-cpu", {0.05}), ("ort-cuda", {0.0})])
def test_a_gpu_has_no_rest_in_which_its_clocks_fall(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, rests: set[float]
) -> None:
    machine = Machine(monkeypatch, {"1": [2.0], "all": [1.0]})
    monkeypatch.setattr(group_forms, "REST_S", 0.05)
    rested: list[float] = []
    monkeypatch.setattr("export.group_forms.time.sleep", rested.append)
    machine.choose(tmp_path, ["1", "all"], engine)
    assert set(rested) == rests


@pytest.mark.parametrize(("dtype", "opset"), [("fp32", 18), ("fp16", 17)])
def test_a_file_is_tuned_for_the_engine_that_is_here(
    tmp_path: Path, dtype: Dtype, opset: int
) -> None:
    """The forms that are timed are those that the export writes, and equal to each other."""
    network = trained_like(2)
    labels = to_onnx.Labels("gidrn", 2, "random", "", "global", dtype=dtype)
    seen: list[np.ndarray] = []
    kept = group_forms.open_form

    def open_and_look(path: Path, engine: str, size_hw: tuple[int, int]) -> Upscaler:
        upscale = kept(path, engine, size_hw)
        groups = {
            attribute.i
            for node in onnx.load(path).graph.node
            if node.op_type == "Conv"
            for attribute in node.attribute
            if attribute.name == "group"
        }
        seen.append(upscale(np.full((16, 24, 3), 99, np.uint8)))
        assert (groups == {1}) == (path.stem == "all")
        return upscale

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(group_forms, "open_form", open_and_look)
        patched.setattr(group_forms, "REST_S", 0)
        choice, _ = to_onnx.choose_groups(network, labels, "ort-cpu", opset=opset, size_hw=(16, 24))
    assert (choice.engine, choice.dtype, choice.size_hw) == ("ort-cpu", dtype, (16, 24))
    assert len(seen) == len(choice.median_ms) == 2
    assert np.abs(seen[0].astype(int) - seen[1]).max() <= 1
    labels = dataclasses.replace(labels, merged_groups=choice.factor, groups_choice=choice)
    path = tmp_path / "tuned.onnx"
    result = to_onnx.export(network, path, labels, opset=opset, size_hw=(16, 24))
    said = {e.key: e.value for e in onnx.load(result.path).metadata_props}
    assert json.loads(said["groups_choice"])["merged"] == said["merged_groups"]
    assert choice.in_words() in to_onnx.report(result, labels, "curve")


def test_an_engine_of_plans_gets_a_plan_of_the_size(tmp_path: Path) -> None:
    """Up to the GPU, where there is none: what is built is what would be opened."""
    pytest.importorskip("tensorrt_rtx")
    if engines.status("tensorrt-rtx").available:
        pytest.skip("there is a GPU here")
    form = tmp_path / "1.onnx"
    form.write_bytes(models.find("gidrn_x2").read_bytes())
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx"):
        group_forms.open_form(form, "tensorrt-rtx", (24, 36))
    facts = plans.read_facts(tmp_path / "1.plan")
    sizes = {tuple(facts["key"]["profile"][size]) for size in ("least", "best", "most")}
    assert sizes == {(1, 24, 36)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--merge-groups", "auto"], "auto and --tune-for ENGINE .*ort-cpu.* go together"),
        (["--tune-for", "ort-cpu"], "go together"),
        (["--merge-groups", "auto", "--tune-for", "cpu"], "no engine 'cpu'; did you mean"),
        (
            ["--model", "imdn", "--random-init", "--merge-groups", "auto", "--tune-for", "ort-cpu"],
            "no grouped convolutions",
        ),
    ],
)
def test_what_cannot_be_tuned(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    out = tmp_path / "none.onnx"
    monkeypatch.setattr(sys, "argv", ["to_onnx.py", *arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as caught:
        command_line.run(to_onnx.main)
    assert caught.value.code == 2
    assert re.search(said, capsys.readouterr().err)
    assert not out.exists()
