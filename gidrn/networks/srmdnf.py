"""SRMDNF: a network that is told the blur of its input, here that of the field's bicubic images.

Zhang et al., "Learning a single convolutional super-resolution network for multiple degradations",
CVPR 2018, the noise-free model. The blur kernel comes as fifteen numbers, its projection on
principal components, spread over the image as constant planes. For bicubic images, whose kernel is
a single 1, they are fifteen constants: the buffer `degradation`, which the authors' weight files do
not hold. It is P @ delta with their matrix P (15 x 225), which `gidrn.matlab` reads, and delta 1 at
the middle of 225; a fresh network has ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SRMDNFConfig:
    """The sizes of the published network."""

    channels: int = 128
    """Width of every feature map."""
    depth: int = 12
    """How many convolutions there are."""
    components: int = 15
    """How many numbers describe a blur."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.depth < 2 or self.components < 1:
            raise ValueError(
                "channels and components are at least 1 and depth at least 2, not "
                f"{self.channels}, {self.components} and {self.depth}"
            )


class SRMDNF(nn.Module):
    """The whole network (Sec. 3.3): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. There is no skip around the whole.
    """

    def __init__(self, scale: int, config: SRMDNFConfig) -> None:
        super().__init__()
        self.degradation: Tensor
        self.register_buffer("degradation", torch.ones(config.components))
        widths = (3 + config.components, *[config.channels] * (config.depth - 1))
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
            ]
        self.deep = nn.Sequential(*layers)
        self.reconstruct = nn.Conv2d(config.channels, 3 * scale**2, kernel_size=3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        planes = self.degradation.view(1, -1, 1, 1).to(x.dtype)
        planes = planes.expand(x.shape[0], -1, x.shape[2], x.shape[3])
        features = self.deep(torch.cat([x, planes], dim=1))  # (N, 3 + 15, H, W) -> (N, C, H, W)
        pixels: Tensor = self.shuffle(self.reconstruct(features))  # -> (N, 3, s*H, s*W)
        return pixels
