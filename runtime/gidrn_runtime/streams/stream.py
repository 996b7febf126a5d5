"""`Stream`: frames from a source through an upscaler to a sink, all three at work at once."""

from __future__ import annotations

import logging
import queue as queue_module
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from gidrn_runtime.errors import SourceError
from gidrn_runtime.streams import report, schedule, sinks, sources
from gidrn_runtime.streams.ladder import Climber, Ladder, Rung
from gidrn_runtime.streams.ledger import Ledger
from gidrn_runtime.streams.schedule import Job, Reopen, Schedule
from gidrn_runtime.streams.sinks import Shown
from gidrn_runtime.upscaler import Frame

POLICIES = ("live", "file")
FAILURES = ("count", "raise")
MOST_FAILURES = 10
"""Frames in a row that the upscaler may fail at before a stream that counts failures gives up."""
GRACE_S = 30.0
"""How long `stop` waits for a source or an upscaler that does not return."""
CAPTURE, INFERENCE, OUTPUT = "gidrn capture", "gidrn inference", "gidrn output"
"""Names of a stream's threads."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceEvent:
    """Something that happened to the source."""

    kind: str
    """``lost``: it broke off, ended, or did not open. ``back``: frames come again."""
    reason: str
    retry_in_s: float | None
    """Seconds until it is opened again; None where it is not, or is back."""


@dataclass
class _Outcome:
    """What became of a frame in the sink's hands."""

    job: Job
    cause: str | None
    """Why the sink did not take it; None where it did."""


_OVER = _Outcome(Job(-1, 0.0), None)
"""Asks the output thread to end."""


