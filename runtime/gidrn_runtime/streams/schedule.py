"""The schedule: which frame is run, waits or is dropped. No threads and no clock of its own.

Whoever drives it says what happened and when, and does what it answers; the stream does so with
threads and a real clock, the tests with a virtual one. So what is proved of it holds for streams.

A frame's way: `arrive` -> (waiting) -> `take` -> (running) -> `inferred` -> (ready) -> `hand_over`
-> (showing) -> `delivered`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gidrn_runtime.streams.ledger import (
    LATE_IN,
    LATE_OUT,
    OVERTAKEN_IN,
    OVERTAKEN_OUT,
    STOPPED,
    Ledger,
)


@dataclass(frozen=True)
class Policy:
    """What happens when frames come faster than they can be used."""

    age_s: float | None
    """No frame older than this is handed over; None for no limit."""
    queue: int
    """Frames that may wait before inference, and as many before output."""
    newest_wins: bool
    """Whether a frame that comes while the queue is full takes the oldest one's place. Otherwise
    the source has to wait."""


def live(age_s: float) -> Policy:
    """For cameras: the newest frame wins, none older than `age_s` seconds is handed over."""
    if not 0 < age_s < float("inf"):
        raise ValueError(f"the age budget is a time above 0, not {1000 * age_s:g} ms")
    return Policy(age_s, queue=1, newest_wins=True)


def file(queue: int) -> Policy:
    """For files: nothing is dropped, order is kept, a full queue makes the source wait."""
    if isinstance(queue, bool) or not isinstance(queue, int) or queue < 1:
        raise ValueError(f"queue is a whole number of frames >= 1, not {queue!r}")
    return Policy(None, queue, newest_wins=False)


@dataclass(frozen=True)
class Reopen:
    """How a lost source is opened again: after `first_s` seconds, then `factor` times that, and so
    on up to `most_s`. The first frame that comes sets it back to `first_s`."""

    first_s: float = 0.5
    factor: float = 2.0
    most_s: float = 30.0
    attempts: int | None = None
    """Give up after so many attempts in a row without a frame; None for never."""
    at_start: bool = False
    """Also keep trying where the source is not there at the very start."""

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.most_s and self.factor >= 1):
            raise ValueError(f"reopening needs 0 < first_s <= most_s and factor >= 1, not {self}")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts is a number >= 1 or None, not {self.attempts}")

    def wait_s(self, attempt: int) -> float | None:
        """Seconds to wait before the `attempt`-th attempt in a row, from 1; None to give up."""
        if self.attempts is not None and attempt > self.attempts:
            return None
        try:
            return min(self.first_s * self.factor ** (attempt - 1), self.most_s)
        except OverflowError:
            return self.most_s


@dataclass(eq=False)
class Job:
    """One frame on its way."""

    number: int
    time_in: float
    low: Any = None
    """What the source gave."""
    high: Any = field(default=None, repr=False)
    """What the upscaler made of it."""
    made_by: str | None = None
    time_out: float = 0.0
    """When it was handed over."""


class Schedule:
    """The state of one stream. One thread at a time may call it. Times are seconds."""

    def __init__(self, policy: Policy, ledger: Ledger, reopen: Reopen | None = None) -> None:
        self.policy = policy
        self.ledger = ledger
        self.losses = 0
        """How often the source was lost, or could not be opened at the start."""
        self.reopenings = 0
        """How often a frame came after a loss."""
        self._reopen = reopen
        self._attempt = 0
        self._waiting: deque[Job] = deque()
        self._ready: deque[Job] = deque()
        self._running: Job | None = None
        self._showing: Job | None = None
        self._ended = False
        self._stopped = False

    @property
    def ended(self) -> bool:
        """Whether no frame comes any more."""
        return self._ended

    @property
    def infers_no_more(self) -> bool:
        """Whether nothing is left for inference, now and in future."""
        return self._ended and not self._waiting

    @property
    def hands_over_no_more(self) -> bool:
        """Whether nothing is left for the sink, now and in future."""
        return self.infers_no_more and not self._ready and self._running is None

    @property
    def has_room(self) -> bool:
        """Whether a frame may arrive; a source that has to wait asks before it reads."""
        return self.policy.newest_wins or len(self._waiting) < self.policy.queue

    def arrive(self, t: float, low: Any = None) -> Job | None:
        """The source gave a frame at time `t`. None once the stream has ended: it is not counted.

        The caller has made sure of `has_room`.
        """
        if self._ended:
            return None
        if self._attempt:
            self._attempt = 0
            self.reopenings += 1
        while self.policy.newest_wins and len(self._waiting) >= self.policy.queue:
            self._drop(self._waiting.popleft(), t, OVERTAKEN_IN)
        job = Job(self.ledger.enter(t), t, low)
        self._waiting.append(job)
        return job

    def take(self, t: float) -> Job | None:
        """The worker is free: the frame to enlarge, or None while there is nothing to do."""
        room = self.policy.newest_wins or len(self._ready) < self.policy.queue
        while room and self._waiting:
            job = self._waiting.popleft()
            if self._is_late(job, t):
                self._drop(job, t, LATE_IN)
            else:
                self._running = job
                return job
        return None

    def inferred(self, job: Job, t: float, made_by: str, high: Any = None) -> None:
        """The worker is done with `job`, which is ready for the sink if it is not too old."""
        if job is not self._running:  # abandoned meanwhile
            return
        self._running = None
        job.low, job.high, job.made_by = None, high, made_by
        if self._stopped:
            self._drop(job, t, STOPPED)
        elif self._is_late(job, t):
            self._drop(job, t, LATE_OUT)
        else:
            while self.policy.newest_wins and len(self._ready) >= self.policy.queue:
                self._drop(self._ready.popleft(), t, OVERTAKEN_OUT)
            self._ready.append(job)

    def hand_over(self, t: float) -> Job | None:
        """The sink is free: the frame to show, its `time_out` set, or None while there is none."""
        while self._ready:
            job = self._ready.popleft()
            if self._is_late(job, t):
                self._drop(job, t, LATE_OUT)
            else:
                job.time_out = t
                self._showing = job
                return job
        return None

    def delivered(self, job: Job) -> None:
        """The sink has `job`."""
        if job is self._showing:
            self._showing = None
            self.ledger.out(job.number, job.time_out, job.made_by or "")

    def fail(self, job: Job, t: float, cause: str) -> None:
        """The worker could not enlarge `job`, or the sink did not take it."""
        if job is self._running:
            self._running = None
        elif job is self._showing:
            self._showing = None
        else:  # abandoned meanwhile
            return
        self.ledger.fail(job.number, t, cause, job.made_by)

    def lost(self) -> float | None:
        """The source broke off or did not open: seconds until the next attempt, None to give up.

        The caller then ends the stream.
        """
        if self._attempt == 0:
            self.losses += 1
        self._attempt += 1
        return None if self._reopen is None else self._reopen.wait_s(self._attempt)

    def end(self) -> None:
        """No frame comes any more; those inside go on."""
        self._ended = True

    def cut(self, t: float) -> None:
        """End after an error: frames that wait for inference are dropped, enlarged ones go on."""
        self._ended = True
        while self._waiting:
            self._drop(self._waiting.popleft(), t, STOPPED)

    def stop(self, t: float) -> None:
        """End at once: whatever waits is dropped, and what runs will be when it returns."""
        self.cut(t)
        self._stopped = True
        while self._ready:
            self._drop(self._ready.popleft(), t, STOPPED)

    def abandon(self, t: float) -> None:
        """Close the books although the worker or the sink has not returned; after `stop`."""
        for job in (self._running, self._showing):
            if job is not None:
                self._drop(job, t, STOPPED)
        self._running = self._showing = None

    def _is_late(self, job: Job, t: float) -> bool:
        return self.policy.age_s is not None and t - job.time_in > self.policy.age_s

    def _drop(self, job: Job, t: float, cause: str) -> None:
        self.ledger.drop(job.number, t, cause, job.made_by)
        job.low = job.high = None
