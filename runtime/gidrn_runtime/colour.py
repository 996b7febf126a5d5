"""YCbCr, as video has it, to the RGB that a network takes, and back.

Formulas: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance), which differ in the
weights Kr and Kb of red and blue in luma alone, and ITU-T H.273, clause 8.3, for these and for the
code values of limited and full range at any depth. R, G and B keep the video's own transfer
characteristic: a network sees the values that a screen would be sent.

Codes that stand for no colour (luma above white, chroma that no RGB has) give R, G or B outside
[0, 1]; they are clipped to it, as a display does.

Everything is computed in float32: 10 and 12 bits are never rounded to 8 in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime.engines.base import Tensor

Plane = npt.NDArray[Any]
"""Code values of one component (H, W): uint8 where they have 8 bits, uint16 where more."""

Planes = tuple[Plane, ...]
"""(Y, Cb, Cr), the chroma of half the sides where the pixel format says so; or (Y,) for gray."""

LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "601": (0.299, 0.114),
    "709": (0.2126, 0.0722),
    "2020": (0.2627, 0.0593),
    "240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
"""Matrix -> (Kr, Kb). 601 is also that of SMPTE 170M and of BT.470 System B, G."""

RANGES = ("limited", "full")

SITINGS: dict[str, tuple[bool, bool]] = {
    "left": (True, False),
    "centre": (False, False),
    "topleft": (True, True),
}
"""Where a chroma sample of 4:2:0 lies among its four luma samples -> whether it coincides with one
horizontally, and vertically. MPEG-2, H.264 and HEVC say left unless told otherwise, JPEG and MPEG-1
centre, BT.2020-2 top left. 4:2:2 is sited horizontally in the same way."""


@dataclass(frozen=True)
class PixelFormat:
    """How code values lie in memory, by FFmpeg's names."""

    bits: int
    """Of a code value: 8 to 16."""
    halved_hw: tuple[bool, bool] | None
    """Whether the chroma has half the height, and half the width; None for gray."""
    interleaved: bool = False
    """Whether Cb and Cr take turns in one plane (NV12, P010)."""
    shift: int = 0
    """Bits below the code value in its 16-bit word (P010: 6)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a code value in memory, little-endian."""
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")

    def chroma_hw(self, height: int, width: int) -> tuple[int, int]:
        """Size of a chroma plane; odd sides are rounded up."""
        rows, columns = self.halved_hw or (False, False)
        return -(-height // 2) if rows else height, -(-width // 2) if columns else width

    def frame_bytes(self, height: int, width: int) -> int:
        """Size of a frame without padding."""
        chroma = 0
        if self.halved_hw is not None:
            rows, columns = self.chroma_hw(height, width)
            chroma = 2 * rows * columns
        return (height * width + chroma) * self.dtype.itemsize


def _planar() -> dict[str, PixelFormat]:
    chroma = {"420": (True, True), "422": (False, True), "444": (False, False)}
    formats = {"gray": PixelFormat(8, None)}
    formats |= {f"gray{bits}le": PixelFormat(bits, None) for bits in (10, 12)}
    for name, halved_hw in chroma.items():
        formats[f"yuv{name}p"] = PixelFormat(8, halved_hw)
        for bits in (10, 12):
            formats[f"yuv{name}p{bits}le"] = PixelFormat(bits, halved_hw)
    return formats


PIXEL_FORMATS: dict[str, PixelFormat] = _planar() | {
    "nv12": PixelFormat(8, (True, True), interleaved=True),
    "p010le": PixelFormat(10, (True, True), interleaved=True, shift=6),
}
"""FFmpeg's name -> format."""


@dataclass(frozen=True)
class Coding:
    """What code values mean."""

    matrix: str
    """A key of `LUMA_WEIGHTS`."""
    range: str
    """``limited`` (8 bits: black 16, white 235) or ``full`` (0, 255)."""
    bits: int = 8
    """Of a code value."""
    siting: str = "left"
    """A key of `SITINGS`."""

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.matrix, LUMA_WEIGHTS, "matrix"),
            (self.range, RANGES, "range"),
            (self.siting, SITINGS, "siting"),
        ):
            if value not in known:
                raise ValueError(f"a {what} is one of {', '.join(known)}, not {value!r}")
        if not 8 <= self.bits <= 16:
            raise ValueError(f"code values have 8 to 16 bits, not {self.bits}")

    @property
    def luma(self) -> tuple[float, float]:
        """Code values between black and white, and that of black (H.273, eq. 26 and 29)."""
        if self.range == "full":
            return 2**self.bits - 1, 0
        return 219 * 2 ** (self.bits - 8), 16 * 2 ** (self.bits - 8)

    @property
    def chroma(self) -> tuple[float, float]:
        """Code values between a chroma of -1/2 and 1/2, and that of 0 (H.273, eq. 27 and 30)."""
        span = 2**self.bits - 1 if self.range == "full" else 224 * 2 ** (self.bits - 8)
        return span, 2 ** (self.bits - 1)


