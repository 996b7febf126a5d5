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

CASES = Path(__file__).with_name("ray_cases.py")
ROOT = CASES.parents[3]


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
