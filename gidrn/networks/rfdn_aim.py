"""RFDN as it won AIM 2020: four blocks and enhanced spatial attention (ESA).

Liu et al., "Residual feature distillation network for lightweight image super-resolution", ECCV
Workshops 2020; the layers are those of the authors' code. The paper's tables mean another RFDN,
with channel attention: `gidrn.networks.rfdn`.

ESA pools in windows that need 15 pixels: smaller images are padded to that by repeating their last
row and column, and the output is cut to size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gidrn.networks.padding import pad_to
from gidrn.networks.rfdn import RFDB, ConcatFusion, GlobalSkip
from gidrn.networks.upsampler import Upsampler

LEAST_SIDE = 15
"""What both sides of the input are padded to."""


@dataclass(frozen=True)
class RFDNAIMConfig:
    """The sizes of the published network."""

    channels: int = 50
    """Width of every feature map; an even number of at least 4."""
    blocks: int = 4
    """How many RFDBs there are."""

    def __post_init__(self) -> None:
        if self.channels < 4 or self.channels % 2:
            raise ValueError(f"channels is an even number of at least 4, not {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"blocks is at least 1, not {self.blocks}")


class ESA(nn.Module):
    """Enhanced spatial attention: (N, C, H, W), H and W at least 15 -> the same, weighted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 4

        def conv3(stride: int = 1, padding: int = 1) -> nn.Conv2d:
            return nn.Conv2d(narrow, narrow, kernel_size=3, stride=stride, padding=padding)

        self.enter = nn.Conv2d(channels, narrow, kernel_size=1)
        self.skip = nn.Conv2d(narrow, narrow, kernel_size=1)
        self.shrink = conv3(stride=2, padding=0)
        self.pool = nn.MaxPool2d(kernel_size=7, stride=3)
        self.body = nn.Sequential(
            conv3(),
            nn.ReLU(inplace=True),
            conv3(),
            nn.ReLU(inplace=True),
            conv3(),
        )
        self.leave = nn.Conv2d(narrow, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        entered = self.enter(x)  # (N, C, H, W) -> (N, C/4, H, W)
        coarse = self.body(self.pool(self.shrink(entered)))  # -> (N, C/4, about H/6, W/6)
        coarse = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        weights = torch.sigmoid(self.leave(coarse + self.skip(entered)))  # -> (N, C, H, W)
        return x * weights


class RFDNAIM(nn.Module):
    """The whole network: (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. Inside, RGB is 0 to 255.
    """

    def __init__(self, scale: int, config: RFDNAIMConfig) -> None:
        super().__init__()
        channels = config.channels
        self.scale = scale
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        blocks: list[nn.Module] = [RFDB(channels, ESA(channels)) for _ in range(config.blocks)]
        self.deep = GlobalSkip(ConcatFusion(blocks, channels), channels)
        self.fine = Upsampler(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        features = self.deep(self.shallow(pad_to(x, LEAST_SIDE) * 255))
        pixels: Tensor = self.fine(features) / 255  # -> (N, 3, s*H', s*W')
        return pixels[:, :, : self.scale * height, : self.scale * width]
