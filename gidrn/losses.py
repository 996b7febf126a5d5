"""Training losses of Section 2.4."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HighPass(nn.Module):
    """Gaussian high-pass filter, H_hp(I) = I - Gaussian(I): (N, C, H, W) -> the same shape.

    The paper names neither size nor sigma. The border repeats the edge pixels, so a flat image has
    no high frequencies anywhere.

    The Gaussian is separable and linear, so on training crops it is two matrix products, several
    times faster on a CPU than a convolution with so few channels.
    """

    def __init__(self, kernel_size: int = 5, sigma: float = 1.0) -> None:
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is an odd number of at least 3, not {kernel_size}")
        if not (sigma > 0 and math.isfinite(sigma)):
            raise ValueError(f"sigma is a positive number, not {sigma}")
        at = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
        taps = torch.exp(-at.square() / (2 * sigma**2))
        self.taps: Tensor
        self.register_buffer("taps", (taps / taps.sum()).float(), persistent=False)

    def blur(self, length: int) -> Tensor:
        """The Gaussian along an axis of `length` pixels as a matrix (length, length)."""
        reach = self.taps.numel() // 2
        to = torch.arange(length, device=self.taps.device).view(-1, 1)
        offset = torch.arange(-reach, reach + 1, device=self.taps.device)
        source = (to + offset).clamp(0, length - 1)  # beyond the border, the edge pixel
        matrix = self.taps.new_zeros(length, length)
        return matrix.scatter_add_(1, source, self.taps.expand(length, -1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.blur(x.shape[2]) @ x @ self.blur(x.shape[3]).transpose(0, 1)
        return x - low


class HighFrequencyLoss(nn.Module):
    """L = alpha * L1 + beta * L1 of the high frequencies (Eq. 11 and 12).

    The defaults are Table 3's best row. The last sentence of Section 3.3 swaps the two weights;
    the table is the experiment. `beta` = 0 is plain L1 when `alpha` = 1.
    """

    def __init__(
        self, alpha: float = 0.4, beta: float = 0.6, kernel_size: int = 5, sigma: float = 1.0
    ) -> None:
        super().__init__()
        if alpha < 0 or beta < 0 or alpha + beta == 0:
            raise ValueError(f"alpha and beta are >= 0 and not both 0, not {alpha} and {beta}")
        self.alpha = alpha
        self.beta = beta
        self.high_pass = HighPass(kernel_size, sigma)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Both (N, 3, H, W), of one size; returns a scalar."""
        if output.shape != target.shape:
            raise ValueError(
                f"output and target are of one shape, not {tuple(output.shape)} "
                f"and {tuple(target.shape)}"
            )
        loss = self.alpha * F.l1_loss(output, target)
        if self.beta:
            # The filter is linear: filtering the difference is filtering both.
            loss = loss + self.beta * self.high_pass(output - target).abs().mean()
        return loss
