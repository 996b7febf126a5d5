"""From features at the input's size to pixels at the output's."""

from __future__ import annotations

from torch import Tensor, nn


class Upsampler(nn.Module):
    """Features to pixels: one convolution, then pixel shuffle (Sec. 2.1, Eq. 3)."""

    def __init__(self, channels: int, scale: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3 * scale**2, kernel_size, padding=kernel_size // 2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)  # (N, C, H, W) -> (N, 3*s*s, H, W)
        pixels: Tensor = self.shuffle(x)  # -> (N, 3, s*H, s*W)
        return pixels


class FeatureUpsampler(nn.Sequential):
    """Features to more features, C channels before and after: EDSR's and RCAN's way up.

    x2 and x3 are one convolution and one pixel shuffle, x4 is x2 twice:
    (N, C, H, W) -> (N, C, s*H, s*W).
    """

    def __init__(self, channels: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            layers.append(nn.Conv2d(channels, factor**2 * channels, kernel_size=3, padding=1))
            layers.append(nn.PixelShuffle(factor))
        super().__init__(*layers)
