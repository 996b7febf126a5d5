"""A network from camera frames to display frames: uint8, interleaved, converted in the graph."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Color = Literal["bgr", "rgb"]


class FramesNetwork(nn.Module):
    """uint8 (N, H, W, 3) -> uint8 (N, s*H, s*W, 3), both in `color` order.

    `network` maps RGB (N, 3, H, W) in [0, 1] to (N, 3, s*H, s*W). Values are divided by 255 before
    it; behind it they are clipped to [0, 1], multiplied by 255 and rounded, halves to even: what
    `gidrn_runtime.Upscaler` does outside of the graph. The casts stand at the very ends: TensorRT
    takes uint8 there and nowhere between.
    """

    def __init__(self, network: nn.Module, color: Color) -> None:
        super().__init__()
        self.network = network
        self.order: Tensor
        order = [2, 1, 0] if color == "bgr" else [0, 1, 2]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.reorders = color == "bgr"

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.to(torch.float32).permute(0, 3, 1, 2) / 255
        if self.reorders:
            x = x.index_select(1, self.order)
        high: Tensor = self.network(x)
        if self.reorders:
            high = high.index_select(1, self.order)
        levels = (high.clamp(0, 1) * 255).round()
        return levels.permute(0, 2, 3, 1).to(torch.uint8)
