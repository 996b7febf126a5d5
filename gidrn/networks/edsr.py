"""EDSR: enhanced deep residual network, the 43 million parameter form of the paper's Table 6.

Lim et al., "Enhanced deep residual networks for single image super-resolution", CVPR Workshops
2017. The layers are those of the authors' code, by other names.

Departure:
- RGB in [0, 1] in and out; the 0 to 255 scale of the authors' code stays inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gidrn.networks.mean_shift import MeanShift
from gidrn.networks.upsampler import FeatureUpsampler


@dataclass(frozen=True)
class EDSRConfig:
    """The sizes of the published network."""

    channels: int = 256
    """Width of every feature map."""
    blocks: int = 32
    """How many residual blocks there are."""
    residual_scale: float = 0.1
    """What a block's output is multiplied by before its input is added (Sec. 3.3)."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.blocks < 1:
            raise ValueError(
                f"channels and blocks are at least 1, not {self.channels} and {self.blocks}"
            )


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled, plus input (Sec. 3.1, Fig. 2c)."""

    def __init__(self, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return residual * self.residual_scale + x


class EDSR(nn.Module):
    """The whole network (Sec. 3.2): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped.
    """

    def __init__(self, scale: int, config: EDSRConfig) -> None:
        super().__init__()
        channels = config.channels
        self.subtract_mean = MeanShift(-1)
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.deep = nn.Sequential(
            *(ResidualBlock(channels, config.residual_scale) for _ in range(config.blocks)),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.upsample = FeatureUpsampler(channels, scale)
        self.reconstruct = nn.Conv2d(channels, 3, kernel_size=3, padding=1)
        self.add_mean = MeanShift(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.subtract_mean(x * 255)
        features = self.shallow(x)  # (N, 3, H, W) -> (N, C, H, W)
        features = self.deep(features) + features
        features = self.upsample(features)  # -> (N, C, s*H, s*W)
        pixels: Tensor = self.add_mean(self.reconstruct(features))  # -> (N, 3, s*H, s*W)
        return pixels / 255
