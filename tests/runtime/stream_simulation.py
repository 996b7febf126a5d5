"""Streams on a virtual clock: the real `Schedule`, `Ledger` and `Climber`, played at full speed.

    python -m tests.runtime.stream_simulation --frames 3000000

Hypothesis chooses how fast frames come, how long inference and output take, what fails, what is
lost and when the stream is stopped; `simulate` plays it and checks the rules at every event.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gidrn_runtime.streams import schedule
from gidrn_runtime.streams.ladder import Climber, Ladder, Rung
from gidrn_runtime.streams.ledger import (
    LATE_IN,
    LATE_OUT,
    OVERTAKEN_IN,
    OVERTAKEN_OUT,
    STOPPED,
    Counts,
    Ledger,
)
from gidrn_runtime.streams.schedule import Job, Policy, Reopen, Schedule

LADDER = Ladder([Rung(f"rung {number}", lambda frame: frame) for number in (1, 2, 3)])


@dataclass(frozen=True)
class Scenario:
    """One stream's life. Times are seconds; each is a mean that every frame departs from."""

    policy: Policy
    frames: int
    gap_s: float
    infer_s: float
    sink_s: float
    spread: float
    """0: every time is its mean; above, times vary log-normally by this."""
    seed: int
    loss: float = 0.0
    """Chance of each read to find the source lost; reopening fails as often as not."""
    failure: float = 0.0
    """Chance of each frame to fail in inference, and of a tenth of it in the sink."""
    stop_at: float | None = None
    """Frames read before the stream is stopped, or None to run to the end."""
    climbs: bool = False
    """Whether a ladder is in use; each rung down takes half the time."""


@dataclass
class Outcome:
    """What a simulation found; it has kept every rule, or it would have raised."""

    counts: Counts
    ledger: Ledger
    switches: int
    order: list[int] = field(repr=False)
    """Numbers of frames in the order of output."""


