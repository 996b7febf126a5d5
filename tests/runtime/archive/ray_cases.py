"""Actors of a real Ray cluster on this machine, one of them killed in the middle of its work.

Run by `test_ray_workers.py`, in a process of their own.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gidrn_runtime import EngineUnavailable
from gidrn_runtime.archive.ray_workers import RayPool


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's own files go to a folder with a short name, as its sockets want, and vanish."""
    pytest.importorskip("ray", reason='Ray is not installed; pip install "gidrn[ray]"')
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.mark.usefixtures("ray_folder")
def test_an_actor_that_is_killed_loses_nothing(
    tmp_path: Path, make_model: Any, run_folder: Any, output_files: Any, direct_pool: Any
) -> None:
    model = make_model(inner=4, name="slow.onnx")
    source = tmp_path / "in"
    source.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 90, 120, 3), np.uint8)
    for i, picture in enumerate(noise):
        cv2.imwrite(str(source / f"{i}.png"), picture)
    (source / "bad.png").write_bytes(b"no picture")
    run_folder(source, tmp_path / "whole", direct_pool(model))
    expected = output_files(tmp_path / "whole")
    assert len(expected) == 8

    pool = RayPool(model, "ort-cpu", 1, 2, "local")
    submit = pool.submit
    killed: list[int] = []

    def submit_and_kill(job: Any) -> None:
        """The fifth job's actor is killed while it is at it."""
        actor = pool._free[0]
        submit(job)
        if job.number == 5:
            killed.append(pool._known[actor].pid)
            os.kill(killed[0], signal.SIGKILL)

    close = pool.close

    def close_later() -> None:
        """Only once the actor that was killed is back, which takes Ray a moment."""
        deadline = time.monotonic() + 60
        while killed[0] in pool.pids() and time.monotonic() < deadline:
            pool.wait(1.0)
        pids.extend(pool.pids())
        close()

    pids: list[int] = []
    pool.submit, pool.close = submit_and_kill, close_later  # type: ignore[method-assign]
    outcomes = run_folder(source, tmp_path / "out", pool)
    assert len(killed) == 1
    assert Counter(outcome.state for outcome in outcomes) == {"done": 8, "again": 1, "failed": 1}
    assert output_files(tmp_path / "out") == expected
    assert len(pids) == 2
    assert killed[0] not in pids


@pytest.mark.usefixtures("ray_folder")
def test_a_cluster_that_is_not_there(tiny: Path) -> None:
    with pytest.raises(EngineUnavailable, match="there is no Ray cluster at 'auto'"):
        RayPool(tiny, "ort-cpu", 1, 2, "auto")
