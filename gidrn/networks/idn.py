"""IDN: information distillation blocks on the luma, at the low resolution.

Hui et al., "Fast and accurate single image super-resolution via information distillation network",
CVPR 2018. The authors' transposed convolution leaves out the first s - 1 rows and columns, which
their scores cut off; here it gives them too, by the same weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork

SLOPE = 0.05
"""Of every leaky ReLU."""


@dataclass(frozen=True)
class IDNConfig:
    """The sizes of the published network."""

    channels: int = 64
    """D, the width of a block's input and output; a multiple of 16."""
    blocks: int = 4
    """How many distillation blocks there are."""

    def __post_init__(self) -> None:
        if self.channels < 16 or self.channels % 16:
            raise ValueError(f"channels is a multiple of 16, not {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"blocks is at least 1, not {self.blocks}")

    @property
    def distilled(self) -> int:
        """d, how many channels skip a block's second half: a quarter."""
        return self.channels // 4


def enhancement(*widths: int) -> nn.Sequential:
    """Three 3x3 convolutions between four widths, the second in four groups (Fig. 2)."""
    layers: list[nn.Module] = []
    for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
        layers += [
            nn.Conv2d(narrow, wide, kernel_size=3, padding=1, groups=4 if i == 1 else 1),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
    return nn.Sequential(*layers)


class DistillationBlock(nn.Module):
    """Enhancement and compression (Sec. 3.2): (N, C, H, W) -> the same."""

    def __init__(self, config: IDNConfig) -> None:
        super().__init__()
        wide, self.distilled = config.channels, config.distilled
        narrow, half, broad = wide - self.distilled, wide // 2, wide + self.distilled
        self.upper = enhancement(wide, narrow, half, wide)
        self.lower = enhancement(narrow, wide, narrow, broad)
        self.compress = nn.Sequential(
            nn.Conv2d(broad, wide, kernel_size=1), nn.LeakyReLU(SLOPE, inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        upper = self.upper(x)
        kept, further = upper[:, : self.distilled], upper[:, self.distilled :]
        enhanced = torch.cat([x, kept], dim=1) + self.lower(further)  # (N, C + d, H, W)
        compressed: Tensor = self.compress(enhanced)
        return compressed


class IDN(LumaNetwork):
    """The whole network (Sec. 3.1): a residual for the enlarged luma."""

    def __init__(self, scale: int, config: IDNConfig) -> None:
        super().__init__(scale)
        channels = config.channels
        self.scale = scale
        self.shallow = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.blocks = nn.Sequential(*(DistillationBlock(config) for _ in range(config.blocks)))
        # Of 17 taps the ninth is an input pixel's last row and column of its s x s pixels.
        self.reconstruct = nn.ConvTranspose2d(
            channels, 1, kernel_size=17, stride=scale, padding=8 - (scale - 1)
        )

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        height, width = enlarged.shape[2:]
        residual = self.reconstruct(self.blocks(self.shallow(low)))
        luma: Tensor = enlarged + residual[:, :, :height, :width]
        return luma
