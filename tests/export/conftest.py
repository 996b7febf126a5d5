"""A quicker exporter of PyTorch's, and the fault that the export's proof is there to catch."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from export.rewrites.pyramid_pooling import PyramidPooling


@pytest.fixture(scope="session", autouse=True)
def table_of_operators() -> Iterator[None]:
    """PyTorch reads its table of ONNX operators once, not for a second at each export."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read_once = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    except (ImportError, AttributeError):  # another version's: exports only take longer
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ONNXRegistry, "from_torchlib", read_once)
        yield


def fixed_window(self: PyramidPooling, length: int) -> Tensor:
    """What exporters put in adaptive pooling's place: equal windows of floor(length / size)."""
    pixel = torch.arange(length)
    step = torch.clamp(length // self.size, min=1)
    share = ((pixel >= self.window * step) & (pixel < (self.window + 1) * step)).float()
    return share / share.sum(dim=1, keepdim=True).clamp(min=1)


@pytest.fixture
def fixed_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plants that fault in the export's pooling."""
    monkeypatch.setattr(PyramidPooling, "windows", fixed_window)
