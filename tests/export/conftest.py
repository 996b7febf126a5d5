"""The fault that the export's proof is there to catch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from export.rewrites.pyramid_pooling import PyramidPooling


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
