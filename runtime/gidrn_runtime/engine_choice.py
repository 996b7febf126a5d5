"""Which engine of the CPU ``auto`` takes: the fastest here, by a short measurement that is kept.

The table's order is a guess about a machine that nobody has seen. Where several engines of the CPU
take a file, an `Upscaler` therefore times them when its first frame comes, when alone the size is
known, and keeps the outcome in a file of the user's cache folder; from then on each Upscaler reads
it there. It stays on one engine from its first frame to its last, so that a picture never changes
in the middle of a stream.

What that may cost is bounded. The frame that is timed is made here and is small: as large as the
first engine of the table enlarges in `RUN_S`, and no larger than the frame that came. Each engine
runs it twice to warm up and at most `ROUNDS` times, in turns, and no round begins after `BUDGET_S`.
Engines that take long to open (`Engine.opens_slowly`) are left out; ``python -m gidrn_runtime
doctor --measure`` times these too, on a frame of the very size, and what it finds counts alike.

Frames are told apart by their number of pixels, in steps of four times; above `LARGEST_BUCKET` all
are alike unless the doctor has measured them. An engine whose picture is more than a level from the
first one's is not taken, nor is one that does not beat the table's order by more than `CLOSENESS`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime import engines, image_files, processor
from gidrn_runtime.errors import EngineError, EngineUnavailable

VARIABLE = "GIDRN_AUTO"
"""The environment variable that says what ``auto`` does among engines of the CPU."""
MEASURE, KEPT, FIRST = "measure", "kept", "first"
"""Its values: measure where nothing is kept, the default; take what is kept and measure nothing;
take the first of the table."""

RUN_S = 0.03
"""What one run of the timed frame takes on the first engine, about."""
LEAST_PIXELS = 32 * 32
"""Of the timed frame, where the frame that came has as many: below, engines' own overhead rules."""
ROUNDS = 3
"""Timed runs of each engine; the best counts, since whatever disturbs a run makes it longer."""
BUDGET_S = 0.4
"""No further round begins after so long."""
REST_S = 0.04
"""Before each run: ONNX Runtime's threads go on spinning for some 30 ms after one of theirs."""
WAIT_S = 5.0
"""For others who measure at the same time, so that all come to the same engine."""
CLOSENESS = 0.05
"""The table's order stands unless another engine's time is shorter by more than this."""
MOST_LEVELS = 1
"""By which the pictures of two exact engines differ at most, of 255."""
LARGEST_BUCKET = 8
"""4^8 pixels, 256x256: what is timed by itself is no larger."""

REMEDY = "python -m gidrn_runtime doctor --measure"

SCHEMA = "gidrn-engine-choice/1"
MOST_KEPT = 200
"""Choices in the file, the latest."""

Frame = npt.NDArray[np.uint8]
Openers = Mapping[str, Callable[[], AbstractContextManager[Callable[[Frame], Frame]]]]
"""Engine -> what opens it: a block in which a frame is enlarged, end to end."""


@dataclass(frozen=True)
class Choice:
    """What was measured, and which engine that speaks for."""

    engine: str
    frame_hw: tuple[int, int]
    """Of the frame that was timed."""
    ms: dict[str, float]
    """Engine -> its best time for that frame, end to end."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Engine -> why it was not timed, or is not taken."""
    bucket: int = 0
    """Of the frames that it counts for: log4 of their pixels."""
    threads: int | None = None
    """As they were asked for; None is each engine's default."""
    model: str = ""
    """The file's name."""
    when: str = ""
    """UTC, ISO 8601."""

    @property
    def why(self) -> str:
        """In words, with the figures."""
        height, width = self.frame_hw
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in self.ms.items())
        others = "".join(f"; {name} left out: {why}" for name, why in self.left_out.items())
        return f"a frame of {height}x{width} takes {times}{others}"


class NotChosenError(RuntimeError):
    """There are several engines, and no measurement that says which; the message has the reason."""


def wish() -> str:
    """What the environment asks for. Raises ValueError for a value that is none."""
    asked = os.environ.get(VARIABLE) or MEASURE
    if asked not in (MEASURE, KEPT, FIRST):
        raise ValueError(f"{VARIABLE} is {MEASURE}, {KEPT} or {FIRST}, not {asked!r}")
    return asked


def measure_nothing() -> None:
    """For processes that share the cores with others, whose times would mean nothing."""
    os.environ.setdefault(VARIABLE, KEPT)


def bucket_of(size_hw: tuple[int, int]) -> int:
    """log4 of the pixels, rounded."""
    return round(math.log(size_hw[0] * size_hw[1], 4))


def timed_size(
    size_hw: tuple[int, int], seconds_per_pixel: float, seconds: float = RUN_S
) -> tuple[int, int]:
    """Of a frame of about this shape that takes `seconds`, within the limits above."""
    pixels = size_hw[0] * size_hw[1]
    most = min(pixels, 4**LARGEST_BUCKET)
    wanted = min(max(LEAST_PIXELS, seconds / max(seconds_per_pixel, 1e-12)), most)
    part = math.sqrt(wanted / pixels)
    height, width = (max(1, round(side * part)) for side in size_hw)
    return height, width


