"""ONNX Runtime on its CUDA execution provider.

`onnxruntime.get_available_providers()` tells what was compiled and not what works: where a library
or the driver is missing ONNX Runtime prints to standard error and runs on the CPU. So what the
provider needs is looked at first, and what the session really uses last.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gidrn_runtime.cuda_devices import find_device
from gidrn_runtime.engines.base import Array
from gidrn_runtime.engines.ort_cpu import OrtCpu, one_line
from gidrn_runtime.errors import EngineUnavailable

LIBRARIES = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
"""Beside ONNX Runtime's own module; the second needs CUDA."""

CUDNN = "libcudnn.so.9"
"""What the provider loads when it first meets a convolution; without it that fails, or runs
otherwise without a word."""


class OrtCuda(OrtCpu):
    """One ONNX file in one session whose input stays in the GPU's memory while its size stays.

    A file that fixes its size and batch runs as one CUDA graph, its output's memory fixed too.
    FP32 files are computed in FP32: TF32, which rounds factors to ten bits, is off. cuDNN takes its
    kernels by heuristics, since measuring them anew at each new frame size takes seconds. Shapes
    are computed on the CPU, as ONNX Runtime always does. Threads take turns. No GPU has run this
    engine yet: all but the provider itself is tested on the CPU.
    """

    name = "ort-cuda"
    remedy = (
        'pip uninstall onnxruntime, then pip install "gidrn[gpu]" and the CUDA and cuDNN '
        "libraries that it names"
    )
    provider = "CUDAExecutionProvider"
    device = "cuda"
    tile_engine = "ort-cuda"
    provider_options: ClassVar[dict[str, str]] = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }
    graph_options: ClassVar[dict[str, str]] = {"enable_cuda_graph": "1"}
    """What a session of one size has beside."""

    @classmethod
    def installed_version(cls) -> str:
        ort = cls._import()
        compiled = ort.get_available_providers()
        if cls.provider not in compiled:
            raise EngineUnavailable(
                f"{cls.name}: this ONNX Runtime {ort.__version__} is built without CUDA; "
                f"{cls.remedy}"
            )
        cls._find_libraries(ort)
        return str(ort.__version__)

    @classmethod
    def _find_libraries(cls, ort: Any) -> None:
        """Raise EngineUnavailable, with what is missing, where the provider cannot start."""
        try:
            find_device()
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{cls.name}: {error}") from error
        if hasattr(ort, "preload_dlls"):  # since 1.21: finds CUDA in PyTorch's or pip's packages
            ort.preload_dlls()
        folder = Path(ort.__file__).parent / "capi"
        try:
            for library in (CUDNN, *(str(folder / name) for name in LIBRARIES)):
                ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # after ONNX Runtime's own module
        except OSError as error:
            raise EngineUnavailable(
                f"{cls.name}: ONNX Runtime {ort.__version__} misses a library ({error}); "
                f"{cls.remedy}"
            ) from error

    def __init__(self, model: Path, threads: int | None = None) -> None:
        self.installed_version()
        super().__init__(model, threads)
        self.why_no_graph: str | None = "the file leaves its size free"
        if None not in self.inputs[0].shape + self.outputs[0].shape:
            self._open_with_graph(model, threads)
        self._lock = threading.Lock()
        self._low: Any = None
        """The input in the GPU's memory, kept from frame to frame of one size."""
        self._binding: Any = None
        self._high: Any = None
        """The output there, where a graph writes it."""

    def _open_with_graph(self, model: Path, threads: int | None) -> None:
        """Take a session with a CUDA graph; where there can be none, keep the one that is there."""
        try:
            session = self._session_of(
                model, threads, {**self.provider_options, **self.graph_options}
            )
        except Exception as error:  # slower, and the same numbers: `describe` tells
            self.why_no_graph = one_line(error)
            return
        if session.get_providers()[:1] != [self.provider]:
            self.why_no_graph = f"with it ONNX Runtime uses {session.get_providers()}"
            return
        self._session = session
        self.why_no_graph = None

    def describe(self) -> dict[str, object]:
        return {
            **super().describe(),
            "cuda_graph": self.why_no_graph is None,
            "why_no_graph": self.why_no_graph,
        }

    def run(self, tensor: Array) -> Array:
        with self._bound(tensor):
            self._session.run_with_iobinding(self._binding, self._run_options)
            high: Array = self._binding.get_outputs()[0].numpy()
            # Of the GPU's memory numpy() makes a copy; of the CPU's, in tests, a view.
            return high if high.flags.owndata else high.copy()

    def run_into(self, tensor: Array, out: Array) -> None:
        self.deliver(self.run(tensor), out)  # a graph's output stays where it was captured

    def device_ms(self, tensor: Array) -> float | None:
        """By the host's clock, from the call until the GPU has finished: ONNX Runtime's stream is
        its own, so that launching counts too."""
        with self._bound(tensor):
            self._binding.synchronize_inputs()
            began = time.perf_counter_ns()
            self._session.run_with_iobinding(self._binding, self._run_options)
            self._binding.synchronize_outputs()
            return (time.perf_counter_ns() - began) / 1e6

    @contextmanager
    def _bound(self, tensor: Array) -> Iterator[None]:
        """One thread's turn, its input bound; what a failed run left is not used again."""
        with self._lock:
            try:
                self._write(tensor)
                yield
            except Exception as error:
                if self.why_no_graph is not None or self._high is None:
                    self._low = self._high = self._binding = None
                raise self.failure(error) from error

    def _write(self, tensor: Array) -> None:
        """Bring a tensor into the bound input; all is bound anew where its size is another.

        A graph is replayed on the memory that it was captured with, whatever is bound later and
        whatever its shape: that memory stays, after a failed run too.
        """
        if self.why_no_graph is None and tensor.shape != self.inputs[0].shape:
            raise ValueError(f"the file takes {self.inputs[0].shape}, not {tensor.shape}")
        if self._low is not None and tuple(self._low.shape()) == tensor.shape:
            self._low.update_inplace(tensor)
            return
        self._low = self._high = self._binding = None  # frees the memory of the size before
        values = self._import().OrtValue
        self._low = values.ortvalue_from_numpy(tensor.copy(), self.device, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self.inputs[0].name, self._low)
        high = self.outputs[0]
        if self.why_no_graph is not None:
            self._binding.bind_output(high.name, self.device, 0)
            return
        self._high = values.ortvalue_from_shape_and_type(
            list(high.shape), np.dtype(high.dtype), self.device, 0
        )
        self._binding.bind_ortvalue_output(high.name, self._high)

    def close(self) -> None:
        self._low = self._high = self._binding = None
        super().close()
