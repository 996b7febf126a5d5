"""The schedule, the ledger and the histogram, on a virtual clock."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gidrn_runtime.streams import histogram, schedule
from gidrn_runtime.streams.histogram import Histogram
from gidrn_runtime.streams.ledger import (
    LATE_IN,
    LATE_OUT,
    OVERTAKEN_IN,
    OVERTAKEN_OUT,
    STOPPED,
    Ledger,
)
from gidrn_runtime.streams.schedule import Policy, Reopen, Schedule
from tests.runtime.stream_simulation import Scenario, scenarios, simulate


@settings(max_examples=80, deadline=None)
@given(scenarios())
def test_any_stream_keeps_the_rules(scenario: Scenario) -> None:
    simulate(scenario)


CAMERA = Scenario(
    schedule.live(0.2), frames=500, gap_s=0.04, infer_s=0.03, sink_s=0.01, spread=0.0, seed=0
)


def test_a_stream_with_time_to_spare_drops_nothing() -> None:
    counts = simulate(CAMERA).counts
    assert counts.frames_out == 500
    assert counts.dropped == counts.failed == 0


@pytest.mark.parametrize(
    ("change", "cause", "least", "most"),
    [
        # Inference takes three gaps: two of three frames are overtaken, the third is in time.
        ({"infer_s": 0.12}, OVERTAKEN_IN, 300, 350),
        # The sink takes three gaps.
        ({"sink_s": 0.12}, OVERTAKEN_OUT, 300, 350),
        # Inference takes longer than the budget: nothing can be in time.
        ({"infer_s": 0.25}, LATE_OUT, 70, 90),
        # A camera of two frames a second, an inference that is nearly as slow as its gaps.
        ({"gap_s": 0.5, "infer_s": 0.72}, LATE_IN, 245, 250),
    ],
)
def test_an_overloaded_camera(change: dict[str, float], cause: str, least: int, most: int) -> None:
    counts = simulate(dataclasses.replace(CAMERA, **change)).counts  # type: ignore[arg-type]
    assert least <= counts.dropped_by[cause] <= most, counts


def test_a_file_waits_for_a_slow_sink_and_loses_nothing() -> None:
    scenario = dataclasses.replace(CAMERA, policy=schedule.file(2), gap_s=0.0, sink_s=1.0)
    outcome = simulate(scenario)
    assert outcome.order == list(range(500))


def test_a_frame_that_waits_too_long_is_dropped_before_inference_and_before_output() -> None:
    plan = Schedule(schedule.live(1.0), ledger := Ledger())
    plan.arrive(0.0)
    assert plan.take(1.5) is None
    plan.arrive(2.0)
    job = plan.take(2.5)
    assert job is not None
    plan.inferred(job, 2.9, "model")
    assert plan.hand_over(3.01) is None
    assert [entry.cause for entry in ledger.entries] == [LATE_IN, LATE_OUT]
    assert [entry.age_ms for entry in ledger.entries] == pytest.approx([1500, 1010])
    assert ledger.entries[1].made_by == "model"


def test_stop_drops_what_waits_and_what_runs_and_keeps_what_is_handed_over() -> None:
    plan = Schedule(schedule.file(2), ledger := Ledger())
    jobs = []
    for number in range(2):
        plan.arrive(number)
        job = plan.take(number)
        assert job is not None
        jobs.append(job)
        if number == 0:
            plan.inferred(job, 0.5, "model")
    shown = plan.hand_over(1.0)
    assert shown is jobs[0]
    plan.arrive(2.0)
    plan.stop(3.0)
    assert plan.arrive(4.0) is None
    plan.inferred(jobs[1], 5.0, "model")
    plan.delivered(shown)
    assert plan.hands_over_no_more
    counts = ledger.counts()
    assert (counts.frames_in, counts.frames_out, counts.inside) == (3, 1, 0)
    assert counts.dropped_by == {STOPPED: 2}


def test_after_an_error_enlarged_frames_still_go_out() -> None:
    plan = Schedule(schedule.file(2), ledger := Ledger())
    plan.arrive(0.0)
    first = plan.take(0.0)
    assert first is not None
    plan.inferred(first, 1.0, "model")
    plan.arrive(1.0)
    plan.arrive(1.0)
    second = plan.take(1.0)
    assert second is not None
    plan.fail(second, 2.0, "ValueError: no")
    plan.cut(2.0)
    assert plan.infers_no_more
    assert not plan.hands_over_no_more
    shown = plan.hand_over(2.0)
    assert shown is first
    plan.delivered(shown)
    counts = ledger.counts()
    assert (counts.frames_out, counts.failed, counts.dropped) == (1, 1, 1)


def test_what_was_abandoned_may_still_come_back() -> None:
    plan = Schedule(schedule.live(1.0), ledger := Ledger())
    plan.arrive(0.0)
    job = plan.take(0.0)
    assert job is not None
    plan.stop(0.1)
    plan.abandon(0.2)
    assert ledger.counts().dropped_by == {STOPPED: 1}
    plan.inferred(job, 9.0, "model")
    plan.fail(job, 9.0, "late")
    counts = ledger.counts()
    assert (counts.dropped, counts.failed, counts.inside) == (1, 0, 0)


def test_back_off_doubles_to_its_cap_and_a_frame_sets_it_back() -> None:
    plan = Schedule(schedule.live(1.0), Ledger(), Reopen(0.5, 2, 3))
    assert [plan.lost() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert (plan.losses, plan.reopenings) == (1, 0)
    plan.arrive(10.0)
    assert plan.lost() == 0.5
    assert (plan.losses, plan.reopenings) == (2, 1)


def test_back_off_gives_up_where_it_may() -> None:
    plan = Schedule(schedule.live(1.0), Ledger(), Reopen(attempts=2))
    assert [plan.lost() for _ in range(3)] == [0.5, 1.0, None]
    assert Schedule(schedule.live(1.0), Ledger()).lost() is None
    assert Reopen(first_s=1, factor=1, most_s=5).wait_s(10**9) == 1
    assert Reopen(first_s=1, factor=1.0000001, most_s=5).wait_s(10**9) == 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedule.live(0), "age budget"),
        (lambda: schedule.live(float("nan")), "age budget"),
        (lambda: schedule.file(0), "queue"),
        (lambda: schedule.file(True), "queue"),
        (lambda: Reopen(first_s=0), "first_s"),
        (lambda: Reopen(first_s=9, most_s=3), "first_s"),
        (lambda: Reopen(attempts=0), "attempts"),
        (lambda: Ledger(-1), "0 entries"),
    ],
)
def test_settings_that_cannot_be(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()


def test_a_frame_has_one_fate() -> None:
    ledger = Ledger()
    number = ledger.enter(1.0)
    ledger.out(number, 2.0, "model")
    with pytest.raises(KeyError):
        ledger.drop(number, 3.0, STOPPED)
    assert ledger.counts().balanced


def test_a_ledger_keeps_the_last_entries_and_all_counts() -> None:
    ledger = Ledger(keep=3)
    for number in range(10):
        ledger.out(ledger.enter(float(number)), number + 0.5, "model")
    assert [entry.number for entry in ledger.entries] == [7, 8, 9]
    assert ledger.counts().frames_out == 10
    assert ledger.recent_fps(9.5) == pytest.approx(1.0)
    assert ledger.recent_fps(18.5) == pytest.approx(0.5), "nothing has come for nine seconds"


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200))
def test_percentiles_are_as_exact_as_stated(values: list[float]) -> None:
    counted = Histogram()
    for value in values:
        counted.add(value)
    told = counted.percentiles()
    assert told is not None
    exact = np.percentile(values, [50, 90, 99], method="inverted_cdf")
    # Beside the stated error, the rounding of logarithms at a bin's edge.
    np.testing.assert_allclose([told.p50, told.p90, told.p99], exact, rtol=histogram.ERROR + 1e-9)
    assert told.most == max(values)
    assert told.count == len(values)


def test_percentiles_beyond_the_bins() -> None:
    counted = Histogram()
    assert counted.percentiles() is None
    for value in (-1.0, 0.0, 1e-9, 1e9):
        counted.add(value)
    told = counted.percentiles()
    assert told is not None
    assert (told.most, told.count) == (1e9, 4)
    assert 0 <= told.p50 <= 2e-6


def test_policies_are_values() -> None:
    assert schedule.live(0.5) == Policy(0.5, 1, True)
    assert schedule.file(4) == Policy(None, 4, False)
