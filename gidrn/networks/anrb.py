"""Asymmetric non-local residual block (ANRB), the paper's Section 2.3 and Figure 5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pyramid_pool(x: Tensor, pool_sizes: tuple[int, ...]) -> Tensor:
    """Average-pool a map to `size` x `size` cells for each size, and string the cells together.

    (N, C, H, W) -> (N, C, sum of size**2), each size's cells row by row. The cells are PyTorch's
    adaptive windows: cell i of n covers [floor(i*H/n), ceil((i+1)*H/n)), which overlap where n does
    not divide H and repeat where n exceeds it. An empty `pool_sizes` keeps every pixel.
    """
    if not pool_sizes:
        return x.flatten(2)
    return torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in pool_sizes], dim=2)


class ANRB(nn.Module):
    """Every pixel looks at a few pooled points of the whole image (Eq. 7 to 10).

    Query, key and value have one channel each. `pool_sizes` are the pyramid's sides: the paper's
    (1, 3, 6, 8) give its 110 points; (1, 2, 3, 6) and (1, 6, 8, 11) the 50 and 222 of Table 2, and
    () all H*W points, Table 2's "infinite", whose memory grows with the square of the image.
    """

    def __init__(self, channels: int, pool_sizes: tuple[int, ...] = (1, 3, 6, 8)) -> None:
        super().__init__()
        self.pool_sizes = pool_sizes
        self.query = nn.Conv2d(channels, 1, kernel_size=1)
        self.key = nn.Conv2d(channels, 1, kernel_size=1)
        self.value = nn.Conv2d(channels, 1, kernel_size=1)
        self.expand = nn.Conv2d(1, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        query = self.query(x).flatten(2).transpose(1, 2)  # (N, H*W, 1)
        key = pyramid_pool(self.key(x), self.pool_sizes)  # (N, 1, S)
        value = pyramid_pool(self.value(x), self.pool_sizes).transpose(1, 2)  # (N, S, 1)
        attended = torch.softmax(query @ key, dim=2) @ value  # (N, H*W, 1)
        attended = attended.transpose(1, 2).reshape(-1, 1, height, width)  # (N, 1, H, W)
        expanded: Tensor = self.expand(attended)
        return x + expanded
