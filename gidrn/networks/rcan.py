"""RCAN: residual channel attention network.

Zhang et al., "Image super-resolution using very deep residual channel attention networks", ECCV
2018. The layers are those of the authors' code, by other names.

Departure:
- RGB in [0, 1] in and out; the 0 to 255 scale of the authors' code stays inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gidrn.networks.attention import ChannelAttention
from gidrn.networks.mean_shift import MeanShift
from gidrn.networks.upsampler import FeatureUpsampler


@dataclass(frozen=True)
class RCANConfig:
    """The sizes of the published network."""

    channels: int = 64
    """Width of every feature map."""
    groups: int = 10
    """How many residual groups there are."""
    blocks: int = 20
    """How many channel attention blocks make a group."""
    attention_reduction: int = 16
    """Channel attention's reduction: C -> C / 16 -> C."""

    def __post_init__(self) -> None:
        if self.groups < 1 or self.blocks < 1:
            raise ValueError(
                f"groups and blocks are at least 1, not {self.groups} and {self.blocks}"
            )
        if not 0 < self.attention_reduction <= self.channels:
            raise ValueError(
                f"attention_reduction is between 1 and channels={self.channels}, "
                f"not {self.attention_reduction}"
            )


class RCAB(nn.Module):
    """Residual channel attention block (Sec. 3.4)."""

    def __init__(self, channels: int, attention_reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            ChannelAttention(channels, attention_reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return residual + x


class ResidualGroup(nn.Module):
    """Blocks in a row, a convolution, plus input (Sec. 3.2)."""

    def __init__(self, channels: int, blocks: int, attention_reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(RCAB(channels, attention_reduction) for _ in range(blocks)),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return residual + x


class RCAN(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. Channel attention looks at the whole image.
    """

    def __init__(self, scale: int, config: RCANConfig) -> None:
        super().__init__()
        channels = config.channels
        self.subtract_mean = MeanShift(-1)
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.deep = nn.Sequential(
            *(
                ResidualGroup(channels, config.blocks, config.attention_reduction)
                for _ in range(config.groups)
            ),
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
