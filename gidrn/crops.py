"""Random crops of photographs, gathered on the device that trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gidrn.photos import Photo


class CropStore:
    """Photos as two flat uint8 tensors on one device, from which crops are gathered there.

    All photos' pixels lie one after another, (pixels, 3); a crop is index arithmetic, so a batch
    takes a handful of tensor operations whatever its size.
    """

    def __init__(self, photos: Sequence[Photo], scale: int, patch: int, device: str) -> None:
        small = [p.name for p in photos if min(p.low.shape[:2]) < patch]
        if small or not photos:
            raise ValueError(f"crops of {patch} pixels need larger photos than {small or 'none'}")
        self.scale = scale
        self.patch = patch
        self.device = device
        sizes = torch.tensor([p.low.shape[:2] for p in photos])
        self.heights, self.widths = (sizes[:, k].to(device) for k in range(2))
        areas = sizes.prod(dim=1)
        self.starts = (areas.cumsum(0) - areas).to(device)
        self.cumulative_share = (areas.double().cumsum(0) / areas.sum()).to(device)
        self.low = _flat([p.low for p in photos], device)
        self.high = _flat([p.high for p in photos], device)

    def draw(
        self, batch: int, generator: torch.Generator, *, part: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """A batch of random crops: low (n, 3, P, P) and high (n, 3, s*P, s*P), RGB in [0, 1].

        A photo's chance is its area's share. Each crop is flipped and turned at random, the eight
        ways alike. All `batch` crops are drawn and those of `part` returned, so that processes
        with equal generators can share a batch between them.
        """
        chance = torch.rand(3, batch, generator=generator, device=self.device, dtype=torch.float64)
        ways = torch.randint(0, 8, (batch,), generator=generator, device=self.device)[part]
        chance = chance[:, part]
        photo = torch.searchsorted(self.cumulative_share, chance[0], right=True)
        photo = photo.clamp_max(self.starts.numel() - 1)
        top = (chance[1] * (self.heights[photo] - self.patch + 1)).long()
        left = (chance[2] * (self.widths[photo] - self.patch + 1)).long()
        low = self._gather(self.low, photo, top, left, ways, 1)
        high = self._gather(self.high, photo, top, left, ways, self.scale)
        return low, high

    def _gather(
        self, pixels: Tensor, photo: Tensor, top: Tensor, left: Tensor, ways: Tensor, factor: int
    ) -> Tensor:
        side = self.patch * factor
        along = torch.arange(side, device=self.device)
        y, x = along.view(1, side, 1), along.view(1, 1, side)
        flip_y, flip_x, turn = ((ways >> bit & 1).bool().view(-1, 1, 1) for bit in range(3))
        y = torch.where(flip_y, side - 1 - y, y)  # (n, P, 1)
        x = torch.where(flip_x, side - 1 - x, x)  # (n, 1, P)
        y, x = torch.where(turn, x, y), torch.where(turn, y, x)  # (n, P, P) each
        y = y + (top * factor).view(-1, 1, 1)
        x = x + (left * factor).view(-1, 1, 1)
        start = (self.starts * factor**2)[photo].view(-1, 1, 1)
        at = start + y * (self.widths * factor)[photo].view(-1, 1, 1) + x
        return pixels[at].permute(0, 3, 1, 2).contiguous().float().div_(255)


def _flat(images: Sequence[NDArray[np.uint8]], device: str) -> Tensor:
    """All pixels one after another, (pixels, 3), filled in image by image on the device."""
    count = sum(image.shape[0] * image.shape[1] for image in images)
    pixels = torch.empty(count, 3, dtype=torch.uint8, device=device)
    start = 0
    for image in images:
        rows = torch.from_numpy(image).view(-1, 3)
        pixels[start : start + len(rows)] = rows.to(device)
        start += len(rows)
    return pixels
