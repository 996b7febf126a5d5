"""DRCN: one convolution used sixteen times, each time reconstructed, all of it averaged.

Kim et al., "Deeply-recursive convolutional network for image super-resolution", CVPR 2016.

The 1774 K of the paper's Table 4 are the kernels; DRCN's own paper has biases too, which would make
it 1775 K (1,025 of them). Here there are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork


@dataclass(frozen=True)
class DRCNConfig:
    """The sizes of the published network."""

    channels: int = 256
    """Width of every feature map."""
    recursions: int = 16
    """How often the inference layer is applied."""
    bias: bool = False
    """Whether convolutions have biases."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.recursions < 1:
            raise ValueError(
                f"channels and recursions are at least 1, not {self.channels} and {self.recursions}"
            )


class DRCN(LumaNetwork):
    """The advanced model (Sec. 3.2): recursive supervision, a skip to each reconstruction.

    On top of the convolutions there is a weight for each recursion's prediction.
    """

    def __init__(self, scale: int, config: DRCNConfig) -> None:
        super().__init__(scale)
        channels = config.channels

        def conv3(narrow: int, wide: int) -> nn.Conv2d:
            return nn.Conv2d(narrow, wide, kernel_size=3, padding=1, bias=config.bias)

        self.embed = nn.Sequential(
            conv3(1, channels), nn.ReLU(inplace=True), conv3(channels, channels), nn.ReLU()
        )
        self.infer = nn.Sequential(conv3(channels, channels), nn.ReLU())
        self.reconstruct = nn.Sequential(
            conv3(channels, channels), nn.ReLU(inplace=True), conv3(channels, 1)
        )
        self.shares = nn.Parameter(torch.full((config.recursions,), 1 / config.recursions))

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        features = self.embed(enlarged)  # (N, 1, s*H, s*W) -> (N, C, s*H, s*W)
        luma = torch.zeros_like(enlarged)
        for share in self.shares:
            features = self.infer(features)
            luma = luma + share * (self.reconstruct(features) + enlarged)
        return luma
