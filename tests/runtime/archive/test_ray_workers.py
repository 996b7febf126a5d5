"""The cases of `ray_cases.py`, in a process of their own.

A process that joins a Ray cluster keeps Ray's threads and its way with child processes, which the
tests behind it, many of which start and kill processes, should not have to live with.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gidrn_runtime.archive.ray_workers import files_of

CASES = Path(__file__).with_name("ray_cases.py")
ROOT = CASES.parents[3]


def test_what_lies_beside_a_model_travels_with_it(tmp_path: Path) -> None:
    names = ("mine.onnx", "mine_tiles.onnx", "other.onnx", "mine.plan", "mine.plan.json")
    for name in names:
        (tmp_path / name).write_text(name)
    assert files_of(tmp_path / "other.onnx") == {"other.onnx": b"other.onnx"}
    assert list(files_of(tmp_path / "mine.onnx")) == ["mine.onnx", "mine_tiles.onnx"]
    assert list(files_of(tmp_path / "mine.plan")) == ["mine.plan", "mine.plan.json"]


def test_ray_workers() -> None:
    pytest.importorskip("ray", reason='Ray is not installed; pip install "gidrn[ray]"')
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            str(CASES),
        ],
        cwd=ROOT,
        env=own,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
