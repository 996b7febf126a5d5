"""DRRN: one residual unit used twenty-five times.

Tai et al., "Image super-resolution via deep recursive residual network", CVPR 2017: B = 1 recursive
block of U = 25 units. For its normalisation see `gidrn.networks.pre_activation`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork
from gidrn.networks.pre_activation import PreActivation


@dataclass(frozen=True)
class DRRNConfig:
    """The sizes of the published network, DRRN_B1U25."""

    channels: int = 128
    """Width of every feature map."""
    units: int = 25
    """How often the residual unit is applied."""
    bias: bool = True
    """Whether convolutions have biases; a common re-implementation has none."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.units < 1:
            raise ValueError(
                f"channels and units are at least 1, not {self.channels} and {self.units}"
            )


class DRRN(LumaNetwork):
    """The whole network (Sec. 3.2): each unit adds to the block's first features."""

    def __init__(self, scale: int, config: DRRNConfig) -> None:
        super().__init__(scale)
        channels = config.channels

        def conv3(narrow: int, wide: int) -> nn.Conv2d:
            return nn.Conv2d(narrow, wide, kernel_size=3, padding=1, bias=config.bias)

        self.shallow = conv3(1, channels)
        self.before_shallow = PreActivation(1)
        self.first, self.second = conv3(channels, channels), conv3(channels, channels)
        self.before_first = nn.ModuleList(PreActivation(channels) for _ in range(config.units))
        self.before_second = nn.ModuleList(PreActivation(channels) for _ in range(config.units))
        self.reconstruct = conv3(channels, 1)
        self.before_reconstruct = PreActivation(channels)

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        shallow = self.before_shallow(enlarged, self.shallow)
        features = shallow
        for before_first, before_second in zip(self.before_first, self.before_second, strict=True):
            features = before_second(before_first(features, self.first), self.second) + shallow
        residual: Tensor = self.before_reconstruct(features, self.reconstruct)
        return enlarged + residual
