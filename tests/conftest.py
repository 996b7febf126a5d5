"""What every test may use: the data roots, and skips that say why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: more threads are slower, far slower on a busy machine


def _root(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if value and Path(value).is_dir():
        return Path(value)
    reason = f"{variable} names no folder with {holds}"
    if os.environ.get("GIDRN_REQUIRE_DATA"):
        pytest.fail(f"{reason}, and GIDRN_REQUIRE_DATA is set")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of benchmark and training images (GIDRN_DATA); skips without it."""
    return _root("GIDRN_DATA", "Set5, Set14 and B100")


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """Folder of official checkpoints (GIDRN_WEIGHTS); skips without it."""
    return _root("GIDRN_WEIGHTS", "official checkpoints")
