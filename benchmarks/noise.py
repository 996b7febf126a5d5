"""How far a median of repeated runs may be trusted, and how steady the machine was meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.median_ratios import outside_median
from benchmarks.records import Record, State

CONFIDENCE = 0.95

PULSE_NUMBERS, PULSE_RUNS = 100_000, 25
"""How many sines are the machine's pulse, and how often they are timed."""

MOST_PULSE_SPREAD = 0.10
"""Change of the pulse over a run beyond which the machine is called unsteady."""
MOST_STEAL = 0.02
"""Share of CPU time given to other virtual machines beyond which it is called busy."""
MOST_LOAD_BEFORE = 1.25
"""Load a core, before a measurement, beyond which others must have used the machine: what measured
before it, on all cores, makes about 1."""
MOST_CLOCK_CHANGE = 0.05
"""Change of the clock over a measurement beyond which it is called unsteady."""


@dataclass(frozen=True)
class Estimate:
    """A median, and the interval in which it lies with CONFIDENCE."""

    median: float
    low: float
    high: float
    samples: int

    @property
    def noise(self) -> float:
        """Half the interval's width as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0

    def in_words(self, digits: int) -> str:
        """Such as "1.35 (1.31 to 1.40)"."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def estimate(samples: Sequence[float]) -> Estimate:
    """The median and its interval from the samples in the order in which they were taken.

    The interval runs between order statistics (Conover, Practical Nonparametric Statistics, 3.2),
    whatever the distribution; samples too few for CONFIDENCE give their range. It supposes
    independent samples, and a machine that gets slower for a while does not give such: the medians
    of the first and of the second half are taken into it. Raises ValueError for no samples.
    """
    if not samples:
        raise ValueError("an estimate needs at least one sample")
    ordered, count = sorted(samples), len(samples)
    cut = max(outside_median(count, CONFIDENCE) - 1, 0)
    low, high = ordered[cut], ordered[count - 1 - cut]
    if count >= 4:
        halves = [
            statistics.median(part) for part in (samples[: count // 2], samples[count // 2 :])
        ]
        low, high = min(low, *halves), max(high, *halves)
    return Estimate(statistics.median(samples), low, high, count)


def pulse_ms() -> float:
    """Milliseconds of the same sines on one thread, the median: the machine's own pace now."""
    numbers = np.linspace(0, 100, PULSE_NUMBERS)
    taken = []
    for _ in range(PULSE_RUNS):
        began = time.perf_counter_ns()
        np.sin(numbers)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return statistics.median(taken)


def disturbances(before: State | None, after: State | None, cores: int) -> list[str]:
    """What a machine's two states say against a measurement between them; [] for nothing."""
    if before is None or after is None:
        return []
    found = []
    if before.load is not None and before.load > MOST_LOAD_BEFORE * cores:
        found.append(f"load {before.load:.1f} on {cores} cores before it began")
    share = stolen(before, after)
    if share is not None and share > MOST_STEAL:
        found.append(f"the host gave {share:.0%} of the CPU time to others")
    if before.cpu_mhz is not None and after.cpu_mhz is not None:
        change = after.cpu_mhz[1] / before.cpu_mhz[1] - 1
        if abs(change) > MOST_CLOCK_CHANGE:
            found.append(f"the clock changed by {change:+.0%}")
    return found


def stolen(before: State, after: State) -> float | None:
    """Share of the CPU time between two states that a virtual machine's host gave to others."""
    seconds = [before.cpu_s, after.cpu_s, before.steal_s, after.steal_s]
    known = [one for one in seconds if one is not None]
    if len(known) < len(seconds) or known[1] <= known[0]:
        return None
    return (known[3] - known[2]) / (known[1] - known[0])


def disturbances_of(found: Sequence[Record]) -> list[str]:
    """The same over all records of a part, from the first one's beginning to the last one's end."""
    if not found:
        return []
    first, last = found[0].where, found[-1].after
    return disturbances(first.state, last, first.cores)
