"""Grouped convolutions with fewer, wider groups: the same function, in another kernel's reach.

k neighbouring groups become one whose weight is block-diagonal (`gidrn.merged_groups` has the
formula); with k = all groups the convolution is an ordinary one. It does k times the multiply-adds,
and some libraries are slow enough at narrow groups for that to be faster: on a GPU in FP16 grouped
convolutions are often slower than dense ones (PyTorch issue 43544, TensorRT issues 572 and 2144).
"""

from __future__ import annotations

import torch
from torch import nn

from export.rewrites import RefusedError
from gidrn.merged_groups import MergedGroups


@torch.no_grad()
def widened(conv: nn.Conv2d, factor: int) -> nn.Conv2d:
    """The convolution with `factor` neighbouring groups as one, zeros written out."""
    wide = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups // factor,
        conv.bias is not None,
    )
    wide.weight.copy_(MergedGroups(conv, factor).wide_weight())
    if conv.bias is not None and wide.bias is not None:
        wide.bias.copy_(conv.bias)
    return wide.train(conv.training)


def apply(network: nn.Module, factor: int | None) -> int:
    """Merge `factor` groups of every grouped convolution, None all of them; returns how many.

    Raises RefusedError where a layer's groups do not divide by `factor`, or there are none.
    """
    grouped = {
        path: part
        for path, part in network.named_modules()
        if isinstance(part, nn.Conv2d) and part.groups > 1
    }
    if not grouped:
        raise RefusedError("this network has no grouped convolutions to merge")
    for path, conv in grouped.items():
        if factor is not None and (factor < 1 or conv.groups % factor):
            raise RefusedError(
                f"{path} has {conv.groups} groups, which do not merge {factor} at a time"
            )
    for path, conv in grouped.items():
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, widened(conv, factor or conv.groups))
    return len(grouped)