def rgb_from_planes(planes: Sequence[Plane], coding: Coding) -> Tensor:
    """Code values -> float32 RGB (1, 3, H, W) in [0, 1], what `Upscaler.run_tensor` takes.

    Chroma of half a side is brought to the luma's positions by Catmull-Rom interpolation.

    Raises:
        ValueError: the planes are no (Y, Cb, Cr) or (Y,) of 2-D arrays, of sizes that fit.
    """
    _check_planes(planes)
    span, black = coding.luma
    y = np.subtract(planes[0], black, dtype=np.float32)
    y /= np.float32(span)
    height, width = y.shape
    rgb = np.empty((1, 3, height, width), np.float32)
    if len(planes) == 1:
        np.clip(y, 0, 1, out=y)
        rgb[:] = y
        return rgb
    span, zero = coding.chroma
    beside, above = SITINGS[coding.siting]
    chroma = []
    for plane in planes[1:]:
        c = np.subtract(plane, zero, dtype=np.float32)
        c /= np.float32(span)
        if plane.shape[0] != height:
            c = _doubled(c, 0, height, above)
        if plane.shape[1] != width:
            c = _doubled(c, 1, width, beside)
        chroma.append(c)
    cb, cr = chroma
    kr, kb = LUMA_WEIGHTS[coding.matrix]
    kg = 1 - kr - kb
    r, g, b = rgb[0]
    np.multiply(cr, np.float32(2 * (1 - kr)), out=r)
    np.multiply(cb, np.float32(2 * (1 - kb)), out=b)
    # G from Y = Kr R + Kg G + Kb B, written with R - Y and B - Y.
    np.multiply(r, np.float32(-kr / kg), out=g)
    g -= b * np.float32(kb / kg)
    rgb += y
    return np.clip(rgb, 0, 1, out=rgb)


def planes_from_rgb(
    rgb: Tensor, coding: Coding, halved_hw: tuple[bool, bool] | None
) -> tuple[Plane, ...]:
    """float32 RGB (1, 3, H, W) -> code values (Y, Cb, Cr), or (Y,) where `halved_hw` is None.

    Values outside [0, 1] are clipped, code values rounded, halves to even. Chroma of half a side
    is filtered first: 1 2 1 about a luma sample where it coincides with one, 1 3 3 1 where it lies
    between two.
    """
    r, g, b = np.clip(rgb[0], 0, 1)
    kr, kb = LUMA_WEIGHTS[coding.matrix]
    y = luma((r, g, b), coding.matrix)
    chroma = []
    if halved_hw is not None:
        beside, above = SITINGS[coding.siting]
        for channel, weight in ((b, kb), (r, kr)):
            c = np.subtract(channel, y)
            c *= np.float32(0.5 / (1 - weight))
            if halved_hw[0]:
                c = _halved(c, 0, above)
            if halved_hw[1]:
                c = _halved(c, 1, beside)
            chroma.append(_codes(c, coding.chroma, coding.bits))
    return (_codes(y, coding.luma, coding.bits), *chroma)


def luma(rgb: Sequence[Plane], matrix: str) -> npt.NDArray[np.float32]:
    """Y (H, W) of R, G and B."""
    r, g, b = rgb
    kr, kb = LUMA_WEIGHTS[matrix]
    y: npt.NDArray[np.float32] = r * np.float32(kr)
    y += g * np.float32(1 - kr - kb)
    y += b * np.float32(kb)
    return y


def unpack(data: Plane, pixel_format: PixelFormat, height: int, width: int) -> Planes:
    """The planes of a frame that lies in one piece, without padding: `data` is uint8 (bytes,).

    Raises:
        ValueError: `data` has another length than such a frame.
    """
    wanted = pixel_format.frame_bytes(height, width)
    if data.size != wanted:
        raise ValueError(f"a frame of {width}x{height} has {wanted} bytes, not {data.size}")
    words = data.view(pixel_format.dtype)
    y, rest = words[: height * width].reshape(height, width), words[height * width :]
    rows, columns = pixel_format.chroma_hw(height, width)
    if pixel_format.halved_hw is None:
        parts = [y]
    elif pixel_format.interleaved:
        parts = [y, *split(rest.reshape(rows, 2 * columns))]
    else:
        parts = [y, *rest.reshape(2, rows, columns)]
    return tuple(part >> pixel_format.shift if pixel_format.shift else part for part in parts)


