"""Which frame sizes an engine is built for: optimization profiles, by name or in pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass

Size = tuple[int, int, int]
"""Batch, height and width of the low-resolution input, in pixels."""

PRESETS_HW: dict[str, tuple[int, int]] = {
    "540p": (540, 960),
    "720p": (720, 1280),
    "1080p": (1080, 1920),
}
"""One frame size each, of the low-resolution input."""

B100_HW = (321, 481)
"""High-resolution sides of B100's images, which lie or stand."""

DEFAULT = "64x64,540x960,1080x1920"


@dataclass(frozen=True)
class Profile:
    """The least and the greatest input that an engine takes, and the one that it is tuned for."""

    least: Size
    best: Size
    most: Size

    def __post_init__(self) -> None:
        if not all(
            1 <= a <= b <= c for a, b, c in zip(self.least, self.best, self.most, strict=True)
        ):
            raise ValueError(
                "a profile's least, best and greatest size grow in this order, batch, height and "
                f"width each, from 1 on; came {self.in_words()}"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether it is one size."""
        return self.least == self.most

    def takes(self, size: Size) -> bool:
        """Whether an input of this size fits."""
        sides = zip(self.least, size, self.most, strict=True)
        return all(least <= side <= most for least, side, most in sides)

    def in_words(self) -> str:
        """ "1x80x80 to 1x120x120, best at 1x80x120", or the one size."""
        least, best, most = (
            "x".join(str(side) for side in size) for size in (self.least, self.best, self.most)
        )
        return least if self.is_fixed else f"{least} to {most}, best at {best}"


def parse_profile(text: str, scale: int, batch: int = 1) -> Profile:
    """A preset's name, HxW, or HxW,HxW,HxW: the least, the best and the greatest size.

    Args:
        text: b100 (its low-resolution images at this scale, lying or standing), 540p, 720p, 1080p,
            or sizes in pixels of the low-resolution input.
        scale: The network's factor.
        batch: Frames at once, at best and at most; the least is always 1.

    Raises:
        ValueError: the text is none of these, or the sizes do not grow.
    """
    if batch < 1:
        raise ValueError(f"a batch is a whole number >= 1, not {batch}")
    if text == "b100":
        short, long = (side // scale for side in B100_HW)
        sizes = [(short, short), (short, long), (long, long)]
    elif text in PRESETS_HW:
        sizes = [PRESETS_HW[text]] * 3
    else:
        parts = [re.fullmatch(r"(\d+)x(\d+)", part.strip()) for part in text.lower().split(",")]
        found = [(int(part[1]), int(part[2])) for part in parts if part is not None]
        if len(found) != len(parts) or len(found) not in (1, 3):
            raise ValueError(
                f"a profile is b100, {', '.join(PRESETS_HW)}, HEIGHTxWIDTH, or three of them "
                f"(least, best, greatest) with commas between, not {text!r}"
            )
        sizes = found * (3 if len(found) == 1 else 1)
    least, best, most = sizes
    return Profile((1, *least), (batch, *best), (batch, *most))
