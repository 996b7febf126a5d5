"""The golden frame that an exported file carries: see `gidrn_runtime.golden`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gidrn import evaluation
from gidrn.resize import downscale
from gidrn_runtime import Upscaler
from gidrn_runtime.golden import Golden

PATCH_HW = (24, 32)
BAR_ROWS = 6
COLORS = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
"""A bar of these stands over a piece of a photo: a photo alone may have no pure red or black."""


def patch(photo: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The middle of a photo, shrunk by `scale`, under a bar of colours; (24, 32, 3) RGB."""
    height, width = PATCH_HW
    low = downscale(photo, scale)
    top, left = (low.shape[0] - height) // 2, (low.shape[1] - width) // 2
    if min(top, left) < 0:
        raise ValueError(f"a golden frame needs a photo of {height * scale} pixels a side or more")
    made = low[top : top + height, left : left + width].copy()
    stripe = width // len(COLORS)
    for index, color in enumerate(COLORS):
        made[:BAR_ROWS, index * stripe : (index + 1) * stripe] = color
    return made


@torch.inference_mode()
def make(
    network: nn.Module,
    photo: NDArray[np.uint8],
    scale: int,
    size_hw: tuple[int, int] | None = None,
) -> Golden:
    """What `network`, in FP32, makes of a patch; of the patch repeated to `size_hw`, if given."""
    return _of(
        patch(photo, scale),
        size_hw or PATCH_HW,
        scale,
        lambda low: evaluation.upscale(network, low),
    )


def at_size(model: Path, golden: Golden, size_hw: tuple[int, int]) -> Golden:
    """The golden frame of a proved ONNX file at another size, as ONNX Runtime's CPU has it.

    Raises:
        FrameTooLargeError: not enough memory for a frame of this size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the runtime's, about random weights
        with Upscaler(model, engine="ort-cpu", color="rgb") as upscale:
            return _of(golden.patch, size_hw, upscale.scale, upscale)


def _of(
    made: NDArray[np.uint8],
    size_hw: tuple[int, int],
    scale: int,
    enlarge: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> Golden:
    """A patch, repeated to `size_hw`, and the corner of what `enlarge` makes of that."""
    low = Golden(made, size_hw, np.zeros((1, 1, 3), np.uint8)).low
    height, width = (side * scale for side in made.shape[:2])
    return Golden(made, size_hw, np.ascontiguousarray(enlarge(low)[:height, :width]))
