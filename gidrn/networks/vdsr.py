"""VDSR: twenty convolutions that learn what bicubic enlargement leaves out of the luma.

Kim et al., "Accurate image super-resolution using very deep convolutional networks", CVPR 2016.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork


@dataclass(frozen=True)
class VDSRConfig:
    """The sizes of the published network."""

    channels: int = 64
    """Width of every feature map."""
    depth: int = 20
    """How many convolutions there are."""
    bias: bool = True
    """Whether they have biases; the authors' do, a common re-implementation has none."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.depth < 2:
            raise ValueError(
                f"channels is at least 1 and depth at least 2, not {self.channels} and {self.depth}"
            )


class VDSR(LumaNetwork):
    """The whole network (Sec. 3.1): a residual on top of the enlarged luma."""

    def __init__(self, scale: int, config: VDSRConfig) -> None:
        super().__init__(scale)
        widths = (1, *[config.channels] * (config.depth - 1), 1)
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, kernel_size=3, padding=1, bias=config.bias),
                nn.ReLU(inplace=True),
            ]
        self.deep = nn.Sequential(*layers[:-1])

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        residual: Tensor = self.deep(enlarged)
        return enlarged + residual
