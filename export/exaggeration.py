"""A network whose non-local attention cannot be overlooked.

In trained weights the attention moves a pixel by a small part of a level, so a proof on those
weights alone would let a wrong pooling pass. The export is therefore proved a second time on the
same network with made-up ANRB weights, scaled on a photo so that the attention's output sways
pixels by tens of levels.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gidrn.networks.anrb import ANRB, pyramid_pool

SWAY_LEVELS = 25.0
"""How far one standard deviation of the pooled values moves a pixel, about."""


def has_attention(network: nn.Module) -> bool:
    """Whether there is anything to exaggerate."""
    return any(isinstance(part, ANRB) for part in network.modules())


@torch.no_grad()
def exaggerate(network: nn.Module, photo: Tensor, *, seed: int = 0) -> nn.Module:
    """A copy of `network` with ANRB weights that matter on `photo`, (1, 3, H, W) in [0, 1].

    Queries, pooled keys and pooled values get a standard deviation of 1 over the photo.
    """
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for block in [part for part in network.modules() if isinstance(part, ANRB)]:
        seen: list[Tensor] = []
        handle = block.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0])
        )
        before = network(photo)
        handle.remove()
        for part, pooled in (
            (block.query, False),
            (block.key, True),
            (block.value, True),
        ):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
            assert part.bias is not None
            part.bias.zero_()
            out = part(seen[0])
            part.bias.copy_(-out.mean(dim=(0, 2, 3)))
            points = pyramid_pool(out, block.pool_sizes) if pooled else out
            factor = 1 / points.std().clamp_min(1e-6)
            part.weight.mul_(factor)
            part.bias.mul_(factor)
        block.expand.weight.copy_(torch.randn(block.expand.weight.shape, generator=generator))
        moved = (network(photo) - before).std().clamp_min(1e-9)
        block.expand.weight.mul_(SWAY_LEVELS / 255 / moved)
    return network
