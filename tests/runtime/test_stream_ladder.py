"""The quality ladder: when it changes, and what its rungs make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams import ladder, schedule
from gidrn_runtime.streams.ladder import Climber, Ladder, Rung
from tests.runtime.one_by_one import OneByOne
from tests.runtime.stream_simulation import Scenario, simulate

RUNGS = [Rung("half", lambda frame: frame), Rung("bicubic", lambda frame: frame)]
BUDGET_S = 0.2


def play(climber: Climber, ages_s: list[float], seconds: float, start: float = 0.0) -> list[int]:
    """Frames at 25 a second whose age is that of the rung in use; the rungs, frame by frame."""
    rungs = []
    for number in range(round(25 * seconds)):
        climber.note(start + number / 25, ages_s[climber.rung])
        rungs.append(climber.rung)
    return rungs


def test_steps_down_while_the_budget_is_missed_and_back_up_when_the_load_is_gone() -> None:
    climber = Climber(Ladder(RUNGS), BUDGET_S)
    assert play(climber, [0.1, 0.1, 0.1], 10)[-1] == 0
    rungs = play(climber, [0.5, 0.4, 0.15], 4, start=10)
    assert rungs[:4] == [0] * 4, "one miss is no reason"
    assert rungs[4] == 1
    assert rungs[-1] == 2, "the middle rung misses the budget too"
    rungs = play(climber, [0.1, 0.05, 0.01], 30, start=14)
    assert sorted(set(rungs)) == [0, 1, 2], "one step at a time"
    assert rungs[-1] == 0
    assert climber.switches == 4


def test_a_miss_now_and_then_changes_nothing() -> None:
    climber = Climber(Ladder(RUNGS), BUDGET_S)
    for number in range(10_000):
        climber.note(number / 25, 0.5 if number % 10 == 0 else 0.1)
    assert climber.switches == 0


def test_ages_near_the_budget_are_no_reason_to_climb() -> None:
    climber = Climber(Ladder(RUNGS), BUDGET_S)
    assert set(play(climber, [0.5, 0.19, 0.01], 1000)[10:]) == {1}


def test_an_outage_proves_nothing() -> None:
    climber = Climber(Ladder(RUNGS), BUDGET_S)
    play(climber, [0.5, 0.1, 0.1], 1)
    assert climber.rung == 1
    climber.note(1000.0, 0.1)
    assert climber.rung == 1


@settings(max_examples=60, deadline=None)
@given(
    ages=st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3).map(
        lambda ages: sorted(ages, reverse=True)
    ),
    hold_s=st.floats(0.5, 10),
    longer=st.floats(1, 60),
    patience=st.integers(1, 20),
    comfort=st.floats(0.1, 1.0),
)
def test_a_constant_load_does_not_make_it_swing(
    ages: list[float], hold_s: float, longer: float, patience: int, comfort: float
) -> None:
    """Each failed step up doubles the wait before the next, up to its cap."""
    rungs = Ladder(RUNGS, patience, comfort, hold_s, hold_s * longer)
    climber = Climber(rungs, BUDGET_S)
    seconds = 300.0
    play(climber, ages, seconds)
    climbs = math.log2(longer) + seconds / (hold_s * longer) + 2
    assert climber.switches <= len(RUNGS) + 2 * climbs


def test_an_overloaded_camera_delivers_more_with_a_ladder() -> None:
    camera = Scenario(
        schedule.live(BUDGET_S),
        frames=3000,
        gap_s=0.04,
        infer_s=0.5,
        sink_s=0.001,
        spread=0.0,
        seed=0,
    )
    without = simulate(camera)
    outcome = simulate(dataclasses.replace(camera, climbs=True))
    assert without.counts.frames_out == 0
    assert outcome.counts.frames_out > 700
    assert set(outcome.counts.made_by) == {"rung 2"}
    assert outcome.switches == 2


# A rung for each way, on a model that repeats every pixel.


def test_the_middle_is_the_models_and_the_rest_bicubic(
    upscale: Upscaler, repeat: Callable[..., np.ndarray]
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    high = ladder.centred(upscale, 2, 0.7)(frame)
    bicubic = ladder.bicubic(2)(frame)
    assert high.shape == bicubic.shape == (122, 166, 3)
    assert high.dtype == np.uint8
    np.testing.assert_array_equal(high[:16], bicubic[:16])
    np.testing.assert_array_equal(high[50:72, 70:96], repeat(frame)[50:72, 70:96])


def test_the_region_fades_into_its_surroundings() -> None:
    """White on black: no step at the border larger than the fade's own."""
    frame = np.zeros((80, 80, 3), np.uint8)

    def white(part: np.ndarray) -> np.ndarray:
        return np.full((2 * part.shape[0], 2 * part.shape[1], 3), 255, np.uint8)

    row = ladder.centred(white, 2, 0.5)(frame)[80, :, 0].astype(int)
    assert row.max() == 255
    assert row[0] == 0
    assert np.abs(np.diff(row)).max() <= math.ceil(255 / (2 * ladder.MARGIN))
    np.testing.assert_array_equal(row, row[::-1])


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (2, 3), (3, 200)])
def test_rungs_take_any_size(upscale: Upscaler, size_hw: tuple[int, int]) -> None:
    frame = np.full((*size_hw, 3), 200, np.uint8)
    rungs = ladder.lower_rungs(upscale)
    assert [rung.name for rung in rungs] == ["centre 0.7", "centre 0.5", "bicubic"]
    for rung in rungs:
        high = rung.upscale(frame)
        assert high.shape == (2 * size_hw[0], 2 * size_hw[1], 3)
        assert set(np.unique(high)) == {200}


