"""Convolutions whose weights are known beforehand: colours and interpolation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FixedConvolution(nn.Module):
    """A convolution without padding whose kernel is a formula: no parameter, never trained.

    Its weights are no part of a state dict, and the counts of the paper's tables leave it out.
    """

    def __init__(
        self, kernel: Tensor, offset: Tensor | None = None, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        self.groups = groups
        self.kernel: Tensor
        self.offset: Tensor | None
        self.register_buffer("kernel", kernel.float(), persistent=False)
        self.register_buffer("offset", None if offset is None else offset.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, self.offset, stride=self.stride, groups=self.groups)
