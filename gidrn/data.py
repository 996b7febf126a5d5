"""Training photographs, held decoded on the device, and random crops of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gidrn.images import read_rgb
from gidrn.resize import crop_to_multiple, downscale

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

HELD_OUT_SIDE = 256
"""A photo held out for validation has sides of at least this many pixels."""


@dataclass(frozen=True)
class Photo:
    """A high-resolution photo and its low-resolution partner."""

    name: str
    high: NDArray[np.uint8]
    """(s*H, s*W, 3) RGB."""
    low: NDArray[np.uint8]
    """(H, W, 3) RGB, by MATLAB's bicubic resize."""


def find_photos(folders: Sequence[Path]) -> list[Path]:
    """Every image file under `folders`, sorted. Raises for a missing folder or one without any."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no data folder {folder}")
        here = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        if not here:
            raise ValueError(f"no images under {folder}: wanted {', '.join(sorted(SUFFIXES))}")
        found += here
    return sorted(set(found))


def load_photos(
    paths: Sequence[Path], scale: int, *, least_side: int, strict: bool = False
) -> tuple[list[Photo], list[str]]:
    """Decode photos and make their low-resolution partners, in parallel, with a progress bar.

    A file that is no image, or whose sides are under `least_side` pixels, is left out and named in
    the second result; with `strict` it raises ValueError instead.
    """

    def one(path: Path) -> Photo | str:
        try:
            high = read_rgb(path)
        except (ValueError, OSError) as error:
            return str(error)
        if min(high.shape[:2]) < least_side:
            height, width = high.shape[:2]
            return f"{path} is {width}x{height}; a crop needs {least_side} pixels a side"
        high = np.ascontiguousarray(crop_to_multiple(high, scale))
        return Photo(path.name, high, downscale(high, scale))

    with ThreadPoolExecutor() as pool:
        results = list(tqdm(pool.map(one, paths), total=len(paths), desc="photos", unit=""))
    photos = [result for result in results if isinstance(result, Photo)]
    faults = [result for result in results if isinstance(result, str)]
    if faults and strict:
        raise ValueError(f"{len(faults)} of {len(paths)} files cannot be used: " + faults[0])
    return photos, faults


def digest(photo: Photo) -> str:
    """Hex digest of a photo's pixels."""
    return hashlib.sha256(photo.high.tobytes()).hexdigest()


def hold_out(photos: Sequence[Photo], count: int) -> tuple[list[Photo], list[Photo]]:
    """Split into photos to train on and `count` to validate on.

    The choice depends on the photos' pixels alone, not on names or order, so that runs on the same
    photos keep the same ones apart; of photos with equal pixels one is taken. Raises ValueError
    where nothing would be left to train on.
    """
    by_digest = {digest(photo): photo for photo in photos}
    photos = list(by_digest.values())
    fit = [p for _, p in sorted(by_digest.items()) if min(p.high.shape[:2]) >= HELD_OUT_SIDE]
    apart = fit[:count]
    if len(apart) < count or len(apart) == len(photos):
        raise ValueError(
            f"{count} photos of at least {HELD_OUT_SIDE} pixels a side are to be held out, and at "
            f"least one left to train on; there are {len(fit)} such photos among {len(photos)}"
        )
    chosen = {id(photo) for photo in apart}
    return [photo for photo in photos if id(photo) not in chosen], apart


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
        self.low = torch.cat([torch.from_numpy(p.low).view(-1, 3) for p in photos]).to(device)
        self.high = torch.cat([torch.from_numpy(p.high).view(-1, 3) for p in photos]).to(device)

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
