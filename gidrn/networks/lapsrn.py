"""LapSRN: a Laplacian pyramid, each level twice as large and corrected by a predicted residual.

Lai et al., "Deep Laplacian pyramid networks for fast and accurate super-resolution", CVPR 2017.

The authors' network has ten convolutions a level and is larger than the paper's Table 4 says
(407 K and 814 K, not 251 K and 502 K). Five a level and 4x4 kernels on the way up, as LapSRN's
paper draws it, give Table 4's counts to the thousand; that is the configuration here, and the
authors' another, which their weight files choose by themselves.

x3 is x4, shrunk to 3/4 with the field's bicubic resize, as the authors do it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.bicubic import Resize
from gidrn.networks.luma import LumaNetwork

SLOPE = 0.2
"""Of every leaky ReLU."""


@dataclass(frozen=True)
class LapSRNConfig:
    """The sizes of Table 4's network."""

    channels: int = 64
    """Width of every feature map."""
    depth: int = 5
    """Convolutions of a level before its enlargement; the authors' files have 10."""
    up_kernel: int = 4
    """Side of the transposed convolution's kernel, 3 or 4; the authors' files have 3."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.depth < 1:
            raise ValueError(
                f"channels and depth are at least 1, not {self.channels} and {self.depth}"
            )
        if self.up_kernel not in (3, 4):
            raise ValueError(f"up_kernel is 3 or 4, not {self.up_kernel}")


class Level(nn.Module):
    """One step of the pyramid: features and image (N, C or 1, H, W) -> the same at (2H, 2W)."""

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        channels = config.channels
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers += [
                nn.Conv2d(channels, channels, kernel_size=3, padding=1),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.deep = nn.Sequential(*layers)
        self.enlarge = nn.ConvTranspose2d(
            channels, channels, config.up_kernel, stride=2, padding=config.up_kernel - 3
        )
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.residual = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
        self.enlarge_image = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        side = torch.tensor([0.25, 0.75, 0.75, 0.25])  # bilinear, where training begins
        with torch.no_grad():
            self.enlarge_image.weight.copy_(torch.outer(side, side).view(1, 1, 4, 4))

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[2:]
        enlarged = self.enlarge(self.deep(features))
        # A kernel of 3 makes one row and column more, below and on the right: the authors cut them.
        enlarged = self.activation(enlarged[:, :, : 2 * height, : 2 * width])
        return enlarged, self.enlarge_image(image) + self.residual(enlarged)


class LapSRN(LumaNetwork):
    """The whole network (Sec. 3.1): one level for x2, two for x4."""

    def __init__(self, scale: int, config: LapSRNConfig) -> None:
        super().__init__(scale)
        self.shallow = nn.Sequential(
            nn.Conv2d(1, config.channels, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.levels = nn.ModuleList(Level(config) for _ in range(1 if scale == 2 else 2))
        self.shrink = Resize(1, 3, 4) if scale == 3 else nn.Identity()

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        features, image = self.shallow(low), low
        for level in self.levels:
            features, image = level(features, image)
        luma: Tensor = self.shrink(image)
        return luma
