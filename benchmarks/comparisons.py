"""Pictures for the eye: one photo's part with the most lines, enlarged by each method.

Of each photo the same part is cut from every method's output and from the truth, chosen by the
truth alone: the window with the most lines, edges that have one direction with their surroundings,
since that is what the paper's photos of buildings show. How much of them there is at a pixel comes
of the eigenvalues a >= b of Y's structure tensor (Bigun and Granlund, 1987), its products smoothed
by a Gaussian of LINES_SIGMA pixels: sqrt(a - b) * ((a - b) / (a + b))^2, strength by coherence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks import frequencies
from gidrn import evaluation
from gidrn.files import replacing
from gidrn.images import as_rgb, read_image
from gidrn.losses import HighPass
from gidrn.metrics import luma, psnr
from gidrn.resize import crop_to_multiple, downscale, imresize

PART_HW = (200, 280)
"""Height and width of what is shown, in pixels of the large image."""

LINES_SIGMA = 4.0

STEP = 8
"""Pixels between the windows that are tried."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """One photo by several methods."""

    photo: Path
    scale: int
    at: tuple[int, int]
    """Upper left corner of the part, row and column."""
    parts: Mapping[str, Image]
    """By method, "truth" last where there is one."""
    psnr_db: Mapping[str, float]
    """Of the whole photo on Y, a border cut; none without a truth."""


def compare(path: Path, scale: int, networks: Mapping[str, nn.Module | None]) -> Comparison:
    """Make a photo smaller and larger again; None stands for bicubic."""
    truth = np.ascontiguousarray(as_rgb(crop_to_multiple(read_image(path), scale)))
    low = downscale(truth, scale)
    made = {name: enlarged(network, low, scale) for name, network in networks.items()}
    scores = {name: psnr(luma(one), luma(truth), border=scale) for name, one in made.items()}
    at = most_lined(truth)
    parts = {name: _cut(one, at) for name, one in {**made, "truth": truth}.items()}
    return Comparison(path, scale, at, parts, scores)


def enlarge_real(path: Path, scale: int, networks: Mapping[str, nn.Module | None]) -> Comparison:
    """Enlarge a photo that has no larger truth."""
    low = np.ascontiguousarray(as_rgb(read_image(path)))
    made = {name: enlarged(network, low, scale) for name, network in networks.items()}
    at = most_lined(next(iter(made.values())))
    return Comparison(path, scale, at, {name: _cut(one, at) for name, one in made.items()}, {})


def enlarged(network: nn.Module | None, low: Image, scale: int) -> Image:
    """By a network, or by bicubic for None: uint8 RGB (H, W, 3) -> (s*H, s*W, 3)."""
    if network is None:
        return np.asarray(imresize(low, scale), dtype=np.uint8)
    return evaluation.upscale(network, low)


def lines(rgb: Image) -> NDArray[np.float64]:
    """How much of lines there is at each pixel of Y: (H, W, 3) -> (H, W)."""
    y = luma(rgb)
    across, down = (cv2.Sobel(y, cv2.CV_64F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (
        cv2.GaussianBlur(product, (0, 0), LINES_SIGMA)
        for product in (across * across, down * down, across * down)
    )
    difference, total = np.hypot(xx - yy, 2 * xy), xx + yy
    coherence = difference / np.maximum(total, 1e-9)  # 0 where nothing changes
    return np.asarray(np.sqrt(difference) * coherence**2)


def most_lined(truth: Image) -> tuple[int, int]:
    """Upper left corner of the window of PART_HW with the most lines."""
    found = lines(truth)
    sums = np.pad(found, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    height, width = (min(side, of) for side, of in zip(PART_HW, found.shape, strict=True))
    rows = np.arange(0, found.shape[0] - height + 1, STEP)
    columns = np.arange(0, found.shape[1] - width + 1, STEP)

    def corner(down: int, right: int) -> NDArray[np.float64]:
        return np.asarray(sums[np.ix_(rows + down, columns + right)])

    inside = corner(height, width) - corner(0, width) - corner(height, 0) + corner(0, 0)
    row, column = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return int(rows[row]), int(columns[column])


def by_lines(paths: Sequence[Path]) -> list[Path]:
    """Photos, those with the most lines, the mean over their pixels, first."""
    amount = {path: float(lines(as_rgb(read_image(path))).mean()) for path in paths}
    return sorted(paths, key=lambda path: (-amount[path], path.name))


def write_frequencies(
    truth: Image, at: tuple[int, int], high_pass: HighPass, folder: Path, stem: str
) -> dict[str, str]:
    """Pictures of a photo's part, its low frequencies in colour and the high ones of Y around gray.

    The files' names, by "truth_file", "low_file" and "high_file".
    """
    channels = [frequencies.split(truth[..., i].astype(np.float64), high_pass)[0] for i in range(3)]
    _, high = frequencies.split(luma(truth), high_pass)
    pictures = {
        "truth": truth,
        "low": np.rint(np.clip(np.stack(channels, axis=2), 0, 255)).astype(np.uint8),
        "high": as_rgb(np.rint(np.clip(128 + 2 * high, 0, 255)).astype(np.uint8)),
    }
    for name, image in pictures.items():
        write(folder / f"{stem}_{name}.webp", _cut(image, at))
    return {f"{name}_file": f"{stem}_{name}.webp" for name in pictures}


def write(path: Path, image: Image) -> None:
    """Write RGB as a lossless WebP file, whole or not at all."""
    done, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
    if not done:
        raise OSError(f"OpenCV cannot write {path} as WebP")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _cut(image: Image, at: tuple[int, int]) -> Image:
    (top, left), (height, width) = at, PART_HW
    return np.ascontiguousarray(image[top : top + height, left : left + width])
