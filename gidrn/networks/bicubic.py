"""Bicubic enlargement as a network without parameters: MATLAB's imresize in floating point.

The same rules as `gidrn.resize`, unrounded, in operations that run on any device and export to
ONNX: the border is mirrored, one strided convolution makes all the samples of a period, and a pixel
shuffle puts them in their places. PyTorch's own bicubic interpolation is another (a = -0.75, or
other borders).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gidrn.networks.fixed_convolution import FixedConvolution
from gidrn.networks.padding import mirror
from gidrn.resize import cubic


@dataclass(frozen=True)
class BicubicConfig:
    """There is nothing to choose."""


def taps(up: int, down: int) -> tuple[Tensor, int]:
    """Weights of a resize by up/down, and how many pixels before a period's first one they begin.

    (up, taps): row p holds what the input gives to output p of each `up`, of which there are as
    many as the input has periods of `down` pixels.
    """
    stretch = max(1.0, down / up)
    centres = [(phase + 0.5) * down / up - 0.5 for phase in range(up)]
    before = -math.ceil(min(centres) - 2 * stretch)
    count = math.floor(max(centres) + 2 * stretch) + before + 1
    positions = np.arange(count, dtype=np.float64) - before
    rows = []
    for centre in centres:
        weights = cubic((centre - positions) / stretch)
        rows.append(weights / weights.sum())
    return torch.from_numpy(np.stack(rows)), before


class Resize(nn.Module):
    """(N, C, H, W) -> (N, C, H * up / down, W * up / down); H and W divide by `down`."""

    def __init__(self, channels: int, up: int, down: int = 1) -> None:
        super().__init__()
        weights, self.border = taps(up, down)
        kernel = torch.einsum("ai,bj->abij", weights, weights).reshape(
            up**2, 1, *[len(weights[0])] * 2
        )
        self.sample = FixedConvolution(
            kernel.repeat(channels, 1, 1, 1), stride=down, groups=channels
        )
        self.shuffle = nn.PixelShuffle(up)

    def forward(self, x: Tensor) -> Tensor:
        samples = self.sample(mirror(x, self.border))  # -> (N, C * up**2, H / down, W / down)
        resized: Tensor = self.shuffle(samples)
        return resized


class Bicubic(nn.Module):
    """(N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1]. Any H, W >= 1; may overshoot the range."""

    def __init__(self, scale: int, config: BicubicConfig) -> None:
        super().__init__()
        self.enlarge = Resize(3, scale)

    def forward(self, x: Tensor) -> Tensor:
        high: Tensor = self.enlarge(x)
        return high
