"""Low and high frequencies of a picture, and how near each comes to the truth (Figures 6 and 7).

The paper says of Set14's barbara at x3, enlarged by RCAN, 26.05 dB in all, 36.72 dB for the low and
7.30 dB for the high frequencies, and names neither kernel nor sigma nor peak. Here the low ones are
what the loss's Gaussian leaves of Y, the high ones what it takes away, the peak is 255 in each.

The three figures contradict each other so: with errors e = e_low + e_high the root mean squares
obey rms(e_high) <= rms(e) + rms(e_low), so that 26.05 and 36.72 dB leave no less than 23.8 dB for
the high frequencies (`least_high_db`). A difference of 8-bit images that wraps around (-1 becomes
255) does give some 5 dB, which `wrapped_db` shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gidrn.losses import HighPass
from gidrn.metrics import luma, psnr

Channel = NDArray[np.float64]

LEVELS = 256
"""Of an 8-bit image."""


@dataclass(frozen=True)
class Nearness:
    """PSNR in dB of one channel in all and in its parts, peak 255, a border cut."""

    all_db: float
    low_db: float
    high_db: float
    wrapped_db: float
    """Of the high frequencies, made of 8-bit images by a subtraction that wraps around."""


def split(channel: Channel, high_pass: HighPass) -> tuple[Channel, Channel]:
    """The low and the high frequencies of (H, W), whose sum it is."""
    x = torch.from_numpy(channel).float()[None, None]
    high = high_pass(x)[0, 0].double().numpy()
    return channel - high, high


def nearness(
    made: NDArray[np.uint8], truth: NDArray[np.uint8], high_pass: HighPass, *, border: int
) -> Nearness:
    """How near an RGB picture's Y comes to the truth's."""
    y, true_y = luma(made), luma(truth)
    (low, high), (true_low, true_high) = split(y, high_pass), split(true_y, high_pass)
    return Nearness(
        psnr(y, true_y, border=border),
        psnr(low, true_low, border=border),
        psnr(high, true_high, border=border),
        psnr(_wrapped(y, high_pass), _wrapped(true_y, high_pass), border=border),
    )


def _wrapped(channel: Channel, high_pass: HighPass) -> Channel:
    whole = np.rint(channel)
    low, _ = split(whole, high_pass)
    return np.asarray((whole - np.rint(low)) % LEVELS)


def least_high_db(all_db: float, low_db: float) -> float:
    """The least PSNR that the high frequencies can have beside these two, with one peak for all."""
    rms = 10 ** (-all_db / 20) + 10 ** (-low_db / 20)
    return -20 * math.log10(rms)
