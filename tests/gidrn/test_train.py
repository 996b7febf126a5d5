"""Training: that it learns, stops, resumes to the identical step, and refuses to go on broken."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gidrn import checkpoints, command_line, recipes, runs, train, world, zoo
from gidrn.crops import CropStore
from gidrn.losses import HighFrequencyLoss
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.photos import Photo
from gidrn.recipes import Recipe
from gidrn.resize import downscale

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "gidrn" / "samples"
RECIPE = Recipe(
    scale=2,
    steps=6,
    batch=2,
    patch=8,
    schedule="cosine",
    held_out=1,
    validate_every=3,
    log_every=2,
    save_every=2,
)


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """G-IDRN with 16 channels and one block, so that steps take milliseconds."""
    entry = zoo.NETWORKS["gidrn"]
    config = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1)
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", dataclasses.replace(entry, config=config))


def photos(count: int = 3) -> list[Photo]:
    """Smooth random pictures, 48 x 64."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = torch.from_numpy(rng.random((1, 3, 6, 8)))
        fine = nn.functional.interpolate(coarse, size=(48, 64), mode="bicubic")[0]
        high = (fine.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        made.append(Photo(f"{seed}", high, downscale(high, 2)))
    return made


def run_to_end(run: runs.Run, out: Path, **options: float) -> bool:
    out.mkdir(exist_ok=True)
    store = CropStore(photos(), 2, run.recipe.patch, "cpu")
    return train.train(run, store, photos(1), out, **options)  # type: ignore[arg-type]


def same(a: runs.Run, b: runs.Run) -> bool:
    pairs = [(a.network, b.network), (a.average, b.average)]
    equal = all(
        torch.equal(x, y)
        for left, right in pairs
        for x, y in zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    )
    return equal and torch.equal(a.generator.get_state(), b.generator.get_state())


def test_a_run_learns_and_leaves_its_files(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=60, log_every=20, learning_rate=3e-3)
    run = runs.begin(recipe, "cpu")
    assert run_to_end(run, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 3
    assert losses[-1] < 0.5 * losses[0]
    scores = [line["held_out_psnr_db"] for line in lines if "held_out_psnr_db" in line]
    assert run.best_psnr == max(scores) > scores[0]
    metadata = checkpoints.read_metadata(tmp_path / "best.safetensors")
    assert json.loads(metadata["recipe"])["steps"] == 60
    zoo.load("gidrn", 2, weights=tmp_path / "best.safetensors")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_a_resumed_run_takes_the_identical_steps(tmp_path: Path) -> None:
    whole = runs.begin(RECIPE, "cpu")
    run_to_end(whole, tmp_path / "whole")

    stopped = runs.begin(RECIPE, "cpu")

    class EnoughError(Exception):
        pass

    def forward(x: Tensor) -> Tensor:
        if stopped.step == 4:
            raise EnoughError
        return stopped.network(x)  # type: ignore[no-any-return]

    (tmp_path / "parts").mkdir()
    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    with pytest.raises(EnoughError):
        train.train(stopped, store, photos(1), tmp_path / "parts", forward=forward)
    resumed = runs.resume(tmp_path / "parts" / "last.pt", "cpu")
    assert resumed.step == 4
    assert resumed.recipe == RECIPE
    assert not same(resumed, whole)
    assert run_to_end(resumed, tmp_path / "parts")
    assert same(resumed, whole)
    assert resumed.best_psnr == whole.best_psnr


def test_a_resumed_run_logs_the_losses_of_the_steps_before(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, log_every=5, save_every=1)
    whole = runs.begin(recipe, "cpu")
    run_to_end(whole, tmp_path / "whole")
    part = runs.begin(recipe, "cpu")

    def forward(x: Tensor) -> Tensor:
        if part.step == 3:
            raise KeyboardInterrupt
        return part.network(x)  # type: ignore[no-any-return]

    (tmp_path / "parts").mkdir()
    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    with pytest.raises(KeyboardInterrupt):
        train.train(part, store, photos(1), tmp_path / "parts", forward=forward)
    run_to_end(runs.resume(tmp_path / "parts" / "last.pt", "cpu"), tmp_path / "parts")
    logs = [
        [json.loads(line).get("loss") for line in (tmp_path / name / "log.jsonl").open()]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert logs[0][1] is not None


def test_a_run_killed_before_its_first_step_can_be_resumed(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")

    def forward(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    with pytest.raises(KeyboardInterrupt):
        train.train(run, store, photos(1), tmp_path, forward=forward)
    resumed = runs.resume(tmp_path / "last.pt", "cpu")
    assert resumed.step == 0
    assert run_to_end(resumed, tmp_path)
    whole = runs.begin(RECIPE, "cpu")
    run_to_end(whole, tmp_path / "whole")
    assert same(resumed, whole)


def test_two_processes_do_not_train_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ["--recipe", "smoke", "--data", str(SAMPLES), "--device", "cpu", "--steps", "1"]
    begin += ["--out", str(tmp_path / "run")]
    with train.alone_in(tmp_path / "run"):
        assert command(*begin, monkeypatch=monkeypatch) == 2
        assert "another process trains in" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert command(*begin, monkeypatch=monkeypatch) == 0


def test_a_run_that_ended_while_another_waited_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    alone_in = train.alone_in

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        with alone_in(folder):
            (out / "last.pt").write_bytes(b"of another process")
            yield

    monkeypatch.setattr(train, "alone_in", late)
    begin = ["--recipe", "smoke", "--data", str(SAMPLES), "--device", "cpu", "--out", str(out)]
    assert command(*begin, monkeypatch=monkeypatch) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (out / "last.pt").read_bytes() == b"of another process"


def test_a_checkpoint_from_before_some_fields_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    runs.save(runs.begin(RECIPE, "cpu"), path)
    saved = torch.load(path, weights_only=True)
    for later in ("partners", "compiled", "processes", "losses", "loss_count"):
        del saved[later]
    torch.save(saved, path)
    run = runs.resume(path, "cpu")
    assert (run.compiled, run.processes, run.loss_count) == (False, 1, 0)
    runs.keep_photos(run, photos(1), photos(3)[2:])


def test_what_a_run_left_is_not_written_over(tmp_path: Path) -> None:
    assert train.run_folder(tmp_path, None) == (tmp_path, None)
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds a run's log\.jsonl"):
        train.run_folder(tmp_path, None)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(ValueError, match=r"holds a run's best\.safetensors"):
        train.run_folder(tmp_path, None)
    older = tmp_path / "step_500.pt"
    older.touch()
    assert train.run_folder(None, older) == (tmp_path, older)
    (tmp_path / "last.pt").touch()
    with pytest.raises(ValueError, match=r"last\.pt stands beside step_500\.pt"):
        train.run_folder(None, older)
    with pytest.raises(ValueError, match="holds a run: --resume"):
        train.run_folder(tmp_path, None)


def test_a_time_limit_stops_and_does_not_bend_the_schedule(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")
    assert not run_to_end(run, tmp_path, time_limit=0.0)
    resumed = runs.resume(tmp_path / "last.pt", "cpu")
    assert resumed.step == run.step < RECIPE.steps
    assert resumed.recipe.steps == RECIPE.steps


def test_a_stop_signal_saves_between_two_steps(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")

    def forward(x: Tensor) -> Tensor:
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return run.network(x)  # type: ignore[no-any-return]

    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    assert not train.train(run, store, photos(1), tmp_path, forward=forward)
    assert runs.resume(tmp_path / "last.pt", "cpu").step == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")

    def forward(x: Tensor) -> Tensor:
        return run.network(x) * (float("nan") if run.step == 4 else 1.0)  # type: ignore[no-any-return]

    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    with pytest.raises(runs.DivergedError, match="near step 6"):
        train.train(run, store, photos(1), tmp_path, forward=forward)
    kept = runs.resume(tmp_path / "last.pt", "cpu")
    assert kept.step == 4
    assert all(bool(torch.isfinite(p).all()) for p in kept.network.parameters())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")
    runs.save(run, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        next(iter(run.network.parameters())).fill_(float("inf"))
    with pytest.raises(runs.DivergedError):
        runs.save(run, tmp_path / "last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before


def test_the_average_follows_fast_at_first_and_slowly_later() -> None:
    run = runs.begin(dataclasses.replace(RECIPE, ema_decay=0.99), "cpu")
    moved = next(iter(run.network.parameters()))
    averaged = next(iter(run.average.parameters()))
    for step, share in ((0, 0.9), (10, 9 / 20), (10_000, 0.01)):
        with torch.no_grad():
            moved.fill_(1.0)
            averaged.fill_(0.0)
        run.step = step
        runs.update_average(run)
        torch.testing.assert_close(averaged, torch.full_like(averaged, share))


def test_the_average_keeps_the_statistics_of_batches() -> None:
    """DRRN normalises by them: with those of fresh weights the average would be another network."""
    config = {"channels": 4, "units": 2}
    run = runs.begin(dataclasses.replace(RECIPE, network="drrn", config=config), "cpu")
    run.network.train()
    run.network(torch.rand(2, 3, 6, 6))
    runs.update_average(run)
    averaged, own = dict(run.average.named_buffers()), dict(run.network.named_buffers())
    assert any(name.endswith("running_var") for name in own)
    for name, buffer in own.items():
        assert torch.equal(averaged[name], buffer), name


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut short", b"no checkpoint at all", b"text that is none"]
)
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no whole PyTorch checkpoint") as caught:
        runs.resume(path, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda"}, "start a new run with --init-from"),
        ({"network": {}}, "does not fit this version"),
        ({"step": None}, None),
    ],
)
def test_a_checkpoint_that_cannot_go_on_here_says_why(
    tmp_path: Path, change: dict[str, object], message: str | None
) -> None:
    path = tmp_path / "last.pt"
    runs.save(runs.begin(RECIPE, "cpu"), path)
    saved = torch.load(path, weights_only=True)
    if message is None:
        del saved["step"]
        message = "does not fit this version"
    else:
        saved.update(change)
    torch.save(saved, path)
    with pytest.raises(ValueError, match=message):
        runs.resume(path, "cpu")


def test_a_full_disk_is_an_oserror_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.begin(RECIPE, "cpu")
    runs.save(run, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            runs.save(run, tmp_path / "last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_checkpoint_gives_its_averaged_weights(tmp_path: Path) -> None:
    run = runs.begin(RECIPE, "cpu")
    with torch.no_grad():
        for parameter in run.average.parameters():
            parameter.fill_(0.25)
    runs.save(run, tmp_path / "last.pt")
    network = zoo.load("gidrn", 2, weights=tmp_path / "last.pt")
    assert all(bool((p == 0.25).all()) for p in network.parameters())


def test_channels_last_resumes_to_the_identical_step(tmp_path: Path) -> None:
    whole = runs.begin(RECIPE, "cpu", channels_last=True)
    run_to_end(whole, tmp_path / "whole")
    part = runs.begin(RECIPE, "cpu", channels_last=True)
    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    loss_of = HighFrequencyLoss()
    for _ in range(3):
        train.take_step(part, part.network, loss_of, *store.draw(2, part.generator))
    runs.save(part, tmp_path / "last.pt")
    resumed = runs.resume(tmp_path / "last.pt", "cpu")
    assert resumed.channels_last
    run_to_end(resumed, tmp_path / "parts")
    assert same(resumed, whole)


@pytest.mark.parametrize(("wanted", "factor"), [("auto", 1), ("1", 1), ("2", 2), ("all", 2)])
def test_merged_groups_train_alike_and_are_kept(tmp_path: Path, wanted: str, factor: int) -> None:
    assert runs.choose_groups(wanted, RECIPE, "cpu") == factor
    plain = runs.begin(RECIPE, "cpu")
    merged = runs.begin(RECIPE, "cpu", merged_groups=factor)
    run_to_end(plain, tmp_path / "plain")
    run_to_end(merged, tmp_path / "merged")
    assert runs.resume(tmp_path / "merged" / "last.pt", "cpu").merged_groups == factor
    kept = checkpoints.read_weights(tmp_path / "merged" / "last.pt")
    for name, tensor in plain.average.state_dict().items():
        # Adam divides by the gradient's size, so a rounding of 1e-7 may become 1e-5 of a weight.
        torch.testing.assert_close(kept[name], tensor, rtol=1e-3, atol=1e-5)


def test_merged_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="auto, all or a number"):
        runs.choose_groups("some", RECIPE, "cpu")
    with pytest.raises(ValueError, match="do not merge 3 at a time"):
        runs.begin(RECIPE, "cpu", merged_groups=runs.choose_groups("3", RECIPE, "cpu"))


def test_a_step_in_bf16_learns_in_fp32_weights() -> None:
    run = runs.begin(dataclasses.replace(RECIPE, autocast="bf16"), "cpu")
    store = CropStore(photos(), 2, RECIPE.patch, "cpu")
    before = [p.detach().clone() for p in run.network.parameters()]
    loss = train.take_step(run, run.network, HighFrequencyLoss(), *store.draw(2, run.generator))
    assert loss.dtype == torch.float32
    after = list(run.network.parameters())
    assert all(p.dtype == torch.float32 for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_resumed_run_needs_the_same_photos() -> None:
    run = runs.begin(RECIPE, "cpu")
    first, second, third, fourth = photos(4)
    runs.keep_photos(run, [first, second], [third])
    runs.keep_photos(run, [second, first], [third])
    for training, apart, counts in (
        ([first, third], [second], "0 of 3 are missing or changed, and 0 are new"),
        ([first], [third], "1 of 3 are missing or changed, and 0 are new"),
        ([first, second, fourth], [third], "0 of 3 are missing or changed, and 1 are new"),
        ([first, fourth], [third], "1 of 3 are missing or changed, and 1 are new"),
    ):
        with pytest.raises(ValueError, match=counts):
            runs.keep_photos(run, training, apart)
    other = dataclasses.replace(second, low=255 - second.low)
    with pytest.raises(ValueError, match="low-resolution partners are others"):
        runs.keep_photos(run, [first, other], [third])


def train_as_a_command(lines: Connection, errors: Path, arguments: list[str]) -> None:
    """`python -m gidrn.train`, in a process of its own that has imported it already."""
    os.dup2(lines.fileno(), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *arguments]
    command_line.run(train.main)


def test_a_run_killed_at_any_instant_goes_on_to_the_identical_weights(tmp_path: Path) -> None:
    """SIGKILL at moments spread over start, steps and checkpoint writing, again and again."""
    steps = 30
    data = ["--data", str(SAMPLES), "--device", "cpu"]
    fresh = ["--recipe", "smoke", "--steps", str(steps)]
    errors = tmp_path / "errors"
    server = multiprocessing.get_context("forkserver")  # seconds of imports are paid once
    server.set_forkserver_preload(["gidrn.train", "torch._dynamo", __name__])

    def start(*more: str) -> tuple[ForkServerProcess, Connection]:
        here, there = server.Pipe(duplex=False)
        given = (there, errors, [*data, *more])
        process = server.Process(target=train_as_a_command, args=given, daemon=True)
        process.start()
        there.close()
        return process, here

    whole, lines = start(*fresh, "--out", str(tmp_path / "whole"))
    whole.join(300)
    lines.close()
    assert whole.exitcode == 0, errors.read_text()
    out = tmp_path / "killed"
    kills = 0
    while True:
        begun = (out / "last.pt").exists()
        how = ["--resume", str(out)] if begun else [*fresh, "--out", str(out)]
        process, lines = start(*how)
        # Killed a moment after its so-many-th line: each time at another point of its work.
        with open(os.dup(lines.fileno())) as told:
            for _ in told:
                kills_at = read_step(out)
                if kills < 5 and kills_at >= 5 * (kills + 1):
                    time.sleep(0.013 * kills)
                    process.kill()
                    kills += 1
                    break
        process.join()
        lines.close()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, errors.read_text()
    assert kills == 5
    logs = []
    for folder in ("whole", "killed"):
        logs.append([json.loads(li) for li in (tmp_path / folder / "log.jsonl").open()])
        assert [e["step"] for e in logs[-1] if "loss" in e] == list(range(1, steps + 1))
    assert [e.get("loss") for e in logs[0]] == [e.get("loss") for e in logs[1]]
    states = [torch.load(tmp_path / f / "last.pt") for f in ("whole", "killed")]
    for part in ("network", "average"):
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), name
    best = [
        checkpoints.read_weights(tmp_path / f / "best.safetensors") for f in ("whole", "killed")
    ]
    assert all(torch.equal(tensor, best[1][name]) for name, tensor in best[0].items())


def read_step(out: Path) -> int:
    """The last step that a run logged; 0 before it did."""
    log = out / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def test_a_kill_while_writing_a_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    """A process that dies halfway through the bytes of last.pt: the old file is whole."""
    run = runs.begin(RECIPE, "cpu")
    runs.save(run, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    child = f"""
import os, signal
from pathlib import Path
from gidrn import recipes, runs
run = runs.begin(recipes.find("smoke"), "cpu")
def half(path, data):
    with open(path, "wb") as file:
        file.write(bytes(data)[: len(data) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = half
runs.save(run, Path({str(tmp_path / "last.pt")!r}))
"""
    dead = subprocess.run([sys.executable, "-c", child], cwd=ROOT, capture_output=True, timeout=120)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert (tmp_path / "last.pt").read_bytes() == before
    assert runs.resume(tmp_path / "last.pt", "cpu").step == 0
    assert len(list(tmp_path.glob(".last-*.tmp"))) == 1
    train.train(
        run, CropStore(photos(), 2, RECIPE.patch, "cpu"), photos(1), tmp_path, time_limit=-1.0
    )
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_budget_sets_the_number_of_steps_and_leaves_the_run_at_its_start(tmp_path: Path) -> None:
    run, untouched = (runs.begin(RECIPE, "cpu") for _ in range(2))
    store = CropStore(photos(), 2, RECIPE.patch, "cpu")

    def steps(seconds: float) -> int:
        return train.steps_within(
            run, store, photos(1), lambda: seconds, forward=run.network, world=world.ALONE
        )

    few, many = steps(2.0), steps(200.0)
    assert 1 <= few < many
    with pytest.raises(ValueError, match="used up before the first step"):
        steps(1e-9)
    assert run_to_end(run, tmp_path / "measured")
    assert run_to_end(untouched, tmp_path / "untouched")
    assert same(run, untouched)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"no checkpoint of gidrn\.train"):
        runs.resume(tmp_path / "last.pt", "cpu")


def test_a_named_device_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert world.choose_device("auto") == "cpu"
    with pytest.raises(ValueError, match="no CUDA device"):
        world.choose_device("cuda")
    for wrong in ("tpu", "cuda:x", "cpu:0"):
        with pytest.raises(ValueError, match="auto, cpu, cuda or such as cuda:1"):
            world.choose_device(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert world.choose_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="there are 2 CUDA devices"):
        world.choose_device("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert world.own_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="under torchrun"):
        world.own_device("cuda:0")


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as left:
        command_line.run(train.main)
    assert isinstance(left.value.code, int)
    return left.value.code


def test_the_command_trains_refuses_to_overwrite_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    begin = ["--recipe", "smoke", "--data", str(SAMPLES), "--out", out, "--device", "cpu"]
    assert command(*begin, "--steps", "3", monkeypatch=monkeypatch) == 0
    assert "step 3 of 3" in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipes.from_dict(saved) == dataclasses.replace(recipes.find("smoke"), steps=3)
    assert command(*begin, monkeypatch=monkeypatch) == 2
    assert "holds a run" in capsys.readouterr().err
    resume = ["--resume", out, "--data", str(SAMPLES), "--device", "cpu"]
    assert command(*resume, "--steps", "9", monkeypatch=monkeypatch) == 2
    assert "leave out --recipe" in capsys.readouterr().err
    assert command(*resume, "--compile", monkeypatch=monkeypatch) == 2
    assert "--compile" in capsys.readouterr().err
    assert command(*resume, "--out", str(tmp_path), monkeypatch=monkeypatch) == 2
    assert "leave out --out" in capsys.readouterr().err
    assert command(*resume, monkeypatch=monkeypatch) == 0
    warm = ["--recipe", "smoke", "--data", str(SAMPLES), "--out", str(tmp_path / "warm")]
    weights = ["--init-from", str(tmp_path / "run" / "best.safetensors"), "--steps", "1"]
    assert command(*warm, *weights, monkeypatch=monkeypatch) == 0
    assert (
        command(
            *warm, "--out", str(tmp_path / "y"), "--init-from", "no.pth", monkeypatch=monkeypatch
        )
        == 2
    )


@pytest.mark.parametrize(
    ("machine", "has_bf16", "told"),
    [("x86_64", False, True), ("x86_64", True, False), ("aarch64", False, False)],
)
def test_bf16_that_the_cpu_does_not_have_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    machine: str,
    has_bf16: bool,
    told: bool,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    run = ["--recipe", "smoke", "--data", str(SAMPLES), "--device", "cpu", "--steps", "1"]
    for autocast, expected in (("bf16", told), ("none", False)):
        out = str(tmp_path / autocast)
        assert command(*run, "--out", out, "--autocast", autocast, monkeypatch=monkeypatch) == 0
        assert ("does better with --autocast none" in capsys.readouterr().out) == expected


LOOPBACK = "127.0.0.1"

ADD_UP = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
ones = torch.ones(1)
dist.all_reduce(ones)
assert ones.item() == 2
dist.destroy_process_group()
"""
"""The least that two processes must manage together, without any code of ours."""


def launch_two(*program: str) -> subprocess.CompletedProcess[str]:
    """Run a program twice under torchrun, over the loopback address alone.

    `torchrun --standalone` asks the resolver for the machine's own name, and not every machine's
    resolver knows it.
    """
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    where = [f"--master-addr={LOOPBACK}", f"--master-port={port}", f"--local-addr={LOOPBACK}"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
    }
    names = [name for _, name in socket.if_nameindex()]
    for loopback in ("lo", "lo0"):  # Linux's name and macOS's
        if loopback in names:
            environment["GLOO_SOCKET_IFNAME"] = loopback
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *where]
    return subprocess.run(
        [*launch, *program], env=environment, capture_output=True, text=True, timeout=300
    )


def test_two_processes_take_the_steps_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun over two CPU processes: the loss curve of one process with the same batch."""
    options = ["--recipe", "smoke", "--data", str(SAMPLES), "--device", "cpu"]
    shared = launch_two("-m", "gidrn.train", *options, "--out", str(tmp_path / "two"))
    if shared.returncode:
        (tmp_path / "add_up.py").write_text(ADD_UP)
        probe = launch_two(str(tmp_path / "add_up.py"))
        if probe.returncode:
            pytest.skip(f"two processes cannot add up over {LOOPBACK}: {probe.stderr[-2000:]}")
    assert shared.returncode == 0, shared.stderr[-4000:]
    monkeypatch.undo()  # the network of full size, as those two have
    assert command(*options, "--out", str(tmp_path / "one"), monkeypatch=monkeypatch) == 0
    curves = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        curves.append([entry["loss"] for entry in map(json.loads, lines) if "loss" in entry])
    assert len(curves[0]) == 6
    # 1e-4: the mean of two halves is rounded otherwise than the mean of the whole.
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
