"""RGB around DIV2K's mean, as EDSR, RCAN, CARN and LatticeNet work inside."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean red, green and blue of DIV2K's training images, in [0, 1] (EDSR's code)."""


class MeanShift(nn.Module):
    """Subtract or add the mean colour of DIV2K, RGB in 0 to `maximum`: a frozen 1x1 convolution.

    A convolution, and not a buffer, because the published networks have it so and count its 12
    scalars among their parameters.
    """

    def __init__(self, sign: Literal[-1, 1], maximum: float = 255) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, kernel_size=1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.conv.bias = nn.Parameter(sign * maximum * torch.tensor(DIV2K_MEAN))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.conv(x)
        return shifted
