"""How many times larger one set of samples is than another, with an interval that holds exactly.

No distribution of the samples is supposed and nothing is drawn at random. For pairs, such as times
of the same images: the median of the pairs' ratios, between those order statistics that hold it by
the binomial distribution (the sign test turned round). For samples without partners: the median of
all ratios of a new sample to an old one (Hodges and Lehmann's estimator, of logarithms), between
those that hold it by the null distribution of Mann and Whitney's U. Either interval is wide where
samples are few, and there is none where even samples that do not overlap at all would come by
chance more often than the confidence allows.

The noise that it knows is that of the samples. What differs from run to run and not within one,
such as a neighbour on the machine, it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 40
"""Samples a side up to which U's distribution is counted; above, the normal one stands for it."""


@dataclass(frozen=True)
class Interval:
    """A median ratio and what it lies between with the confidence asked for."""

    ratio: float
    least: float
    most: float


def of_pairs(old: Sequence[float], new: Sequence[float], confidence: float) -> Interval | None:
    """The median of `new[i] / old[i]`; None for too few pairs. All samples are above 0."""
    if len(old) != len(new):
        raise ValueError(f"pairs want as many new samples as old ones: {len(new)}, {len(old)}")
    ratios = np.sort(np.asarray(new, np.float64) / np.asarray(old, np.float64))
    return _between(ratios, outside_median(len(ratios), confidence))


def of_samples(old: Sequence[float], new: Sequence[float], confidence: float) -> Interval | None:
    """The median of all `new[i] / old[j]`; None for too few samples. All are above 0."""
    ratios = np.sort((np.asarray(new, np.float64)[:, None] / np.asarray(old, np.float64)).ravel())
    if max(len(old), len(new)) <= EXACT_UP_TO:
        ways = _ways_of_u(len(old), len(new))
        outside = _outside(ways, sum(ways), confidence)
    else:
        spread = math.sqrt(len(old) * len(new) * (len(old) + len(new) + 1) / 12)
        outside = math.floor(len(ratios) / 2 - _normal_quantile(confidence) * spread)
    return _between(ratios, outside)


def _between(ratios: NDArray[np.float64], outside: int) -> Interval | None:
    """The median and the ratios that leave `outside` of them at each end; None for fewer than 1."""
    if outside < 1:
        return None
    return Interval(float(np.median(ratios)), float(ratios[outside - 1]), float(ratios[-outside]))


def outside_median(count: int, confidence: float) -> int:
    """How many of `count` ordered samples, from either end, leave the median between the last two
    of them: the most that keep `confidence`; 0 where even all samples do not."""
    return _outside([math.comb(count, k) for k in range(count + 1)], 2**count, confidence)


def _outside(ways: Sequence[int], total: int, confidence: float) -> int:
    """The most values from the low end that come together in (1 - confidence) / 2 of all ways."""
    allowed, seen = Fraction(1 - confidence) / 2 * total, 0  # 2^count may be beyond a float
    for count, ways_of_count in enumerate(ways):
        seen += ways_of_count
        if seen > allowed:
            return count
    return len(ways)


def _ways_of_u(first: int, second: int) -> list[int]:
    """In how many orders of both sets U is 0, 1, …, first * second: Gauss's binomial coefficient.

    The coefficients of the product of (1 - x^(second + i)) / (1 - x^i) over i = 1 … first.
    """
    top = first * second
    ways = [1] + [0] * top
    for i in range(1, first + 1):
        for at in range(top, second + i - 1, -1):
            ways[at] -= ways[at - second - i]
        for at in range(i, top + 1):
            ways[at] += ways[at - i]
    return ways


def _normal_quantile(confidence: float) -> float:
    """How many standard deviations either side hold `confidence` of a normal distribution."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if math.erf(middle / math.sqrt(2)) < confidence:
            low = middle
        else:
            high = middle
    return high
