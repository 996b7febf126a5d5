"""LatticeNet: lattice blocks with learnt combination coefficients.

Luo et al., "LatticeNet: towards lightweight image super-resolution with lattice block", ECCV 2020.
The layers are those of the authors' code, by other names.

Departures:
- RGB in [0, 1] in and out; the 0 to 255 scale of the authors' code stays inside.
- The standard deviation is divided by N - 1 as theirs, but by 1 for a single pixel, and a variance
  under 1e-12 counts as 1e-12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.attention import VARIANCE_FLOOR, squeeze_and_excite
from gidrn.networks.mean_shift import MeanShift
from gidrn.networks.upsampler import Upsampler


@dataclass(frozen=True)
class LatticeNetConfig:
    """The sizes of the published network."""

    channels: int = 64
    """Width of every feature map between blocks; an even number."""
    inner_channels: int = 48
    """Width inside a lattice block's convolutions."""
    blocks: int = 4
    """How many lattice blocks there are."""
    attention_reduction: int = 16
    """Reduction of the combination coefficients' two branches."""

    def __post_init__(self) -> None:
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels is an even number of at least 2, not {self.channels}")
        if self.inner_channels < 1 or self.blocks < 1:
            raise ValueError(
                "inner_channels and blocks are at least 1, not "
                f"{self.inner_channels} and {self.blocks}"
            )
        if not 0 < self.attention_reduction <= self.channels:
            raise ValueError(
                f"attention_reduction is between 1 and channels={self.channels}, "
                f"not {self.attention_reduction}"
            )


def deviation(x: Tensor) -> Tensor:
    """Standard deviation of each channel, divided by N - 1: (N, C, H, W) -> (N, C, 1, 1)."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    centred = x - mean
    pixels = x.shape[2] * x.shape[3]
    variance = (centred * centred).mean(dim=(2, 3), keepdim=True) * (pixels / max(pixels - 1, 1))
    return variance.clamp_min(VARIANCE_FLOOR).sqrt()


class Coefficient(nn.Module):
    """A combination coefficient (Sec. 3.3): one weight a channel, from its mean and deviation."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.of_mean = squeeze_and_excite(channels, reduction)
        self.of_deviation = squeeze_and_excite(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = (self.of_mean(mean) + self.of_deviation(deviation(x))) / 2
        return weights


class LatticeBlock(nn.Module):
    """Two butterflies of features and input, each way weighted (Sec. 3.2)."""

    def __init__(self, config: LatticeNetConfig) -> None:
        super().__init__()
        channels, inner = config.channels, config.inner_channels

        def convolutions() -> nn.Sequential:
            layers: list[nn.Module] = []
            for narrow, wide in ((channels, inner), (inner, inner), (inner, channels)):
                layers.append(nn.Conv2d(narrow, wide, kernel_size=3, padding=1))
                layers.append(nn.LeakyReLU(0.05, inplace=True))
            return nn.Sequential(*layers)

        def coefficient() -> Coefficient:
            return Coefficient(channels, config.attention_reduction)

        self.first, self.second = convolutions(), convolutions()
        self.of_features = nn.ModuleList(coefficient() for _ in range(2))
        self.of_input = nn.ModuleList(coefficient() for _ in range(2))
        self.fuse = nn.Conv2d(2 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        upper = x + self.of_features[0](features) * features
        lower = features + self.of_input[0](x) * x
        features = self.second(upper)
        upper = features + self.of_features[1](lower) * lower
        lower = lower + self.of_input[1](features) * features
        fused: Tensor = self.fuse(torch.cat([upper, lower], dim=1))  # (N, 2C, H, W) -> (N, C, H, W)
        return fused


class BackwardFusion(nn.Module):
    """From the last block back to the first, halves of both side by side (Sec. 3.4)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()

        def halve() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, channels // 2, kernel_size=1), nn.ReLU(inplace=True)
            )

        self.deeper = nn.ModuleList(halve() for _ in range(blocks - 1))
        self.own = nn.ModuleList(halve() for _ in range(blocks - 1))

    def forward(self, outputs: list[Tensor]) -> Tensor:
        fused = outputs[-1]
        for deeper, own, output in zip(self.deeper, self.own, outputs[-2::-1], strict=True):
            fused = torch.cat([deeper(fused), own(output)], dim=1)
        return fused


class LatticeNet(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. The coefficients look at the whole image.
    """

    def __init__(self, scale: int, config: LatticeNetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.subtract_mean = MeanShift(-1)
        self.shallow = nn.Sequential(
            nn.Conv2d(3, channels, kernel_size=3, padding=1),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.blocks = nn.ModuleList(LatticeBlock(config) for _ in range(config.blocks))
        self.fuse = BackwardFusion(channels, config.blocks)
        self.smooth = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.upsample = Upsampler(channels, scale)
        self.add_mean = MeanShift(1)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(self.subtract_mean(x * 255))  # (N, 3, H, W) -> (N, C, H, W)
        outputs = []
        features = shallow
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        features = self.fuse(outputs) + shallow
        pixels: Tensor = self.add_mean(self.upsample(self.smooth(features)))
        return pixels / 255
