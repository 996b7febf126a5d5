"""A picture for the eye: bicubic, a network's output and the truth, side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import gidrn
from export.proof import SAMPLES
from gidrn import command_line
from gidrn.evaluation import upscale
from gidrn.images import read_rgb, write_image
from gidrn.metrics import luma, psnr
from gidrn.resize import crop_to_multiple, downscale, imresize

MARGIN = 8
"""White pixels between two pictures."""

CAPTION_HEIGHT = 26
"""White pixels above each picture for its name and score."""


def captioned(image: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The picture with its caption above: (H, W, 3) -> (H + CAPTION_HEIGHT, W, 3)."""
    top = np.full((CAPTION_HEIGHT, image.shape[1], 3), 255, np.uint8)
    cv2.putText(top, caption, (2, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([top, image])


def side_by_side(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height in a row, with white between."""
    gap = np.full((images[0].shape[0], MARGIN, 3), 255, np.uint8)
    row = [part for image in images for part in (image, gap)][:-1]
    return np.concatenate(row, axis=1)


def main(
    photo: Path = SAMPLES / "coffee.png",
    model: str = "gidrn",
    scale: int = 4,
    weights: Path | None = None,
    at: tuple[int, int] = (60, 60),
    size: tuple[int, int] = (130, 180),
    out: Path = Path("picture.png"),
) -> None:
    """Shrink a photo, enlarge it again two ways, and show a part of each beside the truth.

    The scores are PSNR on Y of the whole photo, the factor's number of pixels cut from each side.

    Args:
        photo: the truth; a sample photo by default.
        model: a network of the zoo.
        scale: 2, 3 or 4.
        weights: its weights; by default those that ship.
        at: the part's upper left corner, row and column.
        size: the part's height and width; it is shown twice as large.
        out: the PNG file to write.
    """
    high = np.ascontiguousarray(crop_to_multiple(read_rgb(photo), scale))
    low = downscale(high, scale)
    bicubic = imresize(low, scale).astype(np.uint8)
    ours = upscale(gidrn.load(model, scale, weights=weights), low)
    (top, left), (height, width) = at, size
    inside = top + height <= high.shape[0] and left + width <= high.shape[1]
    if min(top, left, height - 1, width - 1) < 0 or not inside:
        raise ValueError(
            f"a part of {height}x{width} at {top}x{left} leaves the photo, which is "
            f"{high.shape[0]}x{high.shape[1]}"
        )
    shown = []
    for name, image in (("bicubic", bicubic), (model, ours), ("truth", high)):
        score = psnr(luma(image), luma(high), border=scale)
        part = image[top : top + height, left : left + width].repeat(2, axis=0).repeat(2, axis=1)
        shown.append(captioned(part, name if name == "truth" else f"{name}: {score:.2f} dB"))
    write_image(out, side_by_side(shown))
    print(f"written to {out}")


if __name__ == "__main__":
    command_line.run(main)
