"""Networks of the luma alone, as the first ones of the field are: colour is enlarged bicubically.

Y, Cb and Cr are MATLAB's (ITU-R BT.601, studio range), divided by 255: Y of an image lies between
16 / 255 and 235 / 255, as the authors' networks were trained on it. Their published PSNR is that of
a pipeline without colour: the low-resolution Y is made of the true Y, not of a low-resolution RGB
image rounded to levels, so that a network scored here may differ from its row by hundredths of dB.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gidrn.networks.bicubic import Resize
from gidrn.networks.fixed_convolution import FixedConvolution

_TO_YCBCR = (
    (65.481, 128.553, 24.966),
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)
_ZERO = (16.0, 128.0, 128.0)


class LumaNetwork(nn.Module):
    """RGB in [0, 1], (N, 3, H, W) -> (N, 3, s*H, s*W); a subclass says what becomes of Y.

    Any H, W >= 1. The output is not clamped.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        matrix = torch.tensor(_TO_YCBCR, dtype=torch.float64) / 255
        zero = torch.tensor(_ZERO, dtype=torch.float64) / 255
        back = torch.linalg.inv(matrix)
        self.to_ycbcr = FixedConvolution(matrix.view(3, 3, 1, 1), zero)
        self.to_rgb = FixedConvolution(back.view(3, 3, 1, 1), -back @ zero)
        self.enlarge = Resize(3, scale)

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        """The high-resolution Y, of the low one (N, 1, H, W) and that enlarged bicubically."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        low = self.to_ycbcr(x)
        enlarged = self.enlarge(low)  # (N, 3, H, W) -> (N, 3, s*H, s*W)
        luma = self.enhance(low[:, :1], enlarged[:, :1])
        pixels: Tensor = self.to_rgb(torch.cat([luma, enlarged[:, 1:]], dim=1))
        return pixels
