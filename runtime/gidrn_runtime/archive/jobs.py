"""What passes between the leader of a run and its workers, and what a worker and a pool are."""

from __future__ import annotations

import os
import socket
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import gidrn_runtime
from gidrn_runtime import EngineError, EngineUnavailable, Upscaler, image_files
from gidrn_runtime.frames import check_image, upscale_image

MAX_STARTS = 3
"""Attempts to start a worker before the run is given up."""

PORTABLE: tuple[type[Exception], ...] = (
    FileNotFoundError,
    FileExistsError,
    ValueError,
    ImportError,
    MemoryError,
    OSError,
    EngineUnavailable,
    EngineError,
)
"""Classes of expected errors, made of one message each, the narrower before the wider."""


class WorkerDied(EngineError):  # noqa: N818 - the name says what happened
    """A worker's process ended in the middle of a job: killed, out of memory, or crashed."""


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    number: int
    """The leader's own name for it, which comes back with the answer."""
    source: str
    """Path of the source, for messages; a worker does not open it."""
    target: str
    """Path of the output, whose extension is the format; a worker does not write it."""
    data: bytes
    """The source file's content."""


@dataclass(frozen=True)
class Answer:
    """What became of a job: `data`, or `error`."""

    number: int
    data: bytes = b""
    """The output file's content."""
    error: Exception | None = None
    seconds: float = 0.0
    """For the enlarging alone, from image in memory to image in memory."""
    engine: str = ""
    """What enlarged it."""


@dataclass(frozen=True)
class Facts:
    """What a worker that is ready says of itself."""

    scale: int
    engine: str
    version: str
    """Of gidrn_runtime, where the worker runs."""
    host: str
    pid: int
    warnings: tuple[str, ...] = ()
    """What the model's opening warned of."""


class PictureWorker:
    """One model, opened at the first need, that answers jobs one after the other."""

    def __init__(self, model: Path, engine: str, threads: int | None) -> None:
        self._model, self._engine, self._threads = model, engine, threads
        self._upscaler: Upscaler | None = None
        self._warnings: tuple[str, ...] = ()

    def facts(self) -> Facts | Exception:
        """Open the model; the error is returned where that fails."""
        try:
            upscaler = self._open()
        except Exception as error:
            return _portable(error)
        return Facts(
            scale=upscaler.scale,
            engine=_engine_of(upscaler),
            version=gidrn_runtime.__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            warnings=self._warnings,
        )

    def answer(self, job: Job) -> Answer:
        """Enlarge one picture; an error of whatever kind is part of the answer."""
        source, target = Path(job.source), Path(job.target)
        try:
            upscaler = self._open()
            image, profile = image_files.decode_with_profile(job.data, source)
            check_image(image)
            image_files.check_holds(target, image, upscaler.scale)
            began = time.perf_counter()
            high = upscale_image(upscaler, image)
            seconds = time.perf_counter() - began
            data = image_files.encode_image(target, high, profile)
            return Answer(job.number, data, seconds=seconds, engine=_engine_of(upscaler))
        except Exception as error:
            return Answer(job.number, error=_portable(error))

    def _open(self) -> Upscaler:
        if self._upscaler is None:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self._upscaler = Upscaler(self._model, self._engine, threads=self._threads)
            self._warnings = tuple(str(warning.message) for warning in caught)
        return self._upscaler


class WorkerPool(ABC):
    """Workers that are started, handed jobs, and restarted when they die; one job a worker.

    A pool never repeats a job by itself: a job whose worker died is answered with `WorkerDied`, and
    the leader decides. Every method is called from one thread alone.
    """

    @abstractmethod
    def start(self) -> Facts:
        """Start every worker and wait for the first that is ready.

        Raises what opening the model raised in a worker; EngineError when workers die at start.
        """

    @property
    @abstractmethod
    def free(self) -> int:
        """How many jobs it takes at this moment."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Hand over one job; only while `free` is not 0."""

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Answer]:
        """Answers that are there, or come within `timeout_s`; none when none came.

        Raises as `start` does: a worker that died cannot be started again.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop every worker at once, whatever it is doing. A second call does nothing."""

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _engine_of(upscaler: Upscaler) -> str:
    return str(upscaler.describe()["engine"])


def _portable(error: Exception) -> Exception:
    """The error as another process can receive it: of one of `PORTABLE`'s classes.

    An error of no expected kind is a defect: its traceback goes to the worker's stderr.
    """
    for kind in PORTABLE:
        if isinstance(error, kind):
            return kind(str(error))
    traceback.print_exception(error)
    return EngineError(f"{type(error).__name__}: {error}")


def search_path() -> str:
    """A PYTHONPATH with which another process on this machine finds this very package."""
    package_root = str(Path(gidrn_runtime.__file__).parents[1])
    return os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