class Simulation:
    """Plays one scenario, event by event."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.ledger = Ledger(keep=64)
        self.schedule = Schedule(scenario.policy, self.ledger, Reopen(0.5, 2, 8))
        age_s = scenario.policy.age_s
        self.climber = Climber(LADDER, age_s) if scenario.climbs and age_s else None
        self.now = 0.0
        self.random = np.random.default_rng(scenario.seed)
        self.draws = self._draws()
        self.events: list[tuple[float, int, str, Job | None]] = []
        self.sequence = 0
        self.reads = self.latest = 0
        self.reading = self.working = self.showing = self.stopped = False
        self.order: list[int] = []

    def run(self) -> Outcome:
        """Play it to the end, then check the books."""
        self._read_next()
        while self.events:
            t, _, kind, job = heapq.heappop(self.events)
            assert t >= self.now
            self.now = t
            getattr(self, f"_{kind}")(job)
            self._start_what_can()
            self._check()
        counts = self.ledger.counts()
        assert self.schedule.hands_over_no_more
        assert counts.inside == 0
        assert counts.frames_in == counts.frames_out + counts.dropped + counts.failed
        self._check_causes(counts)
        return Outcome(
            counts, self.ledger, self.climber.switches if self.climber else 0, self.order
        )

    def _draws(self) -> Iterator[Any]:
        """Four standard normals and three uniforms a call, drawn a thousand calls at a time."""
        while True:
            normals = np.exp(self.scenario.spread * self.random.standard_normal((1000, 3))).tolist()
            uniforms = self.random.random((1000, 3)).tolist()
            yield from zip(normals, uniforms, strict=True)

    def _after(self, seconds: float, kind: str, job: Job | None = None) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (self.now + seconds, self.sequence, kind, job))

    # What the three threads do, each as its event.

    def _arrive(self, _: None) -> None:
        self.reading = False
        _, (lost, _, _) = self.draw
        if lost < self.scenario.loss:
            wait_s = self.schedule.lost()
            assert wait_s is not None
            assert 0 < wait_s <= 8
            self.reading = True
            self._after(wait_s, "reopen")
            return
        self.reads += 1
        job = self.schedule.arrive(self.now)
        assert (job is None) == self.stopped
        if job is not None:
            assert job.number == self.latest
            self.latest += 1
        if self.reads >= self.scenario.frames:
            self.schedule.end()
        elif self.scenario.stop_at is not None and self.reads >= self.scenario.stop_at:
            self.stopped = True
            self.schedule.stop(self.now)

    def _reopen(self, _: None) -> None:
        self.reading = False

    def _infer_done(self, job: Job) -> None:
        self.working = False
        _, (_, failure, _) = self.work
        if failure < self.scenario.failure:
            self.schedule.fail(job, self.now, "failure of the simulation")
            return
        rung = self.climber.rung if self.climber else 0
        self.schedule.inferred(job, self.now, f"rung {rung}")
        if self.climber:
            self.climber.note(self.now, self.now - job.time_in)

    def _sink_done(self, job: Job) -> None:
        self.showing = False
        if self.sink[1][2] < self.scenario.failure / 10:
            self.schedule.fail(job, self.now, "the sink of the simulation")
        else:
            self.schedule.delivered(job)
            self.order.append(job.number)

    def _start_what_can(self) -> None:
        """Until nothing more can begin at this moment."""
        while self._read_next() or self._work_next() or self._show_next():
            pass

    def _read_next(self) -> bool:
        if self.reading or self.schedule.ended or not self.schedule.has_room:
            return False
        self.reading = True
        self.draw = next(self.draws)
        self._after(self.scenario.gap_s * self.draw[0][0], "arrive")
        return True

    def _work_next(self) -> bool:
        if self.working or (job := self.schedule.take(self.now)) is None:
            return False
        policy = self.scenario.policy
        if policy.newest_wins:
            assert job.number == self.latest - 1, "not the newest frame"
        if policy.age_s is not None:
            assert self.now - job.time_in <= policy.age_s
        self.working = True
        self.work = next(self.draws)
        faster = 0.5**self.climber.rung if self.climber else 1
        self._after(self.scenario.infer_s * faster * self.work[0][1], "infer_done", job)
        return True

    def _show_next(self) -> bool:
        if self.showing or (job := self.schedule.hand_over(self.now)) is None:
            return False
        age_s = self.scenario.policy.age_s
        assert age_s is None or job.time_out - job.time_in <= age_s, "older than the budget"
        self.showing = True
        self.sink = next(self.draws)
        self._after(self.scenario.sink_s * self.sink[0][2], "sink_done", job)
        return True

    # The rules.

    def _check(self) -> None:
        counts = self.ledger.counts()
        assert counts.balanced
        queue = self.scenario.policy.queue
        assert counts.inside <= 2 * queue + 2, "a queue grows"

    def _check_causes(self, counts: Counts) -> None:
        assert self.order == sorted(set(self.order)), "out of order"
        assert counts.frames_out == len(self.order)
        allowed = set()
        if self.scenario.policy.newest_wins:
            allowed = {LATE_IN, LATE_OUT, OVERTAKEN_IN, OVERTAKEN_OUT}
        if self.stopped:
            allowed.add(STOPPED)
        assert set(counts.dropped_by) <= allowed
        if not self.stopped:
            assert counts.frames_in == self.scenario.frames
        ages = self.ledger.ages()
        if ages is not None and self.scenario.policy.age_s is not None:
            assert ages.p99 <= ages.most <= self.scenario.policy.age_s
        assert (self.schedule.losses > 0) or self.schedule.reopenings == 0
        assert 0 <= self.schedule.losses - self.schedule.reopenings <= 1


def simulate(scenario: Scenario) -> Outcome:
    """Play `scenario`; raises AssertionError where a rule is broken."""
    return Simulation(scenario).run()


times = st.floats(0.0, 2.0) | st.sampled_from([0.0, 0.001, 0.04])
policies = st.one_of(
    st.builds(schedule.live, st.floats(0.001, 3.0)), st.builds(schedule.file, st.integers(1, 5))
)


@st.composite
def scenarios(draw: st.DrawFn, most_frames: int = 300) -> Scenario:
    """Any stream's life."""
    frames = draw(st.integers(1, most_frames))
    return Scenario(
        policy=draw(policies),
        frames=frames,
        gap_s=draw(times),
        infer_s=draw(times),
        sink_s=draw(times),
        spread=draw(st.sampled_from([0.0, 0.3, 1.5])),
        seed=draw(st.integers(0, 2**32 - 1)),
        loss=draw(st.sampled_from([0.0, 0.0, 0.01, 0.4])),
        failure=draw(st.sampled_from([0.0, 0.0, 0.02, 0.5])),
        stop_at=draw(st.none() | st.integers(1, frames)),
        climbs=draw(st.booleans()),
    )


def main() -> None:
    """Simulate as many frames as --frames says, in scenarios that hypothesis chooses."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--frames", type=int, default=3_000_000)
    wanted = parser.parse_args().frames
    found = {"frames": 0, "scenarios": 0, "out": 0, "dropped": 0, "failed": 0}

    @settings(
        max_examples=1000,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(scenarios(most_frames=5000))
    def play(scenario: Scenario) -> None:
        if found["frames"] >= wanted:
            return
        counts = simulate(scenario).counts
        found["scenarios"] += 1
        found["frames"] += counts.frames_in
        found["out"] += counts.frames_out
        found["dropped"] += counts.dropped
        found["failed"] += counts.failed

    while found["frames"] < wanted:
        play()
        sys.stdout.write(f"{found['frames']:,} frames\n")
        sys.stdout.flush()
    told = ", ".join(f"{name} {number:,}" for name, number in found.items())
    sys.stdout.write(f"no rule broken: {told}\n")


if __name__ == "__main__":
    main()
