"""Pixels beyond an image's borders, for images of any size, in operations that can be exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def pad_to(x: Tensor, least: int = 1, multiple: int = 1) -> Tensor:
    """Repeat the last row and column until both sides have `least` pixels and divide by `multiple`.

    (N, C, H, W) -> (N, C, H', W') with the smallest such H' >= H and W' >= W.
    """
    for axis in (2, 3):
        length = x.shape[axis]
        # Nothing negative: ONNX's division cuts off where Python's rounds down.
        wanted = (_larger(length, least) + multiple - 1) // multiple * multiple
        x = x.index_select(axis, torch.arange(wanted, device=x.device).clamp(max=length - 1))
    return x


def _larger(length: Any, least: int) -> Any:
    """The larger of both, without a choice that tracing would freeze."""
    if isinstance(length, torch.SymInt):
        return torch.sym_max(length, least)  # type: ignore[no-untyped-call]
    return (length + least + abs(length - least)) // 2


def mirror(x: Tensor, pixels: int) -> Tensor:
    """Add `pixels` rows and columns on each side, mirrored with the edge repeated, as MATLAB does.

    (N, C, H, W) -> (N, C, H + 2 * pixels, W + 2 * pixels). Where an image is smaller than `pixels`,
    what would be mirrored twice is the nearest edge.
    """
    for axis in (2, 3):
        length = x.shape[axis]
        position = torch.arange(length + 2 * pixels, device=x.device) - pixels
        inside = torch.where(position < 0, -1 - position, position)
        inside = torch.where(inside >= length, 2 * length - 1 - inside, inside)
        x = x.index_select(axis, inside.clamp(min=0).clamp(max=length - 1))
    return x
