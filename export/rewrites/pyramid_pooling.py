"""Adaptive average pooling of a pyramid of sizes, as two matrix products.

Average pooling is linear, so with P_h (sum of sizes, H) and P_w (sum of sizes, W) holding one
averaging window a row, all cells of all sizes are entries of P_h @ X @ P_w^T; those that pair rows
and columns of one size are the pyramid.

Window i of n covers [floor(i*H/n), ceil((i+1)*H/n)), PyTorch's adaptive rule. Pixel x lies in it
exactly when i*H < (x+1)*n and x*n < (i+1)*H: integers and no division, so the graph builds both
matrices from the input's shape, exactly, for any H, W >= 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PyramidPooling(nn.Module):
    """(N, C, H, W) -> (N, C, S), equal to `gidrn.networks.anrb.pyramid_pool`."""

    def __init__(self, pool_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.pool_sizes = pool_sizes
        # Each row of the stacked windows with the entry of `pool_sizes` that it belongs to.
        rows = [(level, i, size) for level, size in enumerate(pool_sizes) for i in range(size)]
        self.window: Tensor
        self.size: Tensor
        self.cells: Tensor
        self.register_buffer("window", torch.tensor([[i] for _, i, _ in rows]), persistent=False)
        self.register_buffer("size", torch.tensor([[n] for *_, n in rows]), persistent=False)
        cells = [
            y * len(rows) + x
            for y, (row_level, *_) in enumerate(rows)
            for x, (column_level, *_) in enumerate(rows)
            if row_level == column_level
        ]
        self.register_buffer("cells", torch.tensor(cells), persistent=False)

    def windows(self, length: int) -> Tensor:
        """The averaging windows over an axis of `length` pixels: (sum of sizes, length)."""
        pixel = torch.arange(length, device=self.window.device)
        inside = (self.window * length < (pixel + 1) * self.size) & (
            pixel * self.size < (self.window + 1) * length
        )
        share = inside.float()
        return share / share.sum(dim=1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        pooled = self.windows(height) @ x @ self.windows(width).transpose(0, 1)  # (N, C, R, R)
        return pooled.flatten(2)[:, :, self.cells]
