"""Whether the colours of still images come through: dark 16-bit ones, and premultiplied alpha.

As `colour_conformance` has it for video: flat patches in, each to come back within one code value,
and beside it by how much what is usually got wrong would be off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gidrn_runtime.colour_conformance import LIMIT, PATCH, PATCHES, repeat_twice
from gidrn_runtime.engines.base import Tensor
from gidrn_runtime.frames import Image, upscale_image
from gidrn_runtime.upscaler import Frame

DARK_CODES = range(0, 256, 5)
"""Of 65535: as 8 bits they are all black, and told by their largest value they are 8 bits."""

ALPHAS = (1.0, 0.75, 0.5, 0.25, 0.1, 0.02, 0.0)


@dataclass(frozen=True)
class StillFinding:
    """One kind of image, examined."""

    kind: str
    worst: int
    """Code values by which the worst patch came back changed."""
    mistake: str
    """What is usually got wrong with it."""
    mistaken: int
    """Code values by which that would be off."""

    @property
    def ok(self) -> bool:
        """Whether every patch is within `LIMIT`, and the mistake is not."""
        return self.worst <= LIMIT < self.mistaken


class Repeat:
    """A network that changes nothing, in the place of an `Upscaler`: each pixel 2x2."""

    scale = 2
    color = "rgb"

    def run_tensor(self, x: Tensor) -> Tensor:
        """float32 (1, 3, H, W) -> (1, 3, 2*H, 2*W)."""
        return repeat_twice(x)

    def __call__(self, frame: Frame) -> Frame:
        """uint8 (H, W, 3) -> uint8 (2*H, 2*W, 3)."""
        return frame.repeat(2, axis=0).repeat(2, axis=1)


class Saturate(Repeat):
    """One that leaves gray alone and makes colours stronger, dark ones most: what it makes of a
    colour times alpha is not alpha times what it makes of the colour."""

    def run_tensor(self, x: Tensor) -> Tensor:
        """As `Repeat` does."""
        return repeat_twice(saturated(x))


def saturated(x: Tensor) -> Tensor:
    """Colour on the second axis, (N, 3, ...), of the same shape."""
    gray = x.mean(axis=1, keepdims=True)
    stronger: Tensor = x + (x - gray) * (1 - gray) / 2
    return stronger


def patches_of(codes: np.ndarray, dtype: type) -> Image:
    """Codes (N, C) as a row of square patches (PATCH, N * PATCH, C)."""
    return np.tile(np.repeat(codes.astype(dtype), PATCH, axis=0), (PATCH, 1, 1))


def premultiplied_codes(dtype: type) -> np.ndarray:
    """Every colour of the kit at every alpha, as a compositor holds it: (N, 4), whole numbers."""
    peak = int(np.iinfo(dtype).max)
    colours = np.array([[float(part) for part in rgb] for rgb in PATCHES.values()])
    codes = []
    for alpha in ALPHAS:
        code = round(alpha * peak)
        held = np.rint(colours * code)
        codes.append(np.column_stack([held, np.full(len(held), code)]))
    return np.concatenate(codes).astype(np.int64)


def deviation(high: Image, codes: np.ndarray) -> int:
    """Code values by which the worst patch, enlarged twice, is off; its middle half counts."""
    side = 2 * PATCH
    middle = slice(side // 4, side - side // 4)
    patches = high.reshape(side, len(codes), side, -1)[middle, :, middle].astype(np.int64)
    return int(np.abs(patches - codes[:, np.newaxis]).max())


def examine() -> list[StillFinding]:
    """One finding for each kind of image."""
    return [_dark(), _premultiplied(np.uint8), _premultiplied(np.uint16)]


def _dark() -> StillFinding:
    codes = np.array([[code, code // 2, 255 - code] for code in DARK_CODES])
    image = patches_of(codes, np.uint16)
    taken_for_8_bits = upscale_image(Repeat(), image.astype(np.uint8)).astype(np.int64) * 257
    return StillFinding(
        "dark, 16 bits",
        deviation(upscale_image(Repeat(), image), codes),
        "taken for 8 bits",
        deviation(taken_for_8_bits, codes),
    )


def _premultiplied(dtype: type) -> StillFinding:
    peak = int(np.iinfo(dtype).max)
    codes = premultiplied_codes(dtype)
    image = patches_of(codes, dtype)
    alpha = codes[:, 3:]
    straight = np.divide(codes[:, :3], alpha, out=np.zeros((len(codes), 3)), where=alpha > 0)
    wanted = np.rint(np.clip(saturated(straight.astype(np.float32)), 0, 1) * alpha)
    wanted = np.column_stack([wanted, alpha]).astype(np.int64)
    return StillFinding(
        f"premultiplied, {peak.bit_length()} bits",
        max(
            deviation(upscale_image(Repeat(), image, premultiplied=True), codes),
            deviation(upscale_image(Saturate(), image, premultiplied=True), wanted),
        ),
        "taken for straight",
        deviation(upscale_image(Saturate(), image), wanted),
    )
