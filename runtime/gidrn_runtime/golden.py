"""Golden frames: a tiny input and what the network makes of it, carried by a model.

An engine that gives another picture than PyTorch did is wrong in one of a few ways, each of which
somebody has shipped: colours swapped, a range of 0 to 255 for 0 to 1, limited for full, rows for
columns, another order of pixel shuffle, padding off by a pixel, FP16 beyond its largest number.
Each leaves its mark on a picture, by which `name_fault` tells it.

What hardly shows on a tiny frame it does not find: with the shipped weights a uniform attention, or
pooling in fixed windows, moves the golden frame by about a level. The proof of the export, with an
exaggerated attention and at many sizes, is there for those.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float64]
"""(H, W, 3) RGB in 8-bit levels, not rounded."""

LIMIT_LEVELS = 3
"""An engine may differ by this much: with the shipped weights FP16, sums in FP16 too, stays near 1,
and the least of the faults named here moves some values by ten."""

LIKENESS = 0.5
"""A fault is named where its mark leaves at most this share of the difference, in its r.m.s."""


@dataclass(frozen=True, eq=False)
class Golden:
    """A tiny input and the window of its output that a model carries."""

    patch: Frame
    """(h, w, 3) RGB; the input is this, or for a model of one size, this repeated to fill it."""
    size_hw: tuple[int, int]
    """Of the input."""
    window: Frame
    """(h, w, 3) RGB, the upper left corner of the output that PyTorch made in FP32, rounded."""

    def __post_init__(self) -> None:
        for frame in (self.patch, self.window):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
                raise ValueError(f"golden frames are uint8 (H, W, 3), not {frame.shape}")
        if min(self.size_hw) < 1:
            raise ValueError(f"an input has at least one pixel, not {self.size_hw}")

    @property
    def low(self) -> Frame:
        """The input, (H, W, 3) RGB."""
        height, width = self.size_hw
        times = (-(-height // self.patch.shape[0]), -(-width // self.patch.shape[1]), 1)
        return np.ascontiguousarray(np.tile(self.patch, times)[:height, :width])

    def to_text(self) -> str:
        """As one line of JSON, for a model's metadata."""
        return json.dumps(
            {
                "size_hw": list(self.size_hw),
                "patch": _packed(self.patch),
                "window": _packed(self.window),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Golden:
        """What `to_text` wrote. Raises ValueError for anything else."""
        try:
            values = json.loads(text)
            height, width = (int(side) for side in values["size_hw"])
            return cls(_unpacked(values["patch"]), (height, width), _unpacked(values["window"]))
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"the golden frame cannot be read: {error}") from error


def _packed(frame: Frame) -> dict[str, object]:
    data = base64.b64encode(zlib.compress(frame.tobytes(), 9)).decode("ascii")
    return {"shape": list(frame.shape), "zlib": data}


def _unpacked(values: dict[str, object]) -> Frame:
    data = zlib.decompress(base64.b64decode(str(values["zlib"])))
    shape = values["shape"]
    if not isinstance(shape, list):
        raise ValueError(f"a shape is a list of sides, not {shape!r}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def compare(golden: Golden, came: Levels, scale: int) -> str | None:
    """What is wrong with an output; None where nothing is.

    Args:
        golden: The model's golden frame.
        came: (s*H, s*W, 3) RGB in levels, what the engine made of `golden.low`.
        scale: The model's factor.
    """
    height, width = golden.window.shape[:2]
    came = came[:height, :width].astype(np.float64)
    if not np.isfinite(came).all():
        share = 1 - float(np.isfinite(came).mean())
        return f"{share:.0%} of its values are not finite: overflow, as FP16 gives beyond 65504"
    wanted = golden.window.astype(np.float64)
    most = float(np.abs(np.clip(came, 0, 255) - wanted).max())
    if most <= LIMIT_LEVELS:
        return None
    fault = name_fault(golden, came, scale)
    return f"it is off by up to {most:.0f} of 255 levels: {fault or 'no fault known by its mark'}"


def name_fault(golden: Golden, came: Levels, scale: int) -> str | None:
    """The likeliest fault of a finite output by its mark, or None where none explains it."""
    wanted = golden.window.astype(np.float64)
    margin = min(2 * scale, min(wanted.shape[:2]) // 4)
    black = came < 1
    lost = black & (wanted > 32)
    if came.max() < 1 or (lost.mean() > 0.02 and _rms(came[~black], wanted[~black]) < LIMIT_LEVELS):
        return "parts are black: overflow, as FP16 gives beyond 65504"
    inside = (slice(margin, -margin or None),) * 2  # what an edge makes of a fault is another thing
    least, likeliest = min(
        (_rms(np.clip(came, 0, 255)[inside], np.clip(mark, 0, 255)[inside]), fault)
        for fault, mark in _marks(golden, wanted, scale)
    )
    return likeliest if least < LIKENESS * _rms(came[inside], wanted[inside]) else None


def name_size(low_hw: tuple[int, int], came_hw: tuple[int, int], scale: int) -> str | None:
    """The likeliest fault of an output that has not `scale` times its input's sides."""
    height, width = low_hw
    if came_hw == (scale * width, scale * height):
        return "height and width are transposed"
    times = came_hw[0] / height
    if times == came_hw[1] / width and times == int(times):
        return f"it enlarges by {int(times)}, not by {scale}"
    off = came_hw[0] - scale * height, came_hw[1] - scale * width
    if max(map(abs, off)) <= 4 * scale:
        return f"padding or cropping is off, by {off[0]} rows and {off[1]} columns"
    return None


def _rms(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Root mean square of the difference; 0 where there is nothing to compare."""
    return float(np.sqrt(np.mean(np.square(a - b)))) if a.size else 0.0


def _marks(golden: Golden, wanted: Levels, scale: int) -> Iterator[tuple[str, Levels]]:
    """What the output would be with each fault, or near enough to tell it from the others."""
    yield "red and blue are swapped (BGR for RGB)", wanted[..., ::-1]
    yield "values of 0 to 1 where 0 to 255 belong", wanted / 255
    yield "values of 0 to 255 where 0 to 1 belong", wanted * 255
    limited = 16 + wanted * (219 / 255)
    yield "limited range (16 to 235) where full range belongs", limited
    yield "full range where limited range (16 to 235) belongs", (wanted - 16) * (255 / 219)
    yield "it is upside down", wanted[::-1]
    yield "it is mirrored", wanted[:, ::-1]
    if wanted.shape[:2] == (scale * golden.size_hw[0], scale * golden.size_hw[1]):
        yield from _scrambled(golden, wanted, scale)
    height, width = wanted.shape[:2]
    blocks = wanted.reshape(height // scale, scale, width // scale, scale, 3)
    turned = blocks.transpose(0, 3, 2, 1, 4).reshape(wanted.shape)
    yield "pixel shuffle in another order (rows for columns)", turned
    channels = blocks.transpose(0, 2, 4, 1, 3).reshape(height // scale, width // scale, -1)
    depth_first = channels.reshape(height // scale, width // scale, scale, scale, 3)
    other = depth_first.transpose(0, 2, 1, 3, 4).reshape(wanted.shape)
    yield "pixel shuffle in another order (DCR for CRD)", other
    for down in range(-2 * scale, 2 * scale + 1):
        for right in range(-2 * scale, 2 * scale + 1):
            if down or right:
                fault = f"shifted by {down} rows and {right} columns: padding or cropping is off"
                yield fault, np.roll(wanted, (down, right), axis=(0, 1))


def _scrambled(golden: Golden, wanted: Levels, scale: int) -> Iterator[tuple[str, Levels]]:
    """Rows, columns and channels taken for each other, at the input or at the output."""
    fault = "channels last where channels first belong, or the other way round"
    high, wide = wanted.shape[:2]
    yield fault, wanted.transpose(2, 0, 1).reshape(high, wide, 3)
    yield fault, wanted.reshape(3, high, wide).transpose(1, 2, 0)
    low = golden.low.astype(np.float64)
    height, width = golden.size_hw
    for taken in (
        low.reshape(3, height, width).transpose(1, 2, 0),
        low.transpose(2, 0, 1).reshape(height, width, 3),
    ):
        yield fault, taken.repeat(scale, axis=0).repeat(scale, axis=1)
    fault = "height and width are transposed"
    yield fault, wanted.transpose(1, 0, 2).reshape(wanted.shape)
    columns = low.transpose(1, 0, 2).reshape(low.shape)
    yield fault, columns.repeat(scale, axis=0).repeat(scale, axis=1)
