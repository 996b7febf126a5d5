"""PAN: pixel attention network.

Zhao et al., "Efficient image super-resolution using pixel attention", ECCV Workshops 2020. The
layers are those of the authors' code, by other names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
"""Of every leaky ReLU."""


@dataclass(frozen=True)
class PANConfig:
    """The sizes of the published network."""

    channels: int = 40
    """Width of every feature map at the input's size; an even number."""
    up_channels: int = 24
    """Width on the way up."""
    blocks: int = 16
    """How many SCPA blocks there are."""

    def __post_init__(self) -> None:
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels is an even number of at least 2, not {self.channels}")
        if self.up_channels < 1 or self.blocks < 1:
            raise ValueError(
                f"up_channels and blocks are at least 1, not {self.up_channels} and {self.blocks}"
            )


class PixelAttention(nn.Module):
    """Each value weighted by what its pixel says (Sec. 3.2): (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(x))


class SCPA(nn.Module):
    """Self-calibrated block (Sec. 3.3): two halves, one with pixel attention, plus input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(half, half, kernel_size=3, padding=1, bias=False)

        self.enter_plain = nn.Conv2d(channels, half, kernel_size=1, bias=False)
        self.enter_weighted = nn.Conv2d(channels, half, kernel_size=1, bias=False)
        self.plain = conv3()
        self.weigh = nn.Conv2d(half, half, kernel_size=1)
        self.weighted = conv3()
        self.leave_weighted = conv3()
        self.fuse = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        plain = self.plain(self.activation(self.enter_plain(x)))  # -> (N, C/2, H, W)
        half = self.activation(self.enter_weighted(x))
        weighted = self.leave_weighted(self.weighted(half) * torch.sigmoid(self.weigh(half)))
        both = torch.cat([self.activation(plain), self.activation(weighted)], dim=1)
        fused: Tensor = self.fuse(both)
        return fused + x


class PixelAttentionUpsampler(nn.Module):
    """One step up (Sec. 3.4): nearest neighbour, convolution, pixel attention, convolution.

    (N, in, H, W) -> (N, out, f*H, f*W).
    """

    def __init__(self, channels: int, up_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.enlarge = nn.Conv2d(channels, up_channels, kernel_size=3, padding=1)
        self.attention = PixelAttention(up_channels)
        self.refine = nn.Conv2d(up_channels, up_channels, kernel_size=3, padding=1)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enlarge(functional.interpolate(x, scale_factor=self.factor, mode="nearest"))
        x = self.activation(self.attention(x))
        refined: Tensor = self.activation(self.refine(x))
        return refined


class PAN(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. x4 goes up in two steps, x2 and x3 in one.
    """

    def __init__(self, scale: int, config: PANConfig) -> None:
        super().__init__()
        channels, narrow = config.channels, config.up_channels
        self.scale = scale
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.deep = nn.Sequential(
            *(SCPA(channels) for _ in range(config.blocks)),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        factors = (2, 2) if scale == 4 else (scale,)
        widths = (channels, *[narrow] * len(factors))
        self.upsample = nn.Sequential(
            *(
                PixelAttentionUpsampler(width, narrow, factor)
                for width, factor in zip(widths, factors, strict=False)
            )
        )
        self.reconstruct = nn.Conv2d(narrow, 3, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(x)  # (N, 3, H, W) -> (N, C, H, W)
        features = self.upsample(self.deep(shallow) + shallow)  # -> (N, U, s*H, s*W)
        pixels: Tensor = self.reconstruct(features)
        coarse = functional.interpolate(
            x, scale_factor=self.scale, mode="bilinear", align_corners=False
        )
        return pixels + coarse
