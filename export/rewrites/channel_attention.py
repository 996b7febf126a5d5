"""Channel attention with its statistic in a module of its own, which can have its own precision.

A sum over a frame is what FP16 holds least: 1080p has two million pixels, FP16 ends at 65,504.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.rewrites import replace
from gidrn.networks.attention import ChannelAttention, ContrastAttention, contrast


class Contrast(nn.Module):
    """Standard deviation plus mean of each channel: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return contrast(x)


class Mean(nn.Module):
    """Mean of each channel: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class Weighed(nn.Module):
    """Each channel times what `weigh` makes of its statistic."""

    def __init__(self, statistic: nn.Module, weigh: nn.Module) -> None:
        super().__init__()
        self.statistic = statistic
        self.weigh = weigh

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weigh(self.statistic(x))  # (N, C, H, W) -> (N, C, 1, 1)
        return x * weights


def apply(network: nn.Module) -> int:
    """Rewrite every channel attention of `network` in place; returns how many there were."""
    return replace(
        network, ContrastAttention, lambda block: Weighed(Contrast(), block.weigh)
    ) + replace(network, ChannelAttention, lambda block: Weighed(Mean(), block.weigh))