class Stream:
    """Enlarges the frames of a source one after the other.

        with Upscaler("gidrn_x2") as upscale, Stream("rtsp://camera/1", upscale) as stream:
            for shown in stream:
                screen.show(shown.frame)
        print(stream.statistics())

    Capture and inference each have a thread; output happens in the thread that iterates, or that
    calls `run`, to which a third hands frames over. Between them stand short queues. What happens
    to every frame is in `ledger`: always in = out + dropped + failed + inside, and nothing is
    inside at the end.

    ``live`` is for cameras. The source is read as fast as it gives, so that no delay builds up in
    its buffers; one frame at most waits before inference and one before output, and a newer one
    takes its place. A frame older than `age_ms` is dropped: none is handed over older than that. A
    camera or an address that is lost is opened again, as `reopen` says. A video file runs at its
    own speed.

    ``file`` is for files and folders. Nothing is dropped and order is kept; a slow upscaler or sink
    makes the source wait.

    A Stream runs once. Any thread may call `stop`, `ledger` and `statistics`.
    """

    def __init__(
        self,
        source: Any,
        upscale: Callable[[Frame], Frame],
        policy: str = "live",
        *,
        age_ms: float | None = None,
        queue: int | None = None,
        ladder: Ladder | None = None,
        reopen: Reopen | bool | None = None,
        on_failure: str | None = None,
        on_source: Callable[[SourceEvent], None] | None = None,
        timeout_s: float = 5.0,
        keep: int = 1000,
        clock: sources.Clock = time.monotonic,
    ) -> None:
        """`source` is a camera's index, a device's path (/dev/video0), an address (rtsp://,
        http://, udp://, …), a video file, a folder of images, any iterable of uint8 (H, W, 3)
        frames, or a `sources.Source`. Frames are in `upscale`'s colour order, BGR where it has
        none; an iterable's are taken as they are, and it does not write to one that it has given.
        Sizes may be odd and may change.

        `upscale` is an Upscaler, or any function from frame to frame. It is not closed.

        `age_ms` (live): the age budget, 500 where none is given. An age runs from the moment at
        which the source gave the frame to the one at which the sink is given its enlarged form;
        what the camera and the network took before that is not known.
        `queue` (file): frames that may wait before inference and before output, 4 where none is
        given.
        `ladder` (live): cheaper ways of enlarging, taken while the budget is missed.
        `reopen`: how a lost camera or address is opened again; True, as None with ``live``, is
        `Reopen()`, False, as None with ``file``, is never. An address that ends counts as lost.
        `on_failure`: what an exception of `upscale` does: ``count`` counts the frame as failed and
        goes on, unless MOST_FAILURES fail in a row; ``raise`` ends the stream with it. None is
        ``count`` for live and ``raise`` for file.
        `on_source` is called in the capture thread when the source is lost and when it is back;
        the log of this module tells it too.
        `timeout_s`: how long the network may be silent before it counts as lost.
        `keep`: entries that the ledger keeps. `clock` gives seconds.

        Raises:
            ValueError: an argument that is none of these, or that the policy has no use for.
            FileNotFoundError: `source` is a path with nothing there.
            ImportError: OpenCV or PyAV, which this source needs, is missing.
        """
        if policy not in POLICIES:
            raise ValueError(f"policy is 'live' or 'file', not {policy!r}")
        is_live = policy == "live"
        _refuse("age_ms", age_ms, not is_live, "file policy drops no frame for its age")
        _refuse("ladder", ladder, not is_live, "file policy has no age budget to miss")
        _refuse("queue", queue, is_live, "live policy keeps the newest frame and no other")
        if not callable(upscale):
            raise ValueError(f"upscale is a function of a frame, not {type(upscale).__name__}")
        if on_failure not in (*FAILURES, None):
            raise ValueError(f"on_failure is 'count', 'raise' or None, not {on_failure!r}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is above 0, not {timeout_s}")
        wants_reopening = reopen is not None and reopen is not False
        if reopen is None:
            reopen = is_live
        if isinstance(reopen, bool):
            reopen = Reopen() if reopen else None
        if is_live:
            kind = schedule.live((500.0 if age_ms is None else age_ms) / 1000)
        else:
            kind = schedule.file(4 if queue is None else queue)

        self.ledger = Ledger(keep)
        """The fate of every frame."""
        self._schedule = Schedule(kind, self.ledger, reopen)
        color = getattr(upscale, "color", "bgr")
        self._source = sources.find(source, is_live=is_live, color=color, timeout_s=timeout_s)
        if wants_reopening and not self._source.reopens:
            raise ValueError("reopen has no meaning here: this source ends for good")
        self._reopen = reopen if self._source.reopens else None
        self._rungs = [Rung(name_of(upscale), upscale), *(ladder.rungs if ladder else ())]
        self._climber = Climber(ladder, kind.age_s) if ladder and kind.age_s else None
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._raises = on_failure == "raise" or (on_failure is None and not is_live)
        self._on_source = on_source
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._asked: queue_module.SimpleQueue[_Outcome | None] = queue_module.SimpleQueue()
        self._given: queue_module.SimpleQueue[Job | None] = queue_module.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._began: float | None = None
        self._over: float | None = None
        self._stopping = threading.Event()

    def __iter__(self) -> Iterator[Shown]:
        """The enlarged frames, as they come; a frame counts as out when it is yielded.

        The iteration ends when the source does or `stop` is called; leaving it stops the stream.

        Raises:
            SourceError, OSError: the source cannot be opened, or broke off for good.
            Exception: what the source's iterable or `upscale` raised, as `on_failure` has it.
            RuntimeError: this Stream has run already.
        """
        try:
            self._start(counts_at_once=True)
            while (job := self._next()) is not None:
                shown = _shown(job)
                began = self._clock()
                yield shown
                self.ledger.time("sink", self._clock() - began)
        finally:
            self._finish()
        self._raise_error()

    def run(self, sink: Any) -> report.Statistics:
        """Hand every enlarged frame to `sink` until the stream ends; returns the statistics.

        `sink` is called in this thread. It is a function of the frame; an object with
        `write(frame)` and perhaps `close()`; a `sinks.FolderSink` or `sinks.WindowSink`; or any
        other `sinks.Sink`. One that returns False stops the stream. It is closed at the end.

        Raises:
            Exception: what the sink raised, its frame counted as failed; and as for iteration.
        """
        target = sinks.find(sink)
        outcome: _Outcome | None = None
        goes_on = True
        try:
            self._start(counts_at_once=False)
            while goes_on and (job := self._next(outcome)) is not None:
                outcome = _Outcome(job, "sink: interrupted")
                goes_on = self._put(target, outcome)
        finally:
            try:
                self._finish(outcome)
            finally:
                target.close()
        self._raise_error()
        return self.statistics()

    def stop(self) -> None:
        """End the stream and wait until its threads have ended; any thread may call it, twice too.

        A signal handler starts a thread that calls it, since the main thread cannot wait for
        others in the middle of its own work.

        What is inside is dropped and counted; a frame in a sink's hands counts when it returns.
        Waits for the frame that is being enlarged, and for a source that is silent (`timeout_s` at
        most on the network).

        Raises:
            TimeoutError: a source or an upscaler has not returned for GRACE_S. Its thread ends when
                it does; the ledger is closed without it.
        """
        self._stopping.set()
        self._source.interrupt()
        self._asked.put(_OVER)
        with self._lock:
            self._schedule.stop(self._clock())
            self._changed.notify_all()
        deadline = time.monotonic() + GRACE_S
        others = [one for one in self._threads if one is not threading.current_thread()]
        workers = [one for one in others if one.name != OUTPUT]
        for thread in workers:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in workers if thread.is_alive()]
        with self._lock:
            if stuck:
                self._schedule.abandon(self._clock())
                self._changed.notify_all()
            if self._over is None:
                self._over = self._clock()
        if len(others) == len(self._threads):  # nor does the output thread wait for this one
            for thread in others:
                if thread.name == OUTPUT:
                    thread.join()
        if stuck:
            raise TimeoutError(f"the stream's {' and '.join(stuck)} did not return in {GRACE_S} s")

    def statistics(self) -> report.Statistics:
        """The figures so far; `str` of them is a line."""
        with self._lock:
            now = self._clock() if self._over is None else self._over
            return report.of(self._schedule, self.ledger, self._began, now)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # Ctrl-C may break into the main thread between any two of its instructions. So the consumer's
    # thread, which is mostly the main one, leaves the schedule to others: it asks and is given.

    def _start(self, counts_at_once: bool) -> None:
        """`counts_at_once`: a frame is out when it is given; otherwise when its outcome is told."""
        with self._lock:
            if self._began is not None:
                raise RuntimeError("a Stream runs once; make a new one")
            self._began = self._clock()
            for name, work in (
                (CAPTURE, self._capture),
                (INFERENCE, self._infer),
                (OUTPUT, lambda: self._output(counts_at_once)),
            ):
                thread = threading.Thread(target=work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _next(self, outcome: _Outcome | None = None) -> Job | None:
        """Tell what became of the last frame and wait for one more; None at the end."""
        self._asked.put(outcome)
        while True:
            with suppress(queue_module.Empty):
                return self._given.get(timeout=0.5)  # with a limit: Windows would not notice Ctrl-C

    def _put(self, target: sinks.Sink, outcome: _Outcome) -> bool:
        """Whether the sink took the frame and wants more."""
        began = self._clock()
        try:
            goes_on = target.put(_shown(outcome.job)) is not False
        except BaseException as error:
            outcome.cause = f"sink: {_in_words(error)}"
            raise
        outcome.cause = None
        self.ledger.time("sink", self._clock() - began)
        return goes_on

    def _output(self, counts_at_once: bool) -> None:
        """The output thread: gives a frame whenever it is asked for one."""
        job: Job | None = None
        while (outcome := self._asked.get()) is not _OVER:
            with self._changed:
                self._settle(outcome)
                while (job := self._schedule.hand_over(self._clock())) is None:
                    if self._schedule.hands_over_no_more:
                        break
                    self._changed.wait()
                if job is not None and counts_at_once:
                    self._schedule.delivered(job)
                self._changed.notify_all()  # the worker may have waited for room
            self._given.put(job)
            if job is None:
                return
        self._given.put(None)

    def _settle(self, outcome: _Outcome | None) -> None:
        if outcome is None:
            return
        if outcome.cause is None:
            self._schedule.delivered(outcome.job)
        else:
            self._schedule.fail(outcome.job, self._clock(), outcome.cause)

    def _finish(self, outcome: _Outcome | None = None) -> None:
        """Stop, and close the books: the consumer has left, so nothing is in its hands."""
        try:
            self.stop()
        finally:
            with self._lock:
                self._settle(outcome)
                self._schedule.abandon(self._clock())

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _capture(self) -> None:
        """The capture thread."""
        try:
            while not self._stopping.is_set() and self._read_all():
                pass
        except BaseException as error:  # handed over to the thread that waits
            self._error = self._error or error
        finally:
            with self._changed:
                self._schedule.end()
                self._changed.notify_all()

    def _read_all(self) -> bool:
        """Open the source and read it to its end; whether to open it again."""
        error: SourceError | None = None
        try:
            self._source.open()
            while self._wait_for_room():
                captured = self._source.read(self._clock)
                if captured is None:
                    break
                self._admit(captured)
        except SourceError as caught:
            error = caught
        finally:
            self._source.close()
        if self._stopping.is_set() or (error is None and self._reopen is None):
            return False
        never_came = self.ledger.counts().frames_in == 0
        if error is not None and never_came and not (self._reopen and self._reopen.at_start):
            raise error
        return self._wait_to_reopen(error or SourceError("the source ended"))

    def _wait_for_room(self) -> bool:
        """Wait until the source may be read; False when no frame is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._schedule.has_room or self._schedule.ended)
            return not self._schedule.ended

    def _admit(self, captured: sources.Captured) -> None:
        with self._changed:
            returns = self._schedule.reopenings
            job = self._schedule.arrive(captured.time_in, captured)
            is_back = self._schedule.reopenings > returns
            self._changed.notify_all()
        if job is not None:
            self.ledger.time("decode", captured.decode_s)
        if is_back:
            self._tell(SourceEvent("back", "frames come again", None))

    def _wait_to_reopen(self, error: SourceError) -> bool:
        """After a loss: wait out the back-off. False when the stream stops meanwhile."""
        with self._changed:
            wait_s = self._schedule.lost() if self._reopen else None
        self._tell(SourceEvent("lost", str(error), wait_s))
        if wait_s is None:
            raise error
        return not self._stopping.wait(wait_s)

    def _tell(self, event: SourceEvent) -> None:
        if event.retry_in_s is None:
            _log.warning("source %s: %s", event.kind, event.reason)
        else:
            _log.warning(
                "source %s: %s; opened again in %.1f s", event.kind, event.reason, event.retry_in_s
            )
        if self._on_source is not None:
            self._on_source(event)

    def _infer(self) -> None:
        """The inference thread."""
        failures = 0
        while (job := self._take()) is not None:
            try:
                self._enlarge(job)
                failures = 0
            except BaseException as error:  # the thread that waits gets it, or the ledger alone
                failures += 1
                gives_up = (
                    self._raises or failures >= MOST_FAILURES or not isinstance(error, Exception)
                )
                _log.warning("frame %d failed: %s", job.number, _in_words(error))
                with self._changed:
                    self._schedule.fail(job, self._clock(), _in_words(error))
                    if gives_up:
                        self._error = self._error or error
                        self._schedule.cut(self._clock())
                    self._changed.notify_all()

    def _take(self) -> Job | None:
        """Wait for a frame to enlarge; None when no more comes."""
        with self._changed:
            while True:
                job = self._schedule.take(self._clock())
                if job is not None:
                    self._changed.notify_all()  # the source may have waited for room
                    return job
                if self._schedule.infers_no_more:
                    self._changed.notify_all()  # the last one may just have been dropped
                    return None
                self._changed.wait()

    def _enlarge(self, job: Job) -> None:
        rung = self._rungs[self._climber.rung if self._climber else 0]
        name = job.low.name
        began = self._clock()
        low = job.low.frame()
        copied = self._clock()
        high = rung.upscale(low)
        done = self._clock()
        if not isinstance(high, np.ndarray):
            raise ValueError(f"{rung.name} returned {type(high).__name__} and no frame")
        if self._climber:
            self._check_size(low, high, rung)
        self.ledger.time("copy", copied - began)
        self.ledger.time("infer", done - copied)
        with self._changed:
            self._schedule.inferred(job, self._clock(), rung.name, (high, name))
            if self._climber:
                self._climber.note(done, done - job.time_in)
            self._changed.notify_all()

    def _check_size(self, low: Frame, high: Frame, rung: Rung) -> None:
        """Every rung makes the same size of the same size."""
        size, made = low.shape[:2], high.shape[:2]
        if size not in self._sizes:
            self._sizes = {size: made}
        elif self._sizes[size] != made:
            raise ValueError(
                f"rung {rung.name!r} makes {made} of {size}, another rung {self._sizes[size]}; "
                "all rungs of a ladder enlarge by the same factor"
            )


def name_of(upscale: Callable[[Frame], Frame]) -> str:
    """What frames made by `upscale` are marked with: a model's name and factor, or a function's."""
    describe = getattr(upscale, "describe", None)
    if describe is not None:
        facts = describe()
        return f"{facts['model']}_x{facts['scale']}"
    return getattr(upscale, "__name__", type(upscale).__name__)


def _shown(job: Job) -> Shown:
    frame, name = job.high
    return Shown(frame, job.number, job.time_in, job.time_out, job.made_by or "", name)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refuse(name: str, value: object, refused: bool, reason: str) -> None:
    if refused and value is not None:
        raise ValueError(f"{name} has no meaning here: {reason}")