def test_a_model_of_a_lower_factor_is_finished_bicubically(upscale: Upscaler) -> None:
    frame = np.full((5, 7, 3), 99, np.uint8)
    high = ladder.finished(upscale, 4)(frame)
    assert high.shape == (20, 28, 3)
    assert set(np.unique(high)) == {99}
    with pytest.raises(ValueError, match="lower factor than 2"):
        ladder.finished(upscale, 2)


@pytest.fixture
def camera() -> OneByOne:
    """Sixty frames, 40 ms apart."""
    return OneByOne(np.zeros((60, 4, 6, 3), np.uint8))


@pytest.fixture
def slow(camera: OneByOne, upscale: Upscaler) -> Callable[[np.ndarray], np.ndarray]:
    """The model; a frame takes it a second of the stream's clock."""

    def enlarge(frame: np.ndarray) -> np.ndarray:
        camera.now += 1.0
        return upscale(frame)

    return enlarge


def test_each_frame_says_which_rung_made_it(camera: OneByOne, slow: Any) -> None:
    rungs = Ladder([Rung("bicubic", ladder.bicubic(2))], patience=3)
    with Stream(camera, slow, age_ms=500, ladder=rungs, clock=camera.clock) as stream:
        camera.stream = stream
        made = [shown.made_by for shown in stream]
    counts = stream.ledger.counts()
    assert made == ["bicubic"] * 57
    assert counts.dropped == 3
    assert counts.made_by == {"bicubic": 57}
    assert [entry.made_by for entry in stream.ledger.entries[:4]] == ["enlarge"] * 3 + ["bicubic"]


def test_rungs_of_another_size_are_refused(camera: OneByOne, slow: Any) -> None:
    wrong = Ladder([Rung("same size", lambda frame: frame)], patience=1)
    with Stream(
        camera, slow, age_ms=500, ladder=wrong, on_failure="raise", clock=camera.clock
    ) as stream:
        camera.stream = stream
        with pytest.raises(ValueError, match="rung 'same size' makes"):
            list(stream)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"rungs": []}, "one rung or more"),
        ({"rungs": [RUNGS[0], RUNGS[0]]}, "its own name"),
        ({"patience": 0}, "patience"),
        ({"comfort": 1.5}, "comfort"),
        ({"hold_s": 10, "most_hold_s": 5}, "hold_s"),
    ],
)
def test_ladders_that_cannot_be(settings_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Ladder(**{"rungs": RUNGS, **settings_})


def test_a_region_is_part_of_the_frame(upscale: Upscaler) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ladder.centred(upscale, 2, 1.0)
