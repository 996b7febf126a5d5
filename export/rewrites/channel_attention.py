"""Channel attention with its statistic in a module of its own, which can have its own precision.

A sum over a frame is what FP16 holds least: 1080p has two million pixels, FP16 ends at 65,504.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.rewrites import replace
from gidrn.networks.attention import ChannelAttention, ContrastAttention, contrast
from gidrn.networks.latticenet import Coefficient, deviation


class Contrast(nn.Module):
    """Standard deviation plus mean of each channel: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return contrast(x)


class Mean(nn.Module):
    """Mean of each channel: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class Deviation(nn.Module):
    """LatticeNet's standard deviation of each channel: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return deviation(x)


class TwoBranches(nn.Module):
    """LatticeNet's coefficient: the mean of what two branches make of two statistics."""

    def __init__(self, coefficient: Coefficient) -> None:
        super().__init__()
        self.mean, self.deviation = Mean(), Deviation()
        self.of_mean, self.of_deviation = coefficient.of_mean, coefficient.of_deviation

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = (self.of_mean(self.mean(x)) + self.of_deviation(self.deviation(x))) / 2
        return weights


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
    return (
        replace(network, ContrastAttention, lambda block: Weighed(Contrast(), block.weigh))
        + replace(network, ChannelAttention, lambda block: Weighed(Mean(), block.weigh))
        + replace(network, Coefficient, TwoBranches)
    )
