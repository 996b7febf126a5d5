"""SRCNN: the first convolutional network of the field, on bicubically enlarged luma.

Dong et al., "Image super-resolution using deep convolutional networks", TPAMI 2016. Its layers see
the image's edge repeated, as the authors' code has it.

The paper's Table 4 joins the size of 9-1-5 (8 K, here) with the PSNR of 9-5-5 (57 K), which is
another configuration of this class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork


@dataclass(frozen=True)
class SRCNNConfig:
    """The sizes of the published networks."""

    widths: tuple[int, int] = (64, 32)
    """Channels after the first and the second layer."""
    kernels: tuple[int, int, int] = (9, 1, 5)
    """Sides of the three kernels; the authors' best network has 9, 5 and 5."""

    def __post_init__(self) -> None:
        if len(self.widths) != 2 or min(self.widths) < 1:
            raise ValueError(f"widths are two numbers of at least 1, not {self.widths}")
        if len(self.kernels) != 3 or any(side < 1 or side % 2 == 0 for side in self.kernels):
            raise ValueError(f"kernels are three odd numbers, not {self.kernels}")


class SRCNN(LumaNetwork):
    """The whole network (Sec. 3.1): patches, their mapping, reconstruction."""

    def __init__(self, scale: int, config: SRCNNConfig) -> None:
        super().__init__(scale)
        widths = (1, *config.widths, 1)
        self.extract, self.map, self.reconstruct = (
            nn.Conv2d(narrow, wide, side, padding=side // 2, padding_mode="replicate")
            for narrow, wide, side in zip(widths, widths[1:], config.kernels, strict=False)
        )

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        features = torch.relu(self.extract(enlarged))
        luma: Tensor = self.reconstruct(torch.relu(self.map(features)))
        return luma
