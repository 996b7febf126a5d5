"""Channel attention, as the paper's networks use it.

Sources: contrast-aware channel attention from IMDN (Hui et al., ACM MM 2019, Sec. 3.3);
channel attention from RCAN (Zhang et al., ECCV 2018, Sec. 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 1e-12
"""Least variance: sqrt has no gradient at 0, and a flat image's variance is 0."""


def contrast(x: Tensor) -> Tensor:
    """Standard deviation plus mean of each channel: (N, C, H, W) -> (N, C, 1, 1).

    The population form (divided by H*W), as IMDN has it.
    """
    mean = x.mean(dim=(2, 3), keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(dim=(2, 3), keepdim=True)
    return variance.clamp_min(VARIANCE_FLOOR).sqrt() + mean


def squeeze_and_excite(channels: int, reduction: int) -> nn.Sequential:
    """1x1 down, ReLU, 1x1 up, sigmoid: (N, C, 1, 1) -> weights (N, C, 1, 1) in (0, 1)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels // reduction, kernel_size=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels // reduction, channels, kernel_size=1),
        nn.Sigmoid(),
    )


class ContrastAttention(nn.Module):
    """CCA: each channel weighted by what its mean and contrast over the image say (Sec. 2.2)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.weigh = squeeze_and_excite(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weigh(contrast(x))  # (N, C, H, W) -> (N, C, 1, 1)
        return x * weights


class ChannelAttention(nn.Module):
    """RCAN's attention: each channel weighted by its mean over the image."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.weigh = squeeze_and_excite(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weigh(torch.mean(x, dim=(2, 3), keepdim=True))
        return x * weights
