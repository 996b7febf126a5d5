"""ONNX Runtime on its CPU execution provider."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from gidrn_runtime import optional, plans
from gidrn_runtime.engines import unwinder
from gidrn_runtime.engines.base import Array, Engine, TensorSpec
from gidrn_runtime.errors import EngineError, EngineUnavailable, FrameTooLargeError, ModelError

FATAL = 4
"""ONNX Runtime's log level that only lets fatal errors out; the rest arrives as exceptions."""
OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "bad allocation", "out of memory", "ALLOC_FAILED")
"""Words by which ONNX Runtime tells, inside a general exception, that an allocation failed."""

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Distributions that bring the module `onnxruntime`."""


class OrtCpu(Engine):
    """One ONNX file in one `onnxruntime.InferenceSession`, whose `run` is thread-safe.

    Output arrays are allocated by ONNX Runtime for each run and freed with the NumPy array;
    `run_into` hands it the caller's memory on both sides, so that nothing is copied.
    """

    name = "ort-cpu"
    remedy = 'pip install "gidrn[cpu]"'
    tile_engine = "ort-cpu"
    provider: ClassVar[str] = "CPUExecutionProvider"
    device: ClassVar[str] = "cpu"
    """Where the provider computes, as ONNX Runtime calls it."""
    provider_options: ClassVar[dict[str, str]] = {}

    @classmethod
    def installed_version(cls) -> str:
        return str(cls._import().__version__)

    @classmethod
    def build(cls) -> str:
        for package in PACKAGES:
            with suppress(metadata.PackageNotFoundError):
                return f"{package} {metadata.version(package)}"
        return cls.installed_version()  # built by hand, or not there

    @classmethod
    def _import(cls) -> Any:
        needs = f"{cls.name} needs ONNX Runtime"
        with unwinder.of_libgcc():
            return optional.load("onnxruntime", needs, cls.remedy, EngineUnavailable)

    def __init__(self, model: Path, threads: int | None = None) -> None:
        ort = self._import()
        if plans.is_plan(model):
            raise ModelError(
                f"{self.name} opens ONNX files; {model} is a TensorRT plan: engine='tensorrt' or "
                "'tensorrt-rtx' opens it, whichever built it"
            )
        try:
            session = self._session_of(model, threads, self.provider_options)
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            if not os.access(model, os.R_OK):
                raise ModelError(f"{model} may not be read by this user") from error
            if isinstance(error, MemoryError) or any(w in str(error) for w in OUT_OF_MEMORY):
                raise EngineError(f"{self.name} has too little memory for {model}") from error
            raise ModelError(
                f"{model} ({model.stat().st_size} bytes) is not an ONNX file that ONNX Runtime "
                f"{ort.__version__} can load: {one_line(error)}; download or export it again"
            ) from error
        used = session.get_providers()
        if used[:1] != [self.provider]:
            raise EngineUnavailable(f"ONNX Runtime was asked for {self.provider} and uses {used}")

        self._session: Any = session
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = FATAL
        self._tile_options = ort.RunOptions()
        self._tile_options.log_severity_level = FATAL
        # Tiles are for when memory is short: give back after each run what the arena has grown by.
        self._tile_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._version = str(ort.__version__)
        self._threads = threads
        self.metadata = dict(session.get_modelmeta().custom_metadata_map)
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())

    @classmethod
    def _session_of(cls, model: Path, threads: int | None, provider_options: dict[str, str]) -> Any:
        ort = cls._import()
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = FATAL
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = [(cls.provider, provider_options)]
        return ort.InferenceSession(str(model), options, providers=providers)

    def run(self, tensor: Array) -> Array:
        try:
            output: Array = self._session.run(
                [self.outputs[0].name], {self.inputs[0].name: tensor}, self._run_options
            )[0]
        except Exception as error:
            raise self.failure(error) from error
        return output

    def run_into(self, tensor: Array, out: Array) -> None:
        binding = self._session.io_binding()  # of this call alone, so that threads do not meet
        try:
            for bind, spec, memory in (
                (binding.bind_input, self.inputs[0], tensor),
                (binding.bind_output, self.outputs[0], out),
            ):
                bind(spec.name, self.device, 0, memory.dtype, memory.shape, memory.ctypes.data)
            self._session.run_with_iobinding(binding, self._run_options)
        except Exception as error:
            raise self.failure(error) from error

    def run_ends(self, wanted: Sequence[str], ends: Mapping[str, Array]) -> list[Array]:
        try:
            found: list[Array] = self._session.run(list(wanted), dict(ends), self._tile_options)
        except Exception as error:
            raise self.failure(error) from error
        return found

    def failure(self, error: Exception) -> EngineError | FrameTooLargeError:
        """What a run's exception means: too little memory, or anything else."""
        message = one_line(error)
        if isinstance(error, MemoryError) or any(word in message for word in OUT_OF_MEMORY):
            return FrameTooLargeError(f"{self.name} ran out of memory: {message}")
        return EngineError(f"{self.name} failed: {message}")

    def close(self) -> None:
        self._session = None

    def describe(self) -> dict[str, object]:
        return {
            "engine": self.name,
            "engine_version": self._version,
            "device": self.device,
            "provider": self.provider,
            "threads": self._threads,
        }


def _spec(value: Any) -> TensorSpec:
    """ONNX Runtime writes a type as ``tensor(float)`` and a free dimension as a name or None."""
    inner = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(
        value.name,
        {"float": "float32", "double": "float64"}.get(inner, inner),
        shape,
    )


def one_line(error: Exception) -> str:
    """The message without ONNX Runtime's numbering and line breaks, at most 300 characters."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= 300 else text[:297] + "..."
