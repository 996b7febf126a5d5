"""Weights trained for one factor as a start for another.

A network that ends in one convolution and a pixel shuffle (G-IDRN, IDRN, RFDN, IMDN) differs
between factors in those convolutions alone: all else, the body, carries over as it is. The last
convolutions' output channels are the s x s pixels that each input pixel becomes; those of the old
factor are resampled to the new one's, which is the same as resizing the output image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from gidrn import checkpoints
from gidrn.networks.upsampler import Upsampler


def start_from(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> list[str]:
    """Load `weights` of this network, be they of another factor, into `network`.

    Returns the names that were resampled: none where the factors are equal. Raises ValueError as
    `checkpoints.fill` does where the body does not fit, as with EDSR's and RCAN's, which differ
    between factors by more.
    """
    fitted, resampled = dict(weights), []
    for place, module in network.named_modules():
        if not isinstance(module, Upsampler):
            continue
        for part, wanted in module.conv.named_parameters():
            name = f"{place}.conv.{part}"
            given = weights.get(name)
            if given is None or given.shape == wanted.shape:
                continue
            side = math.isqrt(given.shape[0] // 3)
            if given.shape[1:] == wanted.shape[1:] and given.shape[0] == 3 * side**2:
                fitted[name] = resample(given, module.shuffle.upscale_factor)
                resampled.append(name)
    checkpoints.fill(network, fitted, source=source)
    return resampled


def resample(parameter: Tensor, scale: int) -> Tensor:
    """Weight or bias (3*s*s, ...) of an upsampler's convolution, for another factor `scale`.

    Bilinear with antialiasing over each colour's s x s pixels, as an image of that size is resized.
    """
    side = math.isqrt(parameter.shape[0] // 3)
    pixels = parameter.reshape(3, side, side, -1).permute(0, 3, 1, 2)  # (3, values, s, s)
    resized = functional.interpolate(
        pixels, size=(scale, scale), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.permute(0, 2, 3, 1).reshape(3 * scale**2, *parameter.shape[1:])
