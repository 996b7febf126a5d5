"""Intervals of medians, and what a machine's states say against a measurement."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks import noise, records
from benchmarks.records import State

CALM = State("2026-01-01T00:00:00+00:00", 0.1, (3000.0, 3000.0), None, None, None, 100.0, 1.0, None)


@pytest.mark.parametrize(
    ("samples", "low", "high"),
    [
        ([5.0], 5.0, 5.0),
        ([1.0, 3.0], 1.0, 3.0),
        # 8 samples: leaving 0 out at each end keeps 99 %, leaving 1 out only 93 %.
        ([1, 2, 3, 4, 5, 6, 7, 8], 1, 8),
        # 9 samples: leaving 1 out keeps 96 %.
        ([5, 1, 9, 2, 8, 3, 7, 4, 6], 2, 8),
    ],
)
def test_an_interval_runs_between_order_statistics(
    samples: list[float], low: float, high: float
) -> None:
    found = noise.estimate(samples)
    assert (found.low, found.high) == (low, high)
    assert found.low <= found.median <= found.high


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = noise.estimate(list(random.exponential(size=15)))
        held += found.low <= np.log(2) <= found.high
    # 0.95 of 400 is 380; 360 is 4.6 standard deviations below.
    assert held >= 360


def test_a_machine_that_slows_down_widens_the_interval() -> None:
    steady = noise.estimate([10.0, 10.1] * 20)
    slowing = noise.estimate([10.0] * 20 + [13.0] * 20)
    assert steady.noise < 0.01
    assert (slowing.low, slowing.high) == (10.0, 13.0)
    assert slowing.in_words(1) == "11.5 (10.0 to 13.0)"
    with pytest.raises(ValueError, match="at least one"):
        noise.estimate([])


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {}, None),
        ({"load": 3.1}, {}, "load 3.1 on 2 cores"),
        ({"load": 2.1}, {}, None),
        ({}, {"cpu_s": 200.0, "steal_s": 11.0}, "gave 10% of the CPU time"),
        ({}, {"cpu_s": 200.0, "steal_s": 2.0}, None),
        ({}, {"cpu_mhz": (1500.0, 2400.0)}, "the clock changed by -20%"),
        ({"cpu_mhz": None}, {"cpu_mhz": (1.0, 1.0), "steal_s": None}, None),
    ],
)
def test_what_disturbs_is_told(
    before: dict[str, object], after: dict[str, object], says: str | None
) -> None:
    first = dataclasses.replace(CALM, **before)  # type: ignore[arg-type]
    last = dataclasses.replace(CALM, **after)  # type: ignore[arg-type]
    found = noise.disturbances(first, last, cores=2)
    assert all(says is not None and says in text for text in found)
    assert len(found) == (says is not None)


def test_states_are_read_from_this_machine_and_survive_a_file(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = records.state()
    assert now.when.endswith("+00:00")
    if now.cpu_s is not None:
        assert now.steal_s is not None
        assert 0 <= now.steal_s <= now.cpu_s
    assert noise.pulse_ms() > 0
    assert noise.disturbances_of([]) == []