def timed_picture(size_hw: tuple[int, int]) -> Frame:
    """Ramps and a soft pattern: uint8 (H, W, 3), what networks see rather than noise."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    pattern = 40 * np.sin(x / 3) * np.cos(y / 5)
    planes = [128 + pattern, 60 + x % 128 + pattern / 2, 200 - y % 128 + pattern / 4]
    picture: Frame = np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)
    return picture


def measure(
    openers: Openers,
    size_hw: tuple[int, int],
    *,
    exactly: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> Choice:
    """Time each engine on a frame of a size, or of a smaller one unless `exactly`.

    Raises what the first engine raises; another one that fails is left out with the reason.
    """
    first = next(iter(openers))
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        upscale = stack.enter_context(openers[first]())
        if not exactly:
            size_hw = timed_size(size_hw, _seconds_per_pixel(upscale, size_hw, clock))
        frame = timed_picture(size_hw)
        wanted = upscale(frame)
        upscale(frame)
        running = {first: upscale}
        for name in [name for name in openers if name != first]:
            try:
                other = stack.enter_context(openers[name]())
                off = int(np.abs(other(frame).astype(np.int16) - wanted).max())
                other(frame)
            except (EngineError, EngineUnavailable, ValueError, MemoryError, OSError) as error:
                left_out[name] = " ".join(str(error).split())
                continue
            if off > MOST_LEVELS:
                left_out[name] = f"its picture is {off} levels from {first}'s"
            else:
                running[name] = other
        seconds = _in_turns(running, frame, clock, rest)
    ms = {name: round(1000 * taken, 3) for name, taken in seconds.items()}
    return Choice(_fastest(seconds), size_hw, ms, left_out)


def _seconds_per_pixel(
    upscale: Callable[[Frame], Frame], size_hw: tuple[int, int], clock: Callable[[], float]
) -> float:
    """By the second of two runs of the least frame."""
    least = timed_size(size_hw, math.inf)
    frame = timed_picture(least)
    upscale(frame)
    began = clock()
    upscale(frame)
    return (clock() - began) / (least[0] * least[1])


def _in_turns(
    running: Mapping[str, Callable[[Frame], Frame]],
    frame: Frame,
    clock: Callable[[], float],
    rest: Callable[[float], None],
) -> dict[str, float]:
    """The best time of each, in seconds."""
    best = dict.fromkeys(running, math.inf)
    started = clock()
    for turn in range(ROUNDS):
        if turn and clock() - started > BUDGET_S:
            break
        for name, upscale in running.items():
            rest(REST_S)
            began = clock()
            upscale(frame)
            best[name] = min(best[name], clock() - began)
    return best


def _fastest(seconds: Mapping[str, float]) -> str:
    """The first in order that no other beats by more than `CLOSENESS`."""
    least = min(seconds.values())
    return next(name for name, taken in seconds.items() if taken * (1 - CLOSENESS) <= least)


class Chooser:
    """Which of the engines that take a file an Upscaler runs on that asked for ``auto``."""

    def __init__(self, model: Path, threads: int | None, folder: Path | None = None) -> None:
        """Nothing is opened yet. `folder` is where choices are kept, by default `cache_folder`.

        Raises EngineUnavailable where no engine here takes the file.
        """
        self._model, self._threads = model, threads
        names = engines.that_open(model)
        self.first = engines.first_available(model, names)
        """Of the table."""
        self.builds: dict[str, str] = {}
        """The engines that there is a choice of, in the table's order, each with its build."""
        if self.first in engines.ON_CPU and wish() != FIRST:
            self.builds = engines.builds_on_cpu(names)
        self._kept = Kept(folder or cache_folder())

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.builds) > 1

    @property
    def why_closed(self) -> str:
        """Why there is nothing to choose."""
        if self.first not in engines.ON_CPU:
            return "an engine beyond the CPU is there"
        if wish() == FIRST:
            return f"{VARIABLE}={FIRST}"
        return "one engine of the CPU alone is here and takes it"

    def at_opening(self) -> str:
        """What to open before a frame has come: the engine chosen last for this file, if any."""
        last = max(self.all_kept(), key=lambda one: one.when, default=None)
        return last.engine if last is not None and last.engine in self.builds else self.first

    def kept(self, size_hw: tuple[int, int]) -> Choice | None:
        """What was chosen for frames of about this size."""
        bucket = bucket_of(size_hw)
        of_bucket = {one.bucket: one for one in self.all_kept()}
        return of_bucket.get(bucket) or of_bucket.get(min(bucket, LARGEST_BUCKET))

    def choose(self, openers: Openers, size_hw: tuple[int, int], *, any_size: bool) -> Choice:
        """What is kept, or else is measured now with the engines that open quickly.

        `any_size` says whether the file takes the small frame that is timed. Raises NotChosenError
        where nothing is kept and nothing may be measured.
        """
        found = self.kept(size_hw)
        if found is not None:
            return found
        if wish() == KEPT:
            raise NotChosenError(f"{VARIABLE}={KEPT}, and nothing is kept for this size")
        if not any_size:
            raise NotChosenError(f"the file is of one size alone; {REMEDY} times it")
        slow = {name for name in self.builds if engines.engine_class(name).opens_slowly}
        quick = {name: openers[name] for name in self.builds if name not in slow}
        if len(quick) < 2:
            raise NotChosenError(f"{' and '.join(sorted(slow))}: slow to open; {REMEDY} times it")
        with self._kept.alone(WAIT_S) as is_alone:
            found = self.kept(size_hw)  # by whoever measured meanwhile
            if found is not None:
                return found
            if not is_alone:
                raise NotChosenError(f"others have been measuring for {WAIT_S:g} s")
            found = measure(quick, size_hw)
            asked = f"it is slow to open; {REMEDY} times it too"
            left_out = {**found.left_out, **dict.fromkeys(sorted(slow), asked)}
            bucket = min(bucket_of(size_hw), LARGEST_BUCKET)
            return self.keep(found, bucket, left_out)  # before those who wait look for it

    def keep(self, found: Choice, bucket: int, left_out: dict[str, str] | None = None) -> Choice:
        """Write a choice down for frames of a bucket; a file that cannot be written is no fault."""
        whole = Choice(
            *(found.engine, found.frame_hw, found.ms),
            found.left_out if left_out is None else left_out,
            *(bucket, self._threads, self._model.name),
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        self._kept.add(self._identity, whole)
        return whole

    def all_kept(self) -> list[Choice]:
        """Every choice for this file and number of threads, the smallest frames first."""
        return [one for one in self.of_any_threads() if one.threads == self._threads]

    def of_any_threads(self) -> list[Choice]:
        """Every choice for this file."""
        found = self._kept.every(self._identity) if self.is_open else []
        return [one for one in found if one.engine in self.builds]

    @cached_property
    def _identity(self) -> str:
        """All that a time depends on but the frame's size and the number of threads."""
        digest = hashlib.sha256(self._model.read_bytes()).hexdigest()
        cpu = [processor.name(), sorted(processor.features()), processor.usable_cores()]
        facts = json.dumps([cpu, digest, list(self.builds.items())])
        return hashlib.sha256(facts.encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """The user's folder for what may be lost: XDG_CACHE_HOME, or the system's usual one."""
    asked = os.environ.get("XDG_CACHE_HOME")
    if asked and Path(asked).is_absolute():  # others are to be ignored, says the XDG standard
        return Path(asked) / "gidrn"
    local = os.environ.get("LOCALAPPDATA")
    if sys.platform == "win32" and local:
        return Path(local) / "gidrn"
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "gidrn"  # nothing is read or written there
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "gidrn"


class Kept:
    """The file of choices. It may be missing, damaged or closed to us: then there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine_choice.json"

    def every(self, identity: str) -> list[Choice]:
        """All of one machine and file, by bucket."""
        found = [choice for of, choice in self._read() if of == identity]
        return sorted(found, key=lambda one: one.bucket)

    def add(self, identity: str, choice: Choice) -> None:
        """Put a choice in the place of the one for its bucket and threads, if it can be written."""
        key = (identity, choice.bucket, choice.threads)
        others = [(of, one) for of, one in self._read() if (of, one.bucket, one.threads) != key]
        kept = [*others, (identity, choice)][-MOST_KEPT:]
        rows = [{"of": of, **asdict(one)} for of, one in kept]
        text = json.dumps({"schema": SCHEMA, "choices": rows}, indent=1)
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with image_files.replacing(self.path) as file:
                file.write(text.encode())

    def _read(self) -> list[tuple[str, Choice]]:
        """Each choice with the identity that it is of; none where anything in the file is wrong."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                return []
            return [(str(entry.pop("of")), _choice(entry)) for entry in content["choices"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []

    @contextmanager
    def alone(self, wait_s: float) -> Iterator[bool]:
        """Whether nobody else of this user measures while the block runs, after waiting for them.

        True where that cannot be known: a folder that cannot be written, or no locks (Windows).
        """
        with ExitStack() as stack:
            try:
                import fcntl  # not on Windows

                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.path.with_suffix(".lock"), "wb"))
                until = time.monotonic() + wait_s
                while not _locked(fcntl, lock):
                    if time.monotonic() >= until:
                        yield False
                        return
                    time.sleep(REST_S)
            except (ImportError, OSError):
                pass
            yield True


def _locked(fcntl: Any, file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _choice(entry: dict[str, Any]) -> Choice:
    """A choice as it was written. Raises TypeError, ValueError or KeyError for anything else."""
    height, width = entry["frame_hw"]
    ms = {str(name): float(taken) for name, taken in dict(entry["ms"]).items()}
    left_out = {str(name): str(why) for name, why in dict(entry["left_out"]).items()}
    threads = entry["threads"]
    return Choice(
        *(str(entry["engine"]), (int(height), int(width)), ms, left_out),
        *(int(entry["bucket"]), None if threads is None else int(threads)),
        *(str(entry["model"]), str(entry["when"])),
    )
