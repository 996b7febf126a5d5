"""Whether colours come through: flat patches written as video, read, enlarged, written again.

The patches' code values are computed here by the standards' own formulas in exact fractions, apart
from `gidrn_runtime.colour`, which is what is examined. A reader that takes another matrix or range
than the video was written with is found out: `deviation` of such a pair is far above the limit.
Flat patches say nothing about chroma siting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from gidrn_runtime.colour import (
    PIXEL_FORMATS,
    RANGES,
    Coding,
    pack,
    planes_from_rgb,
    rgb_from_planes,
    unpack,
)
from gidrn_runtime.engines.base import Tensor

PATCH = 32
"""Side of a patch in luma samples."""

LIMIT = 1
"""Code values by which a patch may come back changed."""

LUMA: dict[str, tuple[Fraction, Fraction]] = {
    "601": (Fraction("0.299"), Fraction("0.114")),
    "709": (Fraction("0.2126"), Fraction("0.0722")),
    "2020": (Fraction("0.2627"), Fraction("0.0593")),
}
"""Kr and Kb of BT.601-7 (2.5.1), BT.709-6 (3.2) and BT.2020-2 (table 4)."""

FORMATS = ("nv12", "yuv420p", "p010le", "yuv420p10le")
"""NV12, I420, P010 and I420 of 10 bits, by FFmpeg's names."""

PATCHES: dict[str, tuple[str, str, str]] = {
    "black": ("0", "0", "0"),
    "near black": ("0.01", "0.01", "0.01"),
    "bluish black": ("0.004", "0.004", "0.02"),
    "dark gray": ("0.1", "0.1", "0.1"),
    "middle gray": ("0.5", "0.5", "0.5"),
    "light gray": ("0.75", "0.75", "0.75"),
    "near white": ("0.99", "0.99", "0.99"),
    "white": ("1", "1", "1"),
    "red": ("1", "0", "0"),
    "green": ("0", "1", "0"),
    "blue": ("0", "0", "1"),
    "cyan": ("0", "1", "1"),
    "magenta": ("1", "0", "1"),
    "yellow": ("1", "1", "0"),
    "75 % red": ("0.75", "0", "0"),
    "75 % green": ("0", "0.75", "0"),
    "75 % blue": ("0", "0", "0.75"),
    "light skin": ("0.76", "0.59", "0.51"),
    "dark skin": ("0.45", "0.32", "0.27"),
    "foliage": ("0.34", "0.42", "0.26"),
    "sky": ("0.38", "0.48", "0.62"),
}
"""Name -> R, G, B in [0, 1], of the video's own transfer characteristic."""

Enlarge = Callable[[Tensor], Tensor]
"""float32 RGB (1, 3, H, W) -> (1, 3, s*H, s*W): a network, or what stands for one."""


@dataclass(frozen=True)
class Finding:
    """One way of writing video, examined."""

    coding: Coding
    pixel_format: str
    worst: int
    """Code values by which the worst patch came back changed."""
    patch: str
    """Its name."""

    @property
    def ok(self) -> bool:
        """Whether every patch is within `LIMIT`."""
        return self.worst <= LIMIT


@cache
def code_values(rgb: tuple[str, str, str], coding: Coding) -> tuple[int, int, int]:
    """Y, Cb and Cr of a colour (ITU-T H.273, eq. 26 to 40), by exact fractions."""
    r, g, b = (Fraction(value) for value in rgb)
    kr, kb = LUMA[coding.matrix]
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    steps, half = 2 ** (coding.bits - 8), 2 ** (coding.bits - 1)
    if coding.range == "limited":
        values = ((219 * y + 16) * steps, (224 * cb + 128) * steps, (224 * cr + 128) * steps)
    else:
        peak = 2**coding.bits - 1
        values = (peak * y, peak * cb + half, peak * cr + half)
    rounded = [min(int(value + Fraction(1, 2)), 2**coding.bits - 1) for value in values]
    return rounded[0], rounded[1], rounded[2]


def repeat_twice(rgb: Tensor) -> Tensor:
    """A network that changes nothing: each pixel 2x2."""
    return rgb.repeat(2, axis=2).repeat(2, axis=3)


def deviation(
    coding: Coding,
    pixel_format: str,
    read_as: Coding | None = None,
    enlarge: Enlarge = repeat_twice,
) -> Finding:
    """Write the patches as a frame in `coding`, read it as `read_as`, enlarge and write it again.

    The middle half of each patch counts, which no neighbour reaches. `read_as` is `coding` unless
    a wrong tag is to be shown.
    """
    layout = PIXEL_FORMATS[pixel_format]
    height, width = PATCH, PATCH * len(PATCHES)
    codes = [code_values(colour, coding) for colour in PATCHES.values()]
    dtype = np.uint8 if coding.bits == 8 else np.uint16
    planes = []
    for component, (rows, columns) in enumerate(
        [(height, width), *[layout.chroma_hw(height, width)] * 2]
    ):
        row = np.repeat([code[component] for code in codes], columns // len(codes))
        planes.append(np.tile(row, (rows, 1)).astype(dtype))
    low = unpack(np.frombuffer(pack(planes, layout), np.uint8), layout, height, width)
    high = enlarge(rgb_from_planes(low, read_as or coding))
    packed = pack(planes_from_rgb(high, coding, layout.halved_hw), layout)
    back = unpack(np.frombuffer(packed, np.uint8), layout, *high.shape[2:])
    worst, where = 0, ""
    for number, (name, code) in enumerate(zip(PATCHES, codes, strict=True)):
        for plane, value in zip(back, code, strict=True):
            side = plane.shape[1] // len(codes)
            inside = slice(number * side + side // 4, (number + 1) * side - side // 4)
            off = int(np.abs(plane[:, inside].astype(np.int64) - value).max())
            if off > worst:
                worst, where = off, name
    return Finding(coding, pixel_format, worst, where)


def codings() -> Iterator[tuple[Coding, str]]:
    """Every matrix, range and pixel format that is examined."""
    for matrix in LUMA:
        for span in RANGES:
            for pixel_format in FORMATS:
                yield Coding(matrix, span, PIXEL_FORMATS[pixel_format].bits), pixel_format


def examine(enlarge: Enlarge = repeat_twice) -> list[Finding]:
    """One finding for each of `codings`."""
    return [deviation(coding, layout, enlarge=enlarge) for coding, layout in codings()]


def misread(coding: Coding, pixel_format: str) -> Finding:
    """The mildest of the wrong tags: of all other matrices and ranges that which shows least."""
    findings = [
        deviation(coding, pixel_format, read_as=other)
        for other, layout in codings()
        if layout == pixel_format and other != coding
    ]
    return min(findings, key=lambda finding: finding.worst)
