"""The ledger: what became of every frame, kept in bounded memory.

At every moment, in = out + dropped + failed + inside; at the end nothing is inside.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from gidrn_runtime.streams.histogram import Histogram, Percentiles

OUT, DROPPED, FAILED = "out", "dropped", "failed"

OVERTAKEN_IN = "overtaken before inference"
OVERTAKEN_OUT = "overtaken before output"
LATE_IN = "too old before inference"
LATE_OUT = "too old before output"
STOPPED = "stopped"
CAUSES = (OVERTAKEN_IN, OVERTAKEN_OUT, LATE_IN, LATE_OUT, STOPPED)
"""Why a frame is dropped. Overtaken: a newer one came while it waited. Stopped: the stream was
stopped, or broke off after an error, while the frame was inside."""

STAGES = ("decode", "copy", "infer", "sink")
RECENT = 64
"""Frames out over which the present frame rate is told."""


@dataclass(frozen=True)
class Entry:
    """The fate of one frame. Times are seconds of the stream's clock."""

    number: int
    """Counts the frames that came in, from 0."""
    time_in: float
    """When the source gave it, before it was decoded where the source can tell the two apart."""
    time_out: float
    """When it was handed to the sink, or when it was dropped or failed."""
    fate: str
    """`OUT`, `DROPPED` or `FAILED`."""
    made_by: str | None
    """What enlarged it; None where nothing did."""
    cause: str | None
    """One of `CAUSES` for a frame dropped, the error's words for one that failed."""

    @property
    def age_ms(self) -> float:
        """From time in to time out."""
        return 1000 * (self.time_out - self.time_in)


@dataclass(frozen=True)
class Counts:
    """How many frames came in, and what became of them."""

    frames_in: int
    frames_out: int
    dropped: int
    failed: int
    inside: int
    """Still waiting, being enlarged or in the sink's hands."""
    dropped_by: Mapping[str, int]
    """Cause -> frames."""
    made_by: Mapping[str, int]
    """What enlarged them -> frames out."""

    @property
    def balanced(self) -> bool:
        """in = out + dropped + failed + inside."""
        return self.frames_in == self.frames_out + self.dropped + self.failed + self.inside


class Ledger:
    """Counts for ever, percentiles for ever, and the entries of the last `keep` frames.

    Any thread may read it at any time. A frame is entered once and closed once: closing one that is
    not inside raises KeyError, so that the books cannot be cooked by a second fate.
    """

    def __init__(self, keep: int = 1000) -> None:
        """Keep the entries of the last `keep` frames closed. Raises ValueError below 0."""
        if keep < 0:
            raise ValueError(f"a ledger keeps 0 entries or more, not {keep}")
        self._lock = threading.RLock()  # a signal handler may come in between and ask too
        self._inside: dict[int, float] = {}
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._frames_in = self._frames_out = self._failed = 0
        self._dropped_by: Counter[str] = Counter()
        self._made_by: Counter[str] = Counter()
        self._ages = Histogram()
        self._stages = {stage: Histogram() for stage in STAGES}

    def enter(self, time_in: float) -> int:
        """A frame has come in; returns its number."""
        with self._lock:
            number = self._frames_in
            self._frames_in += 1
            self._inside[number] = time_in
            return number

    def out(self, number: int, time_out: float, made_by: str) -> None:
        """Frame `number` was handed to the sink at `time_out`."""
        with self._lock:
            entry = self._close(number, time_out, OUT, made_by, None)
            self._frames_out += 1
            self._made_by[made_by] += 1
            self._ages.add(entry.time_out - entry.time_in)
            self._recent.append(time_out)

    def drop(self, number: int, time_out: float, cause: str, made_by: str | None = None) -> None:
        """Frame `number` was dropped for `cause`."""
        with self._lock:
            self._close(number, time_out, DROPPED, made_by, cause)
            self._dropped_by[cause] += 1

    def fail(self, number: int, time_out: float, cause: str, made_by: str | None = None) -> None:
        """Frame `number` could not be enlarged, or the sink did not take it."""
        with self._lock:
            self._close(number, time_out, FAILED, made_by, cause)
            self._failed += 1

    def time(self, stage: str, seconds: float) -> None:
        """One frame spent `seconds` in `stage`, one of `STAGES`."""
        with self._lock:
            self._stages[stage].add(seconds)

    def counts(self) -> Counts:
        """The counters of one moment."""
        with self._lock:
            return Counts(
                frames_in=self._frames_in,
                frames_out=self._frames_out,
                dropped=self._dropped_by.total(),
                failed=self._failed,
                inside=len(self._inside),
                dropped_by=dict(self._dropped_by),
                made_by=dict(self._made_by),
            )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The last frames closed, in the order in which they were."""
        with self._lock:
            return tuple(self._entries)

    def ages(self) -> Percentiles | None:
        """Ages in seconds of all frames that went out; None before the first."""
        with self._lock:
            return self._ages.percentiles()

    def stages(self) -> dict[str, Percentiles]:
        """Seconds a frame by stage; stages that nothing passed are left out."""
        with self._lock:
            told = {stage: times.percentiles() for stage, times in self._stages.items()}
        return {stage: times for stage, times in told.items() if times is not None}

    def recent_fps(self, now: float) -> float | None:
        """Frames a second from the oldest of the last `RECENT` frames out until `now`; None before
        the second."""
        with self._lock:
            if len(self._recent) < 2 or now <= self._recent[0]:
                return None
            return (len(self._recent) - 1) / (now - self._recent[0])

    def _close(
        self, number: int, time_out: float, fate: str, made_by: str | None, cause: str | None
    ) -> Entry:
        entry = Entry(number, self._inside.pop(number), time_out, fate, made_by, cause)
        self._entries.append(entry)
        return entry
