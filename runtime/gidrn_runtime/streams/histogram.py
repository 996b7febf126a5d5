"""Percentiles of a quantity that never ends, in memory that never grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEAST = 1e-6
"""What lies below is counted here: a microsecond, where the unit is seconds."""
MOST = 1e6
"""What lies above is counted here."""
GROWTH = 1.02
"""Each bin reaches from its lower edge to GROWTH times that."""
ERROR = math.sqrt(GROWTH) - 1
"""Largest relative error of a percentile between LEAST and MOST: a value is told as the geometric
middle of its bin, 0.995 % from either edge."""


@dataclass(frozen=True)
class Percentiles:
    """Three percentiles, each within `ERROR` of a value that was seen, and the exact greatest."""

    p50: float
    p90: float
    p99: float
    most: float
    count: int

    def in_ms(self) -> Percentiles:
        """The same of seconds, in milliseconds."""
        p50, p90, p99, most = (1000 * value for value in (self.p50, self.p90, self.p99, self.most))
        return Percentiles(p50, p90, p99, most, self.count)


class Histogram:
    """Counts of values >= 0 in bins of equal ratio: some 11 KiB, however many values come."""

    def __init__(self) -> None:
        bins = math.ceil(math.log(MOST / LEAST) / math.log(GROWTH)) + 1
        self._counts = np.zeros(bins, np.int64)
        self._least, self._most = math.inf, 0.0

    def add(self, value: float) -> None:
        """Count one value; a negative one, as a clock that was set back gives, counts as 0."""
        value = max(value, 0.0)
        held = min(max(value, LEAST), MOST)
        self._counts[int(math.log(held / LEAST) / math.log(GROWTH))] += 1
        self._least, self._most = min(self._least, value), max(self._most, value)

    def percentiles(self) -> Percentiles | None:
        """p50, p90 and p99 by nearest rank, and the greatest value; None before the first value."""
        upto = np.cumsum(self._counts)
        total = int(upto[-1])
        if not total:
            return None
        ranks = [math.ceil(q * total / 100) for q in (50, 90, 99)]
        bins = np.searchsorted(upto, ranks)
        middles = [LEAST * GROWTH ** (float(number) + 0.5) for number in bins]
        p50, p90, p99 = (min(max(middle, self._least), self._most) for middle in middles)
        return Percentiles(p50, p90, p99, self._most, total)
