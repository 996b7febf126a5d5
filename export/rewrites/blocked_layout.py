"""LSRB's activation in a form that keeps ONNX Runtime in its blocked layout of feature maps.

On a CPU with AVX2 ONNX Runtime computes convolutions on blocks of eight channels. An operation that
it has no blocked form for is surrounded by two passes that reorder the map. LeakyReLU has one only
directly behind a convolution, as part of it; behind the residual's sum it has none. With a
convolution of one tap a channel that multiplies by one between them,

    leaky(grouped(d) + x) = leaky(1 * (grouped(d) + x)),

the same numbers to the bit, the sum becomes part of the grouped convolution, the activation part of
the other, and nothing is reordered. For that ONNX Runtime must know that both terms of the sum are
of one size, which it does not work out where sizes are free: `keep_shapes` leaves in the file what
it needs. Other engines gain nothing, and on CPUs whose blocks are of another width neither does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from torch import nn

from export.rewrites import RefusedError
from gidrn.networks.gidrn import LSRB

BLOCK = 8
"""Channels of a block: a vector of AVX2 in FP32."""


def times_one(channels: int) -> nn.Conv2d:
    """A convolution whose output is its input."""
    conv = nn.Conv2d(channels, channels, kernel_size=1, groups=channels, bias=False)
    nn.init.ones_(conv.weight)
    return conv


def apply(network: nn.Module) -> int:
    """Rewrite every LSRB of `network` in place; returns how many there were.

    Raises RefusedError where there is none, one whose channels do not divide into blocks, or one
    that is rewritten already.
    """
    blocks = [part for part in network.modules() if isinstance(part, LSRB)]
    if not blocks:
        raise RefusedError("this network has no LSRB: the blocked layout's form is for G-IDRN")
    for block in blocks:
        channels = block.grouped.out_channels
        if channels % BLOCK:
            raise RefusedError(f"the blocked layout wants channels by {BLOCK}, not {channels}")
        if isinstance(block.activation, nn.Sequential):
            raise RefusedError("this network is in the blocked layout's form already")
    for block in blocks:
        behind = nn.Sequential(times_one(block.grouped.out_channels), block.activation)
        setattr(block, "activation", behind)  # noqa: B010, declared as LeakyReLU
    return len(blocks)


def keep_shapes(model: onnx.ModelProto, axes: Sequence[str]) -> int:
    """Leave in a file the shapes of its feature maps, and of nothing else; returns how many.

    `axes` are the names of the free ones: of batch, height and width. Where none is free ONNX
    Runtime works every shape out, and nothing is left.
    """
    batch, height, width = axes
    kept = []
    for value in model.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        names = [dim.dim_param for dim in dims]
        if names == [batch, "", height, width] and dims[1].dim_value:
            kept.append(value)
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return len(kept)
