"""What every engine is: opened by its constructor, run any number of times, closed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gidrn_runtime.errors import EngineError, EngineUnavailable

Tensor = npt.NDArray[np.float32]
"""float32 RGB, (N, 3, H, W), nominally in [0, 1], C-contiguous."""


Array = npt.NDArray[Any]
"""A `Tensor`, or for a model with float16 ends a float16 one, or for a model of frames uint8
(N, H, W, 3); C-contiguous."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, as the engine reports it."""

    name: str
    dtype: str
    """A NumPy name such as ``float32``, or the engine's own word where NumPy has none."""
    shape: tuple[int | None, ...]
    """None where the model leaves a dimension free."""
    least: tuple[int, ...] | None = None
    most: tuple[int, ...] | None = None
    """The shapes between which it was built; None where it takes any that `shape` allows."""


class Engine(ABC):
    """One model opened on one engine.

    Life cycle: the constructor opens the model and sets `metadata`, `inputs` and `outputs`; `run`
    may then be called any number of times; `close` releases everything and may be called twice.
    Nothing is imported from the engine's library before `installed_version` or the constructor.

    Memory: `run` only reads its argument, and only until it returns. The array it returns belongs
    to the caller, who may write into it and keep it as long as he likes; the engine neither keeps
    nor reuses it. `run_into` writes into the memory of the caller instead and keeps no hold of it.
    Threads: both may be called by several threads at once. `close` is never called while one of
    them is in progress; `Upscaler` sees to that.
    """

    name: ClassVar[str]
    """The key in `gidrn_runtime.engines.ENGINES`."""
    remedy: ClassVar[str]
    """What a user does to get this engine, e.g. a pip command."""
    opens: ClassVar[tuple[str, ...]] = (".onnx",)
    """Endings of the files that it opens."""

    opens_slowly: ClassVar[bool] = False
    """Whether opening a model takes a second or more: ``auto`` then times it on request alone."""

    runs_in_turn: ClassVar[bool] = False
    """Whether it takes the images of a batch one after the other, in one image's working memory."""

    metadata: dict[str, str]
    """The model's own key-value pairs, as the export wrote them."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    @abstractmethod
    def installed_version(cls) -> str:
        """Version of the engine's library.

        Raises:
            EngineUnavailable: it is not installed or does not start here, with the reason.
        """

    @classmethod
    def build(cls) -> str:
        """What tells its times from those of another installation; needs no slow import.

        Raises EngineUnavailable where it is not installed.
        """
        return cls.installed_version()

    @classmethod
    def refusal(cls, model: Path) -> str:
        """Why it does not take this file, though of a kind that it opens; empty where it does.

        For ``auto``, which then goes on to the next. Nothing of the engine's library is needed.
        """
        return ""

    @abstractmethod
    def __init__(self, model: Path, threads: int | None = None) -> None:
        """Open `model`; `threads` limits the CPU threads of one run, None is the engine's default.

        Raises:
            EngineUnavailable: the engine cannot be used here.
            ModelError: it cannot read the file.
        """

    @abstractmethod
    def run(self, tensor: Array) -> Array:
        """Enlarge (N, 3, H, W) to (N, 3, s*H, s*W), or (N, H, W, 3) for a model of frames.

        Raises:
            FrameTooLargeError: the engine could not get the memory it needs.
            EngineError: the run failed otherwise.
        """

    def run_into(self, tensor: Array, out: Array) -> None:
        """As `run`, with the output written into `out`: C-contiguous, of the output's shape and
        dtype, sharing no memory with `tensor`.

        By default it copies what `run` returns. Engines that can compute straight into `out`, or
        copy once less, do. Where a run fails, what `out` holds is undefined.

        Raises:
            EngineError: the output is of another shape or dtype than `out`.
            FrameTooLargeError, EngineError: as `run`.
        """
        self.deliver(self.run(tensor), out)

    def deliver(self, high: Array, out: Array) -> None:
        """Copy an output into the caller's memory. Raises EngineError where it does not fit."""
        if (high.shape, high.dtype) != (out.shape, out.dtype):
            raise EngineError(
                f"{self.name} gave {high.dtype} {high.shape} where {out.dtype} {out.shape} was due"
            )
        np.copyto(out, high)

    tile_engine: ClassVar[str | None] = None
    """The engine that runs the tile files of this one's models, on the same device and as exactly:
    itself, where `run_ends` works, or another; None for none."""

    def run_ends(self, wanted: Sequence[str], ends: Mapping[str, Array]) -> list[Array]:
        """Run a tile file, which has more ends than others: inputs by name to outputs by name.

        Raises:
            EngineUnavailable: this engine runs no tile files.
            FrameTooLargeError, EngineError: as for `run`.
        """
        raise EngineUnavailable(
            f"{self.name} runs no tile files yet; engine='ort-cpu' or 'ort-cuda' does"
        )

    def run_frames(self, frames: Array, color: str, out: Array | None = None) -> Array | None:
        """Enlarge uint8 (N, H, W, 3) to (N, s*H, s*W, 3), both in `color` order; into `out` if
        given, C-contiguous and of that shape, which is then what is returned.

        None where the engine leaves the conversions to its caller. Values are rounded as
        `Upscaler` rounds them. Raises what `run` raises.
        """
        return None

    def device_ms(self, tensor: Array) -> float | None:
        """Milliseconds of one run on the GPU, its input there already and its output left there.

        None where the engine has no such clock, as on the CPU. For measuring: the run's output is
        thrown away. Raises what `run` raises.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Release the model. A second call does nothing."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """JSON-able facts: `engine`, `engine_version`, `threads`, `device` and what else it knows.

        `threads` is None where the engine's own default rules.
        """