def pack(planes: Sequence[Plane], pixel_format: PixelFormat) -> bytes:
    """The frame in one piece, without padding: the reverse of `unpack`."""
    parts = [plane << pixel_format.shift if pixel_format.shift else plane for plane in planes]
    if pixel_format.interleaved:
        parts = [parts[0], np.stack(parts[1:], axis=-1)]
    return b"".join(part.astype(pixel_format.dtype, copy=False).tobytes() for part in parts)


def split(interleaved: Plane) -> tuple[Plane, Plane]:
    """Cb and Cr that take turns (H, 2 W) -> two views (H, W)."""
    return interleaved[:, 0::2], interleaved[:, 1::2]


def _check_planes(planes: Sequence[Plane]) -> None:
    shapes = [plane.shape for plane in planes]
    fits = len(planes) in (1, 3) and all(len(shape) == 2 and 0 not in shape for shape in shapes)
    if fits and len(planes) == 3:
        height, width = shapes[0]
        sizes = [(h, w) for h in (height, -(-height // 2)) for w in (width, -(-width // 2))]
        fits = shapes[1] == shapes[2] and shapes[1] in sizes
    if not fits:
        raise ValueError(
            f"planes are Y, or Y, Cb and Cr whose sides are whole or half of Y's, not {shapes}"
        )


def _codes(values: npt.NDArray[np.float32], scale: tuple[float, float], bits: int) -> Plane:
    """Rounded code values; overwrites `values`."""
    span, zero = scale
    values *= np.float32(span)
    values += np.float32(zero)
    np.rint(values, out=values)
    np.clip(values, 0, 2**bits - 1, out=values)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def _taps(plane: npt.NDArray[np.float32], axis: int, before: int, after: int) -> Plane:
    """`plane` with its edges repeated along `axis`, which comes first."""
    around = [(0, 0), (0, 0)]
    around[axis] = (before, after)
    return np.moveaxis(np.pad(plane, around, mode="edge"), axis, 0)


def _doubled(plane: npt.NDArray[np.float32], axis: int, size: int, coincides: bool) -> Plane:
    """Twice the samples along `axis`, cut to `size`, by Catmull-Rom interpolation.

    Where samples coincide with every other output, the ones between lie in the middle; where they
    lie between two outputs, those are a quarter of a step to either side.
    """
    taps = _taps(plane, axis, 2, 2)
    count = plane.shape[axis]
    high = np.empty((2 * count, taps.shape[1]), np.float32)
    first, second = high[0::2], high[1::2]
    window = [taps[k : k + count] for k in range(5)]  # from two before to two after
    if coincides:
        first[:] = window[2]
        np.add(window[2], window[3], out=second)
        second *= np.float32(9 / 16)
        second -= (window[1] + window[4]) * np.float32(1 / 16)
    else:
        near, own, far, out = (np.float32(n / 128) for n in (29, 111, -9, -3))
        for target, (a, b, c, d) in (
            (first, (window[1], window[2], window[3], window[0])),
            (second, (window[3], window[2], window[1], window[4])),
        ):
            np.multiply(b, own, out=target)
            target += a * near
            target += c * far
            target += d * out
    return np.ascontiguousarray(np.moveaxis(high[:size], 0, axis))


def _halved(plane: npt.NDArray[np.float32], axis: int, coincides: bool) -> Plane:
    """Half the samples along `axis`, rounded up."""
    odd = plane.shape[axis] % 2
    if coincides:
        taps = _taps(plane, axis, 1, odd)
        low = (taps[0:-1:2][: (plane.shape[axis] + 1) // 2] + taps[2::2]) * np.float32(0.25)
        low += taps[1::2][: len(low)] * np.float32(0.5)
    else:
        taps = _taps(plane, axis, 1, 1 + odd)
        count = (plane.shape[axis] + 1) // 2
        a, b, c, d = (taps[k : k + 2 * count : 2][:count] for k in range(4))
        low = (b + c) * np.float32(0.375)
        low += (a + d) * np.float32(0.125)
    return np.ascontiguousarray(np.moveaxis(low, 0, axis))
