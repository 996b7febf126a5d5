"""IMDN: information multi-distillation network.

Hui et al., "Lightweight image super-resolution with information multi-distillation network",
ACM MM 2019. The layers are those of the authors' code, by other names.

Departure:
- Inside contrast attention a variance under 1e-12 counts as 1e-12 (sqrt has no gradient at 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.attention import ContrastAttention
from gidrn.networks.upsampler import Upsampler


@dataclass(frozen=True)
class IMDNConfig:
    """The sizes of the published network."""

    channels: int = 64
    """Width of every feature map between blocks."""
    blocks: int = 6
    """How many IMDBs there are."""
    distilled: int = 16
    """Channels that each step of a block keeps; the others go on to the next step."""
    attention_reduction: int = 16
    """CCA's reduction of the concatenated channels."""

    def __post_init__(self) -> None:
        if not 0 < self.distilled < self.channels:
            raise ValueError(
                f"distilled is above 0 and below channels={self.channels}, not {self.distilled}"
            )
        if self.blocks < 1:
            raise ValueError(f"blocks is at least 1, not {self.blocks}")
        if not 0 < self.attention_reduction <= 4 * self.distilled:
            raise ValueError(
                f"attention_reduction is between 1 and 4 * distilled={4 * self.distilled}, "
                f"not {self.attention_reduction}"
            )


class IMDB(nn.Module):
    """Information multi-distillation block: three splits, CCA, fusion, plus input (Sec. 3.2)."""

    def __init__(self, channels: int, distilled: int, attention_reduction: int) -> None:
        super().__init__()
        self.split = [distilled, channels - distilled]
        widths = (channels, channels - distilled, channels - distilled)
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, kernel_size=3, padding=1),
                nn.LeakyReLU(0.05, inplace=True),
            )
            for width in widths
        )
        self.last = nn.Conv2d(channels - distilled, distilled, kernel_size=3, padding=1)
        self.attention = ContrastAttention(4 * distilled, attention_reduction)
        self.fuse = nn.Conv2d(4 * distilled, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        rest = x
        for step in self.steps:
            distilled, rest = torch.split(step(rest), self.split, dim=1)  # -> (N, D), (N, C - D)
            kept.append(distilled)
        kept.append(self.last(rest))
        fused: Tensor = self.fuse(self.attention(torch.cat(kept, dim=1)))  # (N, 4D) -> (N, C)
        return fused + x


class IMDN(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. CCA looks at the whole image.
    """

    def __init__(self, scale: int, config: IMDNConfig) -> None:
        super().__init__()
        channels = config.channels
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            IMDB(channels, config.distilled, config.attention_reduction)
            for _ in range(config.blocks)
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(config.blocks * channels, channels, kernel_size=1),
            nn.LeakyReLU(0.05, inplace=True),
        )
        self.smooth = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.upsample = Upsampler(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(x)  # (N, 3, H, W) -> (N, C, H, W)
        outputs = []
        features = shallow
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        fused = self.fuse(torch.cat(outputs, dim=1))  # (N, B*C, H, W) -> (N, C, H, W)
        pixels: Tensor = self.upsample(self.smooth(fused) + shallow)  # -> (N, 3, s*H, s*W)
        return pixels
