"""What every engine is: opened by its constructor, run any number of times, closed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

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
    nor reuses it. Threads: `run` may be called by several threads at once. `close` is never called
    while a `run` is in progress; `Upscaler` sees to that.
    """

    name: ClassVar[str]
    """The key in `gidrn_runtime.engines.ENGINES`."""
    remedy: ClassVar[str]
    """What a user does to get this engine, e.g. a pip command."""
    opens: ClassVar[tuple[str, ...]] = (".onnx",)
    """Endings of the files that it opens."""

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

    def run_frames(self, frames: Array, color: str) -> Array | None:
        """Enlarge uint8 (N, H, W, 3) to (N, s*H, s*W, 3), both in `color` order.

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
