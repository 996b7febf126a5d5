"""CARN and CARN-M: cascading residual networks.

Ahn et al., "Fast, accurate, and lightweight super-resolution with cascading residual network",
ECCV 2018. The layers are those of the authors' code, by other names.

The published parameter count is that of the authors' multi-scale network, which holds a way up for
each factor and uses one; so does this one unless `multi_scale` is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.mean_shift import MeanShift

MULTI_SCALES = (2, 3, 4)
"""The factors that a multi-scale network has ways up for."""


@dataclass(frozen=True)
class CARNConfig:
    """The sizes of the published networks."""

    channels: int = 64
    """Width of every feature map."""
    groups: int = 1
    """Groups of the 3x3 convolutions in blocks and on the way up; CARN-M has 4."""
    shared: bool = False
    """Whether the three residual blocks of a cascade share weights and end in a 1x1 convolution:
    CARN-M's efficient recursive block."""
    multi_scale: bool = True
    """Whether the ways up of the other factors are there too, as in the authors' weights."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.groups < 1 or self.channels % self.groups:
            raise ValueError(
                f"groups is at least 1 and divides channels={self.channels}, not {self.groups}"
            )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, for CARN-M grouped and with a 1x1 one behind, plus input, ReLU."""

    def __init__(self, channels: int, groups: int, efficient: bool) -> None:
        super().__init__()

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups)

        layers: list[nn.Module] = [conv3(), nn.ReLU(inplace=True), conv3()]
        if efficient:
            layers += [nn.ReLU(inplace=True), nn.Conv2d(channels, channels, kernel_size=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return torch.relu(residual + x)


class Cascade(nn.Module):
    """Stages, each fed with a 1x1 mixture of all before it (Sec. 3.2): (N, C, H, W) -> the same.

    One module in `stages` is used for every stage where there is one alone.
    """

    def __init__(self, stages: Sequence[nn.Module], channels: int, count: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d((i + 2) * channels, channels, kernel_size=1), nn.ReLU(inplace=True)
            )
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        for i, mix in enumerate(self.mix):
            kept.append(self.stages[i % len(self.stages)](x))
            x = mix(torch.cat(kept, dim=1))  # (N, (i + 2) * C, H, W) -> (N, C, H, W)
        return x


class WayUp(nn.Sequential):
    """Convolution, ReLU and pixel shuffle, for x4 twice: (N, C, H, W) -> (N, C, s*H, s*W)."""

    def __init__(self, channels: int, groups: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            layers += [
                nn.Conv2d(channels, factor**2 * channels, kernel_size=3, padding=1, groups=groups),
                nn.ReLU(inplace=True),
                nn.PixelShuffle(factor),
            ]
        super().__init__(*layers)


class CARN(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. There is no skip around the whole.
    """

    def __init__(self, scale: int, config: CARNConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.groups

        def local() -> Cascade:
            blocks = [
                ResidualBlock(channels, groups, config.shared)
                for _ in range(1 if config.shared else 3)
            ]
            return Cascade(blocks, channels)

        self.scale = scale
        self.subtract_mean = MeanShift(-1, maximum=1)
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.deep = Cascade([local() for _ in range(3)], channels)
        scales = MULTI_SCALES if config.multi_scale else (scale,)
        self.upsample = nn.ModuleDict({f"x{s}": WayUp(channels, groups, s) for s in scales})
        self.reconstruct = nn.Conv2d(channels, 3, kernel_size=3, padding=1)
        self.add_mean = MeanShift(1, maximum=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.shallow(self.subtract_mean(x))  # (N, 3, H, W) -> (N, C, H, W)
        features = self.upsample[f"x{self.scale}"](self.deep(features))  # -> (N, C, s*H, s*W)
        pixels: Tensor = self.add_mean(self.reconstruct(features))  # -> (N, 3, s*H, s*W)
        return pixels
