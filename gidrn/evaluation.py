"""A network on whole photos: uint8 in, uint8 out, and the score against the truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gidrn.metrics import luma, psnr
from gidrn.photos import Photo


def to_tensor(image: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """RGB (H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1).unsqueeze(0).float().div_(255)


def to_image(tensor: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) float -> RGB (H, W, 3) uint8, clamped and rounded half to even."""
    levels = tensor[0].float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


@torch.inference_mode()
def upscale(
    network: nn.Module, low: NDArray[np.uint8], *, device: str = "cpu"
) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 -> (s*H, s*W, 3) uint8 through a network in eval mode on `device`."""
    return to_image(network(to_tensor(low, device)))


def mean_psnr(
    network: nn.Module, photos: Iterable[Photo], *, scale: int, device: str = "cpu"
) -> float:
    """Mean over photos of PSNR on Y in dB, `scale` pixels cut from each side.

    NaN where an output is not finite, which rounding to levels would hide.
    """
    scores = []
    for photo in photos:
        with torch.inference_mode():
            high = network(to_tensor(photo.low, device))
        is_finite = bool(torch.isfinite(high).all())
        made = luma(to_image(high))
        scores.append(psnr(made, luma(photo.high), border=scale) if is_finite else float("nan"))
    return float(np.mean(scores))
