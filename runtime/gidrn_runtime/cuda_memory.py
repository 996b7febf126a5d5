"""The part of CUDA's driver that an engine of its own needs: memory, a stream and a graph.

Through cuda-python's bindings of the driver, which is there wherever a GPU works. All of it belongs
to the device's primary context, the one that TensorRT and PyTorch use as well.
"""

from __future__ import annotations

import ctypes
import importlib
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from gidrn_runtime.engines.base import Array
from gidrn_runtime.errors import EngineError, EngineUnavailable, FrameTooLargeError

REMEDY = 'pip install "gidrn[tensorrt]"'


def import_driver() -> Any:
    """The module `cuda.bindings.driver`. Raises EngineUnavailable where it is not there."""
    try:
        return importlib.import_module("cuda.bindings.driver")
    except Exception as error:  # a broken installation raises more than ImportError
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EngineUnavailable(
            f"cuda-python's bindings cannot be imported here ({reason}); {REMEDY}"
        ) from error


class Cuda:
    """The primary context of a device, held until `close`."""

    def __init__(self, index: int = 0) -> None:
        """Raises EngineUnavailable where there are no bindings, EngineError where it fails."""
        self.driver = import_driver()
        """The module `cuda.bindings.driver`."""
        self.call("cuInit", 0)
        self._device = self.call("cuDeviceGet", index)
        self._context: Any = self.call("cuDevicePrimaryCtxRetain", self._device)

    def call(self, name: str, *arguments: Any) -> Any:
        """A function of the driver; its result, or None where it has none.

        Raises:
            FrameTooLargeError: the GPU, or the page-locked memory, has not enough room.
            EngineError: it failed otherwise; the message names the function and the driver's error.
        """
        try:
            status, *results = getattr(self.driver, name)(*arguments)
        except Exception as error:  # the bindings' own: a function that an older driver has not
            raise EngineError(
                f"CUDA's {name} cannot be called here ({error}); take cuda-python of the CUDA "
                "version that the driver has"
            ) from error
        errors = self.driver.CUresult
        if status == errors.CUDA_ERROR_OUT_OF_MEMORY:
            raise FrameTooLargeError(f"the GPU has too little memory: {name}")
        if status != errors.CUDA_SUCCESS:
            raise EngineError(f"CUDA's {name} failed: {getattr(status, 'name', status)}")
        return results[0] if results else None

    def use(self) -> None:
        """Make the context that of the calling thread, as every call beside `close` needs it."""
        self.call("cuCtxSetCurrent", self._context)

    def close(self) -> None:
        """Give the context back. A second call does nothing."""
        if self._context is not None:
            self._context = None
            self.call("cuDevicePrimaryCtxRelease", self._device)


class Buffer:
    """An array in page-locked memory of the host, `host`, and its twin on the GPU, at `device`."""

    def __init__(self, cuda: Cuda, stack: ExitStack, shape: tuple[int, ...], dtype: str) -> None:
        """`stack` frees both. Raises FrameTooLargeError where there is no room for them."""
        self._cuda = cuda
        self.nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        self._address = int(cuda.call("cuMemHostAlloc", self.nbytes, 0))
        stack.callback(cuda.call, "cuMemFreeHost", self._address)
        memory = (ctypes.c_ubyte * self.nbytes).from_address(self._address)
        self.host: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        self.host[...] = 0
        self.device = device_memory(cuda, stack, self.nbytes)

    def upload(self, stream: Any) -> None:
        """Copy to the GPU, in the stream's turn."""
        self._cuda.call("cuMemcpyHtoDAsync", self.device, self._address, self.nbytes, stream)

    def download(self, stream: Any) -> None:
        """Copy from the GPU, in the stream's turn."""
        self._cuda.call("cuMemcpyDtoHAsync", self._address, self.device, self.nbytes, stream)


def device_memory(cuda: Cuda, stack: ExitStack, nbytes: int) -> Any:
    """Memory of the GPU, which `stack` frees; aligned to 256 bytes, as the driver gives it."""
    pointer = cuda.call("cuMemAlloc", max(nbytes, 1))
    stack.callback(cuda.call, "cuMemFree", pointer)
    return pointer


def make_stream(cuda: Cuda, stack: ExitStack) -> Any:
    """A stream that waits for no other; `stack` destroys it."""
    flags = cuda.driver.CUstream_flags.CU_STREAM_NON_BLOCKING
    stream = cuda.call("cuStreamCreate", int(flags))
    stack.callback(cuda.call, "cuStreamDestroy", stream)
    return stream


class Stopwatch:
    """Two events, and the time that passes on the GPU between them."""

    def __init__(self, cuda: Cuda, stack: ExitStack) -> None:
        """`stack` destroys both."""
        self._cuda = cuda
        self._events = []
        for _ in range(2):
            event = cuda.call("cuEventCreate", int(cuda.driver.CUevent_flags.CU_EVENT_DEFAULT))
            stack.callback(cuda.call, "cuEventDestroy", event)
            self._events.append(event)

    def milliseconds(self, stream: Any, work: Callable[[], None]) -> float:
        """How long what `work` puts on the stream takes there; waits for it.

        It is put there twice, and the second is timed: while the GPU works at the first, the host
        puts the rest there, so that its own time does not count.
        """
        begin, end = self._events
        work()
        self._cuda.call("cuEventRecord", begin, stream)
        work()
        self._cuda.call("cuEventRecord", end, stream)
        self._cuda.call("cuStreamSynchronize", stream)
        return float(self._cuda.call("cuEventElapsedTime", begin, end))


def capture(cuda: Cuda, stack: ExitStack, stream: Any, work: Callable[[], None]) -> Any:
    """What `work` puts on the stream, as one graph to launch; nothing of it runs now.

    Raises what `work` raises, and EngineError where it cannot be captured; the stream is then as
    before.
    """
    mode = cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    cuda.call("cuStreamBeginCapture", stream, mode)
    try:
        work()
    except BaseException:
        try:
            broken = cuda.call("cuStreamEndCapture", stream)  # ends it, whatever came of it
            cuda.call("cuGraphDestroy", broken)
        except EngineError:
            pass  # an invalidated capture has no graph to destroy
        raise
    graph = cuda.call("cuStreamEndCapture", stream)
    try:
        launchable = cuda.call("cuGraphInstantiate", graph, 0)
    finally:
        cuda.call("cuGraphDestroy", graph)
    stack.callback(cuda.call, "cuGraphExecDestroy", launchable)
    return launchable
