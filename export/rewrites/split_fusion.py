"""A block's fusion convolution as a sum of one product for each of what it fuses.

fuse(cat(d_1, ..., d_4)) = b + W_1 d_1 + ... + W_4 d_4 with W = (W_1 | ... | W_4), W cut by columns:
the same products, added in another order. The concatenation is never made, and an engine that adds
into a convolution's output as it writes it (ONNX Runtime's blocked layout on CPUs) makes no pass
over the features for the sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.rewrites import replace
from gidrn.networks.gidrn import GIDB


class SplitFusion(nn.Module):
    """GIDB without its concatenation."""

    def __init__(self, block: GIDB) -> None:
        super().__init__()
        self.steps = block.steps
        self.grouped = block.grouped
        self.attention = block.attention
        channels = block.fuse.out_channels
        columns = torch.split(block.fuse.weight.detach(), channels, dim=1)
        self.fuse = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=1, bias=i == 0) for i in range(len(columns))
        )
        with torch.no_grad():
            for part, weight in zip(self.fuse, columns, strict=True):
                assert isinstance(part, nn.Conv2d)
                part.weight.copy_(weight)
                if part.bias is not None and block.fuse.bias is not None:
                    part.bias.copy_(block.fuse.bias)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in self.steps:
            distilled, x = step(x)
            kept.append(distilled)
        kept.append(self.grouped(x))
        fused = self.fuse[0](kept[0])  # (N, C, H, W) -> (N, C, H, W), as each that follows
        for part, one in zip(self.fuse[1:], kept[1:], strict=True):
            fused = part(one) + fused
        weighted: Tensor = self.attention(fused)
        return weighted


def apply(network: nn.Module) -> int:
    """Rewrite every G-IDB of `network` in place; returns how many there were."""
    return replace(network, GIDB, SplitFusion)
