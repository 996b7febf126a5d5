"""MATLAB-compatible bicubic resize (imresize), in NumPy.

Source of the rules: MATLAB's documented imresize behaviour as the field uses it to make its
low-resolution images: cubic kernel with a = -0.5, widened by the factor when shrinking
("antialiasing"), weights normalised for each output sample, borders mirrored with the edge pixel
repeated. On uint8 images MATLAB works along one axis after the other and rounds to uint8 between
the two passes, half away from zero; so do we.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel, a = -0.5, at distances `x`."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _taps(
    length: int, out_length: int, factor: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Weights (out_length, taps) and the input positions (out_length, taps) they apply to."""
    stretch = max(1.0, 1.0 / factor)
    width = 4.0 * stretch
    centre = (np.arange(out_length) + 0.5) / factor - 0.5
    first = np.floor(centre - width / 2).astype(np.int64)
    positions = first[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = cubic((centre[:, None] - positions) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = positions % (2 * length)
    mirrored = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    used = np.any(weights != 0, axis=0)
    return weights[:, used], mirrored[:, used]


def _round_half_away(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5))


def _along(image: NDArray[np.float64], axis: int, factor: float) -> NDArray[np.float64]:
    moved = np.moveaxis(image, axis, 0)
    length = moved.shape[0]
    # A thousandth off before rounding up, so that 0.333... * 3 is 1 and not 2.
    out_length = max(1, int(np.ceil(round(length * factor, 6))))
    weights, positions = _taps(length, out_length, factor)
    out = np.zeros((out_length, *moved.shape[1:]))
    shape = (-1,) + (1,) * (moved.ndim - 1)
    for tap in range(weights.shape[1]):
        out += weights[:, tap].reshape(shape) * moved[positions[:, tap]]
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))


def imresize(
    image: NDArray[np.uint8] | NDArray[np.floating], scale: Fraction | float
) -> NDArray[np.uint8] | NDArray[np.float64]:
    """Resize (H, W) or (H, W, C) by `scale`; the result is ceil(H*scale) by ceil(W*scale).

    uint8 gives uint8, rounded between the passes as MATLAB does; any float type gives float64,
    rounded nowhere. Raises ValueError for other types, other shapes and a scale not above 0.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"an image is (H, W) or (H, W, C) with H, W >= 1, not {image.shape}")
    factor = float(scale)
    if not factor > 0:
        raise ValueError(f"scale is a number above 0, not {scale}")
    if image.dtype == np.uint8:
        work = image.astype(np.float64)
        for axis in (0, 1):
            work = np.clip(_round_half_away(_along(work, axis, factor)), 0, 255)
        return work.astype(np.uint8)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image is uint8 or floating point, not {image.dtype}")
    work = image.astype(np.float64)
    for axis in (0, 1):
        work = _along(work, axis, factor)
    return work


def crop_to_multiple(image: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """Cut rows below and columns on the right until both sides divide by `multiple`."""
    height, width = image.shape[:2]
    if height < multiple or width < multiple:
        raise ValueError(
            f"an image of {width}x{height} pixels is smaller than the factor {multiple} needs"
        )
    return image[: height - height % multiple, : width - width % multiple]


def downscale(high: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The field's low-resolution image: `high` cut to a multiple of `scale`, then imresize'd.

    (H, W) or (H, W, C) uint8 -> (H // scale, W // scale[, C]) uint8.
    """
    low = imresize(crop_to_multiple(high, scale), Fraction(1, scale))
    assert low.dtype == np.uint8
    return low.astype(np.uint8, copy=False)
