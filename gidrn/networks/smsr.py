"""SMSR: learned masks say which channels and pixels need a convolution.

Wang et al., "Exploring sparsity in image super-resolution for efficient inference", CVPR 2021.

This is its dense inference form: every convolution runs everywhere and the masks, rounded to 0 and
1, multiply what it gives. The authors' code gathers the pixels that count instead, with the same
result (but one image at a time, and not in ONNX). Rounded masks have no gradient: what training
needs, their Gumbel softmax, is not here.

Sides that are odd, which the authors' code does not take, are padded to even ones by repeating the
last row or column, and the output is cut to size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gidrn.networks.attention import ChannelAttention
from gidrn.networks.mean_shift import MeanShift
from gidrn.networks.padding import pad_to
from gidrn.networks.upsampler import Upsampler

MULTIPLE = 2
"""What both sides of the input are padded to: the masks are found at half the size."""


@dataclass(frozen=True)
class SMSRConfig:
    """The sizes of the published network."""

    channels: int = 64
    """Width of every feature map; a multiple of 4."""
    modules: int = 5
    """How many sparse mask modules there are."""
    layers: int = 4
    """Convolutions of a module."""
    attention_reduction: int = 16
    """How many times narrower the channel attention is inside."""

    def __post_init__(self) -> None:
        if self.channels < 4 or self.channels % 4:
            raise ValueError(f"channels is a multiple of 4, not {self.channels}")
        if self.modules < 1 or self.layers < 1:
            raise ValueError(
                f"modules and layers are at least 1, not {self.modules} and {self.layers}"
            )
        if not 0 < self.attention_reduction <= self.channels:
            raise ValueError(
                f"attention_reduction is between 1 and channels={self.channels}, "
                f"not {self.attention_reduction}"
            )


class SpatialMask(nn.Module):
    """Where sparse channels are computed (Sec. 4.1): (N, C, H, W), H and W even -> (N, 1, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.body = nn.Sequential(
            nn.Conv2d(channels, narrow, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(narrow, narrow, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(narrow, 2, kernel_size=3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.body(x)
        mask: Tensor = logits[:, 1:] > logits[:, :1]
        return mask.to(x.dtype)


class SparseMaskModule(nn.Module):
    """Convolutions under masks, fused and weighted, plus the input (Sec. 4.1): (N, C, H, W).

    Each layer's channels are dense, computed everywhere, or sparse, computed where the spatial mask
    is 1. Of a dense input a dense output is whole; all else is masked.
    """

    def __init__(self, config: SMSRConfig) -> None:
        super().__init__()
        channels = config.channels
        self.spatial_mask = SpatialMask(channels)
        self.channel_logits = nn.Parameter(torch.rand(1, channels, config.layers, 2))
        """Dense and sparse, for every channel of every layer."""
        self.body = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
            for _ in range(config.layers)
        )
        self.fuse = nn.Conv2d(config.layers * channels, channels, kernel_size=1)
        self.attention = ChannelAttention(channels, config.attention_reduction)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.spatial_mask(x)
        hard = self.channel_logits.softmax(dim=3).round().to(x.dtype)  # (1, C, layers, 2)
        features, kept = x, []
        for i, conv in enumerate(self.body):
            dense, sparse = hard[:, :, i, :1, None], hard[:, :, i, 1:, None]  # (1, C, 1, 1)
            if i == 0:
                features = conv(features) * (dense + sparse * mask)
            else:
                were_dense, were_sparse = hard[:, :, i - 1, :1, None], hard[:, :, i - 1, 1:, None]
                of_dense = conv(features * were_dense) * (dense + sparse * mask)
                features = of_dense + conv(features * were_sparse) * (dense + sparse) * mask
            features = torch.relu(features)
            kept.append(features)
        fused = self.attention(self.fuse(torch.cat(kept, dim=1)))
        output: Tensor = fused + x
        return output


class SMSR(nn.Module):
    """The whole network (Sec. 4): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. Inside, RGB is 0 to 255 around DIV2K's mean.
    """

    def __init__(self, scale: int, config: SMSRConfig) -> None:
        super().__init__()
        channels = config.channels
        self.scale = scale
        self.subtract_mean = MeanShift(-1)
        self.shallow = nn.Sequential(
            nn.Conv2d(3, channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.blocks = nn.ModuleList(SparseMaskModule(config) for _ in range(config.modules))
        self.fuse = nn.Sequential(
            nn.Conv2d(config.modules * channels, channels, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.upsample = Upsampler(channels, scale)
        self.add_mean = MeanShift(1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        low = self.subtract_mean(pad_to(x, multiple=MULTIPLE) * 255)
        shallow = self.shallow(low)
        features, kept = shallow, []
        for block in self.blocks:
            features = block(features)
            kept.append(features)
        fused = self.fuse(torch.cat(kept, dim=1)) + shallow
        coarse = F.interpolate(low, scale_factor=self.scale, mode="bicubic", align_corners=False)
        pixels: Tensor = self.add_mean(self.upsample(fused) + coarse) / 255
        return pixels[:, :, : self.scale * height, : self.scale * width]
