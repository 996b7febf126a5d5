"""Worker processes of this machine, killed at random moments, with the one that leads them too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from gidrn_runtime import EngineError
from gidrn_runtime.archive.local_workers import LocalPool
from gidrn_runtime.archive.manifest import NAME

RUNTIME = Path(__file__).resolve().parents[3] / "runtime"


@pytest.fixture
def slow_model(make_model: Any) -> Path:
    """A model that takes some tenths of a second for a picture of `many`."""
    path: Path = make_model(inner=6, name="slow.onnx")
    return path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twelve pictures of noise."""
    source = tmp_path / "many"
    source.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (12, 90, 120, 3), np.uint8)
    for i, picture in enumerate(noise):
        cv2.imwrite(str(source / f"{i:02}.png"), picture)
    return source


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def none_runs(pids: list[int]) -> bool:
    return not any(map(is_running, pids))


def wait_until(true: Callable[[], Any], limit_s: float = 60) -> None:
    """Wait for something that comes soon; the limit is for a machine that is very busy."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines(out: Path) -> list[dict[str, Any]]:
    """The manifest's whole lines."""
    try:
        data = (out / NAME).read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def done_lines(out: Path) -> Counter[str]:
    return Counter(line["item"] for line in lines(out) if line.get("state") == "done")


def has_done(out: Path, pictures: int) -> bool:
    return done_lines(out).total() >= pictures


@contextmanager
def folder_command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """``python -m gidrn_runtime folder`` at work in a process of its own."""
    command = [sys.executable, "-m", "gidrn_runtime", "folder", *map(str, arguments)]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(RUNTIME)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    return [child.pid for child in psutil.Process(pid).children()]


def test_workers_and_leader_killed_at_random_lose_nothing_and_do_nothing_twice(
    many: Path, tmp_path: Path, slow_model: Path, output_files: Any
) -> None:
    options = ("--model", slow_model, "--threads", 1)
    with folder_command(many, tmp_path / "whole", *options) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("12 pictures: 12 done, 0 failed, 0 left, 0 were done before; ")
    expected = output_files(tmp_path / "whole")
    assert len(expected) == 12

    chance = random.Random(1)
    out_folder = tmp_path / "out"
    for _ in range(2):
        before = done_lines(out_folder).total()
        with folder_command(many, out_folder, *options, "--workers", 2) as process:
            wait_until(partial(has_done, out_folder, before + 1))
            os.kill(chance.choice(children(process.pid)), signal.SIGKILL)
            wait_until(partial(has_done, out_folder, before + 3))
            time.sleep(chance.random() * 0.2)  # into the next picture
            workers = children(process.pid)
            process.kill()
            wait_until(partial(none_runs, workers))  # orphans end
    assert done_lines(out_folder).total() >= 6

    with folder_command(many, out_folder, *options, "--workers", 2) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert output_files(out_folder) == expected
    assert done_lines(out_folder) == dict.fromkeys([f"{i:02}.png" for i in range(12)], 1)


def test_ctrl_c_stops_at_once_and_leaves_nothing_half_done(
    many: Path, tmp_path: Path, make_model: Any
) -> None:
    # Minutes of convolutions: were the interrupt delivered after them, the limit would pass.
    model = make_model(inner=3000, name="slower.onnx")
    out_folder = tmp_path / "out"
    options = ("--model", model, "--threads", 1, "--workers", 2)
    with folder_command(many, out_folder, *options) as process:
        wait_until(lambda: lines(out_folder) and len(children(process.pid)) == 2)
        workers = children(process.pid)
        # Ctrl-C goes to all processes of the terminal; the workers are in sessions of their own.
        assert all(os.getsid(pid) == pid for pid in workers)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "gidrn_runtime: interrupted\n"
    assert none_runs(workers)
    assert os.listdir(out_folder) == [NAME]


def test_an_idle_worker_that_is_killed_costs_no_picture_a_try(
    many: Path, tmp_path: Path, slow_model: Path, run_folder: Any
) -> None:
    pool = LocalPool(slow_model, "ort-cpu", 1, 1)
    start = pool.start

    def start_and_kill() -> Any:
        facts = start()
        [pid] = pool.pids()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until all its threads have ended
        return facts

    pool.start = start_and_kill  # type: ignore[method-assign]
    outcomes = run_folder(many, tmp_path / "out", pool)
    assert [outcome.state for outcome in outcomes] == ["done"] * 12


def test_a_model_that_does_not_open_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with LocalPool(tmp_path / "bad.onnx", "ort-cpu", 1, 2) as pool:
        with pytest.raises(ValueError, match="is not an ONNX file"):
            pool.start()


def test_workers_that_die_at_their_start_end_the_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = LocalPool(tiny, "ort-cpu", 1, 1)
    pool._command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pool, pytest.raises(EngineError, match=r"died 3 times while it opened the model.*SIGKILL"):
        pool.start()
