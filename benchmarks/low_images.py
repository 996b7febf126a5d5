"""Low-resolution inputs for measuring speed: a benchmark set's, or stand-ins of its sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gidrn import benchmark_sets, images
from gidrn.resize import downscale

B100_SIZES_HW = {(321, 481): 77, (481, 321): 23}
"""Height and width of B100's photos, and how many have them."""


DISTINCT = 4
"""Pictures that large sizes are made of; the time of a network does not depend on what it sees."""


@dataclass(frozen=True)
class LowImages:
    """Inputs of a run: RGB frames (H, W, 3) uint8, or batches (N, H, W, 3), with their names."""

    label: str
    """What they are, for tables and records: "B100", or "B100 sizes, generated stand-ins"."""
    names: tuple[str, ...]
    frames: tuple[NDArray[np.uint8], ...]

    @property
    def sizes_hw(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each frame."""
        return tuple((frame.shape[-3], frame.shape[-2]) for frame in self.frames)

    def in_batches(self, batch: int) -> LowImages:
        """So many frames of one size together, (N, H, W, 3); a size's last batch may fill up with
        its first frames. A batch of 1 leaves them as they are."""
        if batch == 1:
            return self
        groups: dict[tuple[int, int], list[int]] = {}
        for i, size in enumerate(self.sizes_hw):
            groups.setdefault(size, []).append(i)
        chosen = [
            [group[(first + k) % len(group)] for k in range(batch)]
            for group in groups.values()
            for first in range(0, len(group), batch)
        ]
        return LowImages(
            self.label,
            tuple(f"{self.names[indices[0]]} and {batch - 1} more" for indices in chosen),
            tuple(np.stack([self.frames[i] for i in indices]) for indices in chosen),
        )

    def only(self, indices: Sequence[int]) -> LowImages:
        """The frames of these indices, in this order."""
        return LowImages(
            self.label,
            tuple(self.names[i] for i in indices),
            tuple(self.frames[i] for i in indices),
        )


def smooth_noise(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """A picture of random phases, about as smooth as B100's low-resolution images: RGB uint8."""
    height, width = size_hw
    random = np.random.default_rng(seed)
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(vertical, horizontal)
    frequency[0, 0] = np.inf  # no mean: it is set below
    shades = []
    for _ in range(4):  # one for light, three for colour
        noise = np.fft.rfft2(random.standard_normal((height, width))) / frequency**1.3
        shade = np.fft.irfft2(noise, s=(height, width))
        shades.append(shade / (shade.std() or 1.0))
    light, *colours = shades
    levels = np.stack([115 + 50 * light + 12 * colour for colour in colours], axis=2)
    return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)


def b100_stand_ins(scale: int) -> LowImages:
    """Generated pictures of exactly the sizes of B100's 100 low-resolution images.

    Seeded: the same on every machine. The rarer size is spread evenly among the other.
    """
    (wide, n_wide), (tall, n_tall) = B100_SIZES_HW.items()
    count = n_wide + n_tall
    tall_at = {(2 * k + 1) * count // (2 * n_tall) for k in range(n_tall)}
    highs = [tall if i in tall_at else wide for i in range(count)]
    return LowImages(
        "B100 sizes, generated stand-ins",
        tuple(f"stand-in {i:03}" for i in range(count)),
        tuple(smooth_noise((h // scale, w // scale), seed=i) for i, (h, w) in enumerate(highs)),
    )


def of_size(size_hw: tuple[int, int], batch: int, count: int) -> LowImages:
    """Generated pictures of one size: a frame, or a batch of a few distinct ones, `count` times."""
    height, width = size_hw
    pictures = [smooth_noise(size_hw, seed) for seed in range(min(batch, DISTINCT))]
    one = pictures[0] if batch == 1 else np.stack([pictures[i % DISTINCT] for i in range(batch)])
    return LowImages(
        f"{height}x{width}, generated",
        tuple(f"turn {i}" for i in range(count)),
        (one,) * count,
    )


def low_images(dataset: str, scale: int, data_root: Path | None) -> LowImages:
    """The low-resolution images of `dataset`, made from the photos under a root by our own resize.

    Where neither a root nor GIDRN_DATA is given, B100 is stood in for, and says so. Raises
    ValueError for an unknown set or one that is not whole, FileNotFoundError for a root that does
    not hold it, and ValueError for another set than B100 without any root.
    """
    dataset = benchmark_sets.canonical(dataset)
    if data_root is None and not os.environ.get("GIDRN_DATA") and dataset == "B100":
        return b100_stand_ins(scale)
    root = benchmark_sets.data_root(data_root)
    paths = benchmark_sets.find_images(dataset, root, scale)
    frames = tuple(downscale(images.read_rgb(path), scale) for path in paths)
    return LowImages(dataset, tuple(path.stem for path in paths), frames)


def spread(sizes_hw: Sequence[tuple[int, int]], count: int, *, least: int) -> list[int]:
    """Indices of `count` images, evenly over the list and each size in its share.

    At least `least` of each size, or all there are; so that a few more than `count` may come.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for i, size in enumerate(sizes_hw):
        groups.setdefault(size, []).append(i)
    commonest = max(groups, key=lambda size: len(groups[size]))
    shares = {
        size: min(len(group), max(least, round(count * len(group) / len(sizes_hw))))
        for size, group in groups.items()
        if size != commonest
    }
    shares[commonest] = max(least, count - sum(shares.values()))
    chosen = []
    for size, group in groups.items():
        share = min(shares[size], len(group))
        chosen += [group[(2 * k + 1) * len(group) // (2 * share)] for k in range(share)]
    return sorted(chosen)
