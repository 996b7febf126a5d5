"""PSNR and SSIM on the Y channel, as the field's tables have them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0
"""The largest level: every image here is on the scale 0 to 255."""

_BT601 = np.array([65.481, 128.553, 24.966]) / 255
"""Weights of R, G and B in Y, for levels 0 to 255 (ITU-R BT.601, as MATLAB's rgb2ycbcr)."""

_WINDOW_SIDE, _WINDOW_SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def luma(rgb: NDArray[np.uint8] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Y of an RGB image with levels 0 to 255: (H, W, 3) -> (H, W), between 16 and 235, not rounded.

    Published figures of RGB networks leave Y unrounded; rounding it costs 0.02 to 0.09 dB.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"luma takes an RGB image of shape (H, W, 3), not {rgb.shape}")
    return np.asarray(16 + rgb.astype(np.float64) @ _BT601)


def _cropped(
    first: NDArray[np.uint8] | NDArray[np.floating],
    second: NDArray[np.uint8] | NDArray[np.floating],
    border: int,
    least_side: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both channels in double, `border` pixels cut from each side; checks shapes and sizes."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"two channels (H, W) of one shape are compared, not {first.shape} and {second.shape}"
        )
    if border < 0:
        raise ValueError(f"border is a number of pixels of at least 0, not {border}")
    height, width = (side - 2 * border for side in first.shape)
    if min(height, width) < least_side:
        raise ValueError(
            f"a channel of {first.shape[1]}x{first.shape[0]} pixels less {border} on each side is "
            f"too small: {least_side} pixels a side are wanted"
        )
    inside = np.s_[border : border + height, border : border + width]
    return first[inside].astype(np.float64), second[inside].astype(np.float64)


def psnr(
    first: NDArray[np.uint8] | NDArray[np.floating],
    second: NDArray[np.uint8] | NDArray[np.floating],
    *,
    border: int,
) -> float:
    """Peak signal-to-noise ratio in dB of two channels (H, W) with levels 0 to 255.

    `border` pixels are cut from each side first; by custom as many as the scale. Equal channels
    give infinity.
    """
    a, b = _cropped(first, second, border, least_side=1)
    error = float(np.mean(np.square(a - b)))
    return math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)


def _blur(channel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian window means, where the window fits: (H, W) -> (H - 10, W - 10)."""
    at = np.arange(_WINDOW_SIDE) - _WINDOW_SIDE // 2
    taps = np.exp(-np.square(at) / (2 * _WINDOW_SIGMA**2))
    taps /= taps.sum()
    height, width = (side - _WINDOW_SIDE + 1 for side in channel.shape)
    rows = np.zeros((height, channel.shape[1]))
    for k, tap in enumerate(taps):
        rows += tap * channel[k : k + height]
    out = np.zeros((height, width))
    for k, tap in enumerate(taps):
        out += tap * rows[:, k : k + width]
    return out


def ssim(
    first: NDArray[np.uint8] | NDArray[np.floating],
    second: NDArray[np.uint8] | NDArray[np.floating],
    *,
    border: int,
) -> float:
    """Structural similarity of two channels (H, W) with levels 0 to 255.

    Wang et al., IEEE TIP 2004, as its authors' MATLAB code has it: 11x11 Gaussian window of sigma
    1.5, K1 = 0.01, K2 = 0.03, the mean over places where the window fits. `border` pixels are cut
    from each side first.
    """
    a, b = _cropped(first, second, border, least_side=_WINDOW_SIDE)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a * mean_a
    variance_b = _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * PEAK) ** 2, (_K2 * PEAK) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity.mean())
