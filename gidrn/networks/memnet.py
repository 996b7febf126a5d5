"""MemNet: memory blocks of recursive units, and gates that decide what is kept.

Tai et al., "MemNet: A persistent memory network for image restoration", ICCV 2017: M = 6 memory
blocks of R = 6 recursions, whose weights a block's units share. For its normalisation see
`gidrn.networks.pre_activation`. What is here is the basic network (Sec. 3.1) with long-term
connections; the multi-supervised one adds predictions of every block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork
from gidrn.networks.pre_activation import PreActivation


@dataclass(frozen=True)
class MemNetConfig:
    """The sizes of the published network, MemNet_M6R6."""

    channels: int = 64
    """Width of every feature map."""
    blocks: int = 6
    """M, how many memory blocks there are."""
    recursions: int = 6
    """R, how often a block's residual unit is applied."""

    def __post_init__(self) -> None:
        if min(self.channels, self.blocks, self.recursions) < 1:
            raise ValueError(
                f"channels, blocks and recursions are at least 1, not {self.channels}, "
                f"{self.blocks} and {self.recursions}"
            )


class MemoryBlock(nn.Module):
    """A residual unit applied R times, and a gate over its outputs and all earlier memories.

    A list of `memories` + 1 maps (N, C, H, W), the last of them the block's input -> (N, C, H, W).
    """

    def __init__(self, config: MemNetConfig, memories: int) -> None:
        super().__init__()
        channels = config.channels
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.before_first = nn.ModuleList(PreActivation(channels) for _ in range(config.recursions))
        self.before_second = nn.ModuleList(
            PreActivation(channels) for _ in range(config.recursions)
        )
        joined = (config.recursions + memories + 1) * channels
        self.gate = nn.Conv2d(joined, channels, kernel_size=1)
        self.before_gate = PreActivation(joined)

    def forward(self, memories: list[Tensor]) -> Tensor:
        features = memories[-1]
        short = []
        for before_first, before_second in zip(self.before_first, self.before_second, strict=True):
            features = before_second(before_first(features, self.first), self.second) + features
            short.append(features)
        kept: Tensor = self.before_gate(torch.cat([*memories, *short], dim=1), self.gate)
        return kept


class MemNet(LumaNetwork):
    """The whole network (Sec. 3.1): features, memory blocks, a residual for the enlarged luma."""

    def __init__(self, scale: int, config: MemNetConfig) -> None:
        super().__init__(scale)
        channels = config.channels
        self.shallow = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.before_shallow = PreActivation(1)
        self.blocks = nn.ModuleList(MemoryBlock(config, i) for i in range(config.blocks))
        self.reconstruct = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
        self.before_reconstruct = PreActivation(channels)

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        memories = [self.before_shallow(enlarged, self.shallow)]
        for block in self.blocks:
            memories.append(block(memories))
        residual: Tensor = self.before_reconstruct(memories[-1], self.reconstruct)
        return enlarged + residual
