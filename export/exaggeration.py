"""A network whose attention cannot be overlooked.

In trained weights the attention moves a pixel by a small part of a level, so a proof on those
weights alone would let a wrong pooling pass. The export is therefore proved a second time on the
same network with made-up ANRB weights, scaled so that the attention's output sways pixels by tens
of levels, on none of the proof's images by far more. Tiles are proved with made-up contrast
attentions (CCA), too, which answer to small differences of contrast. Trained features would grow
without bounds behind those, so that all other weights are fresh ones there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gidrn.networks.anrb import ANRB, pyramid_pool
from gidrn.networks.attention import ContrastAttention, contrast

SWAY_LEVELS = 25.0
"""How far the attention moves a pixel, root mean square, on the image where it moves most."""

QUERY_RMS = 4.0
"""Root mean square of the queries on the image where it is largest; that of the pooled keys is 1.
So the attention is far from flat there, and no image's is a mere choice of its largest key."""


def has_attention(network: nn.Module) -> bool:
    """Whether there is anything to exaggerate."""
    return any(isinstance(part, ANRB) for part in network.modules())


@torch.no_grad()
def exaggerate(network: nn.Module, images: Sequence[Tensor], *, seed: int = 0) -> nn.Module:
    """A copy of `network` with ANRB weights that matter on `images`, each (N, 3, H, W) in [0, 1].

    Queries, pooled keys and pooled values lie about 0 over all images, each image counting alike,
    with a root mean square of 1 (queries: `QUERY_RMS`) on the image where that is largest. Channels
    weigh alike, so that images are swayed alike. Raises ValueError where the images' features are
    all the same.
    """
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for block in [part for part in network.modules() if isinstance(part, ANRB)]:
        assert block.expand.bias is not None
        block.expand.weight.zero_()
        block.expand.bias.zero_()
        before, features = _run(network, block, images)
        mean = _mean([x.mean(dim=(0, 2, 3)) for x in features])
        spread = _mean(
            [(x - mean.view(1, -1, 1, 1)).square().mean(dim=(0, 2, 3)) for x in features]
        )
        share = spread.sqrt().clamp_min(1e-6)
        for part, pooled, rms in (
            (block.query, False, QUERY_RMS),
            (block.key, True, 1.0),
            (block.value, True, 1.0),
        ):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
            part.weight.div_(share.view(1, -1, 1, 1))
            assert part.bias is not None
            part.bias.copy_(-(part.weight[:, :, 0, 0] @ mean))
            outs = [part(x) for x in features]
            points = [pyramid_pool(out, block.pool_sizes) if pooled else out for out in outs]
            largest = max(float(one.square().mean().sqrt()) for one in points)
            if largest < 1e-6:
                raise ValueError("an attention cannot be scaled on images that are all the same")
            part.weight.mul_(rms / largest)
            part.bias.mul_(rms / largest)
        block.expand.weight.copy_(torch.randn(block.expand.weight.shape, generator=generator))
        after, _ = _run(network, block, images)
        moved = max(
            float((a - b).square().mean().sqrt()) for a, b in zip(after, before, strict=True)
        )
        block.expand.weight.mul_(SWAY_LEVELS / 255 / max(moved, 1e-9))
    return network


def fresh(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """A copy of `network` whose layers have PyTorch's initial weights."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in network.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return network


@torch.no_grad()
def exaggerate_contrast(network: nn.Module, images: Tensor, *, seed: int = 0) -> nn.Module:
    """A copy of `network` whose contrast attentions weigh each image's channels quite otherwise.

    `images` are (N, 3, H, W) in [0, 1], at least two that differ. The hidden layer tells them apart
    by how far each channel's contrast is from its mean over them, in standard deviations; the
    output layer makes logits about 0 of that with a root mean square of 1 or so: weights of 0.2 to
    0.8. Each attention is made while the images run through, behind those before it.
    """
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)

    def remake(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(block, ContrastAttention)
        contrasts = contrast(inputs[0]).flatten(1)  # (N, C)
        mean = contrasts.mean(dim=0)
        spread = (contrasts - mean).square().mean(dim=0).sqrt().clamp_min(1e-3)
        down, up = (part for part in block.weigh if isinstance(part, nn.Conv2d))
        for part in (down, up):
            weight = torch.randn(part.weight.shape, generator=generator)
            part.weight.copy_(weight / part.in_channels**0.5)
            assert part.bias is not None
            part.bias.zero_()
        down.weight.div_(spread.view(1, -1, 1, 1))
        assert down.bias is not None
        down.bias.copy_(-(down.weight[:, :, 0, 0] @ mean))
        up.weight.mul_(2)  # behind a ReLU

    blocks = [part for part in network.modules() if isinstance(part, ContrastAttention)]
    hooks = [block.register_forward_pre_hook(remake) for block in blocks]
    network(images)
    for hook in hooks:
        hook.remove()
    return network


def _run(
    network: nn.Module, block: nn.Module, images: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The network's output on each image, and what `block` gets to see."""
    seen: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        return [network(image) for image in images], seen
    finally:
        handle.remove()


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)
