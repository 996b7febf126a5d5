"""The unit of DRRN and MemNet: normalisation, ReLU, convolution, in this order.

The convolution may serve many units; the normalisation is each unit's own. It has running
statistics alone: the authors' Caffe layers also scale and shift, which the counts of the paper's
Table 4 leave out.
"""

from __future__ import annotations

from torch import Tensor, nn


class PreActivation(nn.Module):
    """(N, C, H, W) -> (N, wide, H, W) by a convolution that is not this module's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, convolution: nn.Module) -> Tensor:
        output: Tensor = convolution(self.activation(self.normalise(x)))
        return output
