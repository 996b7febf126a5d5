"""Grouped convolutions computed with fewer, wider groups: the same function, for training.

A library that is slow at narrow groups may be faster at wider ones, zeros and all. k neighbouring
groups become one whose weight is block-diagonal: with k groups of I input and O output channels,

    wide[a * O + o, b * I + i] = weight[a * O + o, i] where a == b, else 0   (a, b = 0 .. k - 1)

With k = all groups it is an ordinary dense convolution under a block mask. A layer does k times the
multiply-adds, as many of them as before on weights that are not 0. The blocks off the diagonal are
constants: they have no gradient and no place in the optimizer or the state dict.
"""

from __future__ import annotations

import statistics
import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MergedGroups(nn.Module):
    """A grouped convolution, `factor` neighbouring groups as one: (N, C, H, W) -> (N, C', H', W').

    `weight` and `bias` are the convolution's own Parameters, under its names and in its shapes.
    Raises ValueError where the groups do not divide by `factor`, or where the padding is no zeros.
    """

    def __init__(self, conv: nn.Conv2d, factor: int) -> None:
        super().__init__()
        if factor < 1 or conv.groups % factor:
            raise ValueError(
                f"{conv.groups} groups do not merge {factor} at a time: "
                f"take a divisor of {conv.groups}"
            )
        if conv.padding_mode != "zeros":
            raise ValueError(f"padding_mode is zeros, not {conv.padding_mode}")
        self.weight = conv.weight
        self.bias = conv.bias  # a Parameter, or None
        self.groups = conv.groups // factor
        self.factor = factor
        self.stride = conv.stride
        self.padding = conv.padding
        self.dilation = conv.dilation
        self.diagonal: Tensor  # (k, 1, k, 1, 1, 1), True where a == b
        diagonal = torch.eye(factor, dtype=torch.bool, device=conv.weight.device)
        self.register_buffer(
            "diagonal", diagonal.view(factor, 1, factor, 1, 1, 1), persistent=False
        )
        self.train(conv.training)

    def wide_weight(self) -> Tensor:
        """The block-diagonal weight: (C', C / groups, kH, kW), groups as they are after merging."""
        outputs, inputs, height, width = self.weight.shape
        blocks = self.weight.view(self.groups, self.factor, -1, 1, inputs, height, width)
        wide = torch.where(self.diagonal, blocks, 0.0)  # (G, k, O, k, I, kH, kW)
        return wide.reshape(outputs, self.factor * inputs, height, width)

    def forward(self, x: Tensor) -> Tensor:
        wide, padding = self.wide_weight(), self.padding
        if isinstance(padding, str):
            return F.conv2d(x, wide, self.bias, self.stride, padding, self.dilation, self.groups)
        return F.conv2d(x, wide, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """What `print(network)` shows."""
        return f"{self.groups} groups, each of {self.factor} merged"


def has_groups(network: nn.Module) -> bool:
    """Whether there is a grouped convolution to merge."""
    return any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in network.modules())


def merge_groups(network: nn.Module, factor: int | Literal["all"]) -> int:
    """Put a `MergedGroups` in the place of every grouped nn.Conv2d inside; returns how many.

    In place; 1 leaves the network as it is. The Parameters stay the same objects, so an optimizer
    made before goes on with them, and the state dict fits the network with and without. Raises
    ValueError where `factor` does not divide a layer's groups, before anything is changed.
    """
    if factor != "all" and factor < 1:
        raise ValueError(f"factor is all, or a number of at least 1, not {factor}")
    if isinstance(network, nn.Conv2d):
        raise ValueError("what is given is a network with convolutions inside, not a convolution")
    if factor == 1:
        return 0
    merged = {
        part: MergedGroups(part, part.groups if factor == "all" else factor)
        for part in network.modules()
        if isinstance(part, nn.Conv2d) and part.groups > 1
    }
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child in merged:
                setattr(parent, name, merged[child])
    return len(merged)


WORTH_MERGING = 0.9
"""Merged groups are taken where a layer then needs at most this share of its time."""


def fastest_factor(network: nn.Module, *, batch: int, patch: int, autocast: bool) -> int:
    """How many groups to merge, for the network's first grouped convolution on its device.

    Times that layer's forward and backward pass on (batch, C, patch, patch) features, in bf16 where
    `autocast` is set, for each divisor of its groups, in turns. 1 for a network without groups, and
    where nothing is faster by a clear margin (WORTH_MERGING).
    """
    grouped = [
        part for part in network.modules() if isinstance(part, nn.Conv2d) and part.groups > 1
    ]
    if not grouped:
        return 1
    conv = grouped[0]
    device = conv.weight.device
    x = torch.randn(batch, conv.in_channels, patch, patch, device=device, requires_grad=True)
    factors = [factor for factor in range(1, conv.groups + 1) if conv.groups % factor == 0]
    layers = {factor: MergedGroups(conv, factor) if factor > 1 else conv for factor in factors}
    times: dict[int, list[float]] = {factor: [] for factor in factors}
    for turn in range(15):
        for factor, layer in layers.items():
            _wait_for(device)
            clock = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                output: Tensor = layer(x)
            torch.autograd.grad(output.float().sum(), [x, conv.weight])
            _wait_for(device)
            if turn >= 5:  # the first choose an algorithm and warm up
                times[factor].append(time.perf_counter() - clock)
    medians = {factor: statistics.median(samples) for factor, samples in times.items()}
    best = min(medians, key=medians.__getitem__)
    return best if medians[best] <= WORTH_MERGING * medians[1] else 1


def _wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
