"""A GPU, its driver and TensorRT's execution, played on the CPU.

`PlayedDriver` stands for the module `cuda.bindings.driver`. It is lazy as a GPU is: what is put on
a stream happens when somebody waits for it, in that order, and never sooner, so that a result which
is read too early is stale. It keeps account of memory, streams and graphs, refuses what the driver
refuses (a thread without a context, an address that was freed, waiting inside a capture), and has
as much memory as a test says.

`Runtime` opens "plans" whose bytes are an ONNX file, which ONNX Runtime computes on the GPU's
played memory. Its objects refuse what TensorRT refuses: a size outside of the profile, too little
working memory, a capture before the first run. `tests/export/restricted_tensorrt.py` holds them to
the names that a version has.
"""
# ruff: noqa: N802, N815 - names are the driver's

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from cuda.bindings import driver as real

Step = Callable[[], None]
SUCCESS = real.CUresult.CUDA_SUCCESS
CONTEXT = 77
BROKEN_GRAPH = 0


class PlayedDriver:
    """`cuda.bindings.driver`, with the functions that this project uses."""

    CUresult = real.CUresult
    CUevent_flags = real.CUevent_flags
    CUstream_flags = real.CUstream_flags
    CUstreamCaptureMode = real.CUstreamCaptureMode

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.memory_bytes = memory_bytes
        self.retained = 0
        self.device: dict[int, np.ndarray[Any, Any]] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, list[Step]] = {}
        self.captures: dict[int, list[Step]] = {}
        self.broken: set[int] = set()
        """Streams whose capture was made invalid."""
        self.graphs: dict[int, list[Step]] = {}
        self.launches = 0
        self.events: dict[int, int | None] = {}
        """Of each event, after how many of all steps it happened; None before."""
        self.steps_done = 0
        self.fail: dict[str, Any] = {}
        """Functions that fail next, and with what."""
        self._current = threading.local()
        self._next = 1 << 40
        self._lock = threading.RLock()

    def left(self) -> dict[str, int]:
        """What was made and not given back."""
        return {
            "contexts": self.retained,
            "device": len(self.device),
            "host": len(self.host),
            "streams": len(self.streams),
            "graphs": len(self.graphs),
            "events": len(self.events),
        }

    def _number(self, nbytes: int = 256) -> int:
        with self._lock:
            number, self._next = self._next, self._next + -(-nbytes // 256) * 256
        return number

    def _refuse(self, name: str) -> Any:
        """The error that a call gives, or None where it may go on."""
        if name in self.fail:
            return self.fail.pop(name)
        if getattr(self._current, "context", None) != CONTEXT:
            return real.CUresult.CUDA_ERROR_INVALID_CONTEXT
        return None

    def cuInit(self, flags: int) -> tuple[Any]:
        return (self.fail.pop("cuInit", SUCCESS),)

    def cuDeviceGet(self, index: int) -> tuple[Any, int]:
        return SUCCESS, index

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, int]:
        self.retained += 1
        return SUCCESS, CONTEXT

    def cuDevicePrimaryCtxRelease(self, device: int) -> tuple[Any]:
        self.retained -= 1
        return (SUCCESS,)

    def cuCtxSetCurrent(self, context: int) -> tuple[Any]:
        self._current.context = context
        return (SUCCESS,)

    def cuMemAlloc(self, nbytes: int) -> tuple[Any, int]:
        if error := self._refuse("cuMemAlloc"):
            return error, 0
        with self._lock:
            if sum(block.nbytes for block in self.device.values()) + nbytes > self.memory_bytes:
                return real.CUresult.CUDA_ERROR_OUT_OF_MEMORY, 0
            address = self._number(nbytes)
            self.device[address] = np.full(nbytes, 0xA5, np.uint8)
        return SUCCESS, address

    def cuMemFree(self, address: int) -> tuple[Any]:
        if error := self._refuse("cuMemFree"):
            return (error,)
        del self.device[address]
        return (SUCCESS,)

    def cuMemHostAlloc(self, nbytes: int, flags: int) -> tuple[Any, int]:
        if error := self._refuse("cuMemHostAlloc"):
            return error, 0
        block = (ctypes.c_ubyte * nbytes)()
        address = ctypes.addressof(block)
        self.host[address] = block
        return SUCCESS, address

    def cuMemFreeHost(self, address: int) -> tuple[Any]:
        if error := self._refuse("cuMemFreeHost"):
            return (error,)
        del self.host[address]
        return (SUCCESS,)

    def cuStreamCreate(self, flags: int) -> tuple[Any, int]:
        if error := self._refuse("cuStreamCreate"):
            return error, 0
        assert flags == int(real.CUstream_flags.CU_STREAM_NON_BLOCKING)
        stream = self._number()
        self.streams[stream] = []
        return SUCCESS, stream

    def cuStreamDestroy(self, stream: int) -> tuple[Any]:
        if error := self._refuse("cuStreamDestroy"):
            return (error,)
        assert stream not in self.captures
        del self.streams[stream]
        return (SUCCESS,)

    def put(self, stream: int, step: Step) -> None:
        """Let a step happen in the stream's turn, or become part of what it captures."""
        self.captures.get(stream, self.streams[stream]).append(step)

    def cuMemcpyHtoDAsync(self, to: int, address: int, nbytes: int, stream: int) -> tuple[Any]:
        if error := self._refuse("cuMemcpyHtoDAsync"):
            return (error,)

        def copy() -> None:
            self.device[to][:nbytes] = np.frombuffer(self.host[address], np.uint8)[:nbytes]

        self.put(stream, copy)
        return (SUCCESS,)

    def cuMemcpyDtoHAsync(self, address: int, source: int, nbytes: int, stream: int) -> tuple[Any]:
        if error := self._refuse("cuMemcpyDtoHAsync"):
            return (error,)

        def copy() -> None:
            ctypes.memmove(address, self.device[source][:nbytes].ctypes.data, nbytes)
            assert address in self.host

        self.put(stream, copy)
        return (SUCCESS,)

    def cuStreamSynchronize(self, stream: int) -> tuple[Any]:
        if error := self._refuse("cuStreamSynchronize"):
            return (error,)
        if stream in self.captures:
            self.broken.add(stream)
            return (real.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        steps, self.streams[stream] = self.streams[stream], []
        for step in steps:
            step()
            self.steps_done += 1
        return (SUCCESS,)

    def cuEventCreate(self, flags: int) -> tuple[Any, int]:
        if error := self._refuse("cuEventCreate"):
            return error, 0
        assert flags == int(real.CUevent_flags.CU_EVENT_DEFAULT)  # keeps time, and does not block
        event = self._number()
        self.events[event] = None
        return SUCCESS, event

    def cuEventRecord(self, event: int, stream: int) -> tuple[Any]:
        if error := self._refuse("cuEventRecord"):
            return (error,)

        def happen() -> None:
            self.events[event] = self.steps_done

        self.events[event] = None
        self.put(stream, happen)
        return (SUCCESS,)

    def cuEventElapsedTime(self, begin: int, end: int) -> tuple[Any, float]:
        """A millisecond for each step between the two."""
        if error := self._refuse("cuEventElapsedTime"):
            return error, 0.0
        first, last = self.events[begin], self.events[end]
        if first is None or last is None:
            return real.CUresult.CUDA_ERROR_NOT_READY, 0.0
        return SUCCESS, float(last - first - 1)

    def cuEventDestroy(self, event: int) -> tuple[Any]:
        if error := self._refuse("cuEventDestroy"):
            return (error,)
        del self.events[event]
        return (SUCCESS,)

    def cuStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any]:
        if error := self._refuse("cuStreamBeginCapture"):
            return (error,)
        assert not self.streams[stream]
        self.captures[stream] = []
        return (SUCCESS,)

    def cuStreamEndCapture(self, stream: int) -> tuple[Any, int]:
        if error := self._refuse("cuStreamEndCapture"):
            return error, 0
        steps = self.captures.pop(stream)
        if stream in self.broken:
            self.broken.remove(stream)
            return real.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, BROKEN_GRAPH
        return SUCCESS, self._keep(steps)

    def _keep(self, steps: list[Step]) -> int:
        graph = self._number()
        self.graphs[graph] = steps
        return graph

    def cuGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, int]:
        if error := self._refuse("cuGraphInstantiate"):
            return error, 0
        return SUCCESS, self._keep(self.graphs[graph])

    def cuGraphDestroy(self, graph: int) -> tuple[Any]:
        if error := self._refuse("cuGraphDestroy"):
            return (error,)
        del self.graphs[graph]
        return (SUCCESS,)

    cuGraphExecDestroy = cuGraphDestroy

    def cuGraphLaunch(self, graph: int, stream: int) -> tuple[Any]:
        if error := self._refuse("cuGraphLaunch"):
            return (error,)
        self.launches += 1
        for step in self.graphs[graph]:
            self.put(stream, step)
        return (SUCCESS,)


class Library:
    """What the played objects share: the driver, the real module for its enums, and a profile."""

    def __init__(
        self,
        driver: PlayedDriver,
        real_module: Any,
        profile: tuple[tuple[int, ...], ...] | None = None,
    ) -> None:
        self.driver = driver
        self.real = real_module
        self.profile = profile
        """Least, best and greatest input; None where the file fixes its size."""
        self.capturable = True
        self.executions = 0
        self.fail_at: int | None = None
        """The number of the execution that the library refuses."""


class Runtime:
    """`tensorrt.Runtime`."""

    def __init__(self, library: Library, logger: Any) -> None:
        self.library, self.logger = library, logger

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        """An engine, or None and a word to the logger."""
        try:
            session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        except Exception:
            self.logger.log(self.library.real.ILogger.ERROR, "the plan's magic tag is wrong")
            return None
        return ICudaEngine(self.library, self.logger, session)


class IRuntimeConfig:
    """What a context of TensorRT for RTX is made by."""

    def __init__(self) -> None:
        self.strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class ICudaEngine:
    """`tensorrt.ICudaEngine` over a session of ONNX Runtime."""

    num_io_tensors = 2

    def __init__(self, library: Library, logger: Any, session: Any) -> None:
        self.library, self.logger, self.session = library, logger, session
        self.tensors = {"input": session.get_inputs()[0], "output": session.get_outputs()[0]}

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.library.real.TensorIOMode
        return modes.INPUT if name == "input" else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        types = self.library.real.DataType
        known = {
            "tensor(float)": types.FLOAT,
            "tensor(float16)": types.HALF,
            "tensor(uint8)": types.UINT8,
        }
        return known[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(s if isinstance(s, int) else -1 for s in self.tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert name == "input"
        assert index == 0
        assert self.library.profile is not None
        return list(self.library.profile)

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, how: Any) -> IExecutionContext:
        strategy = how
        if isinstance(how, IRuntimeConfig):
            strategy = how.strategy
            eager = self.library.real.DynamicShapesKernelSpecializationStrategy.EAGER
            assert how.dynamic_shapes_kernel_specialization_strategy == eager
        assert strategy == self.library.real.ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)


class IExecutionContext:
    """`tensorrt.IExecutionContext`: one shape at a time, on addresses of the played GPU."""

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine, self.library = engine, engine.library
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.needed: int | None = None
        self.scratch = 0
        self.has_run = False

    def _error(self, text: str) -> bool:
        self.engine.logger.log(self.library.real.ILogger.ERROR, text)
        return False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        sides = self.engine.get_tensor_shape("input")
        least, most = sides, sides
        if self.library.profile is not None:
            least, _, most = self.library.profile
        if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return self._error(f"{shape} is outside of the profile")
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.shape is not None
        assert name == "output"
        low = np.zeros(self.shape, np.uint8)
        return tuple(self._compute(low.view(np.uint8)).shape)

    def _compute(self, low: Any) -> Any:
        spec = self.engine.tensors["input"]
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        array = low.astype(kinds.get(spec.type, np.uint8), copy=False)
        return self.engine.session.run(["output"], {"input": array})[0]

    def update_device_memory_size_for_shapes(self) -> int:
        assert self.shape is not None
        self.needed = 64 * int(np.prod(self.shape))
        return self.needed

    def set_device_memory(self, address: int, size: int) -> None:
        assert self.library.driver.device[address].nbytes >= size
        self.scratch = size

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.library.driver.device
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return self.library.capturable

    def execute_async_v3(self, stream: int) -> bool:
        self.library.executions += 1
        driver = self.library.driver
        if self.library.executions == self.library.fail_at:
            return self._error("an illegal memory access was encountered")
        if self.shape is None or self.needed is None or self.scratch < self.needed:
            return self._error("no working memory was given")
        if set(self.addresses) != {"input", "output"}:
            return self._error("an address is missing")
        if stream in driver.captures and not (self.has_run and self.library.capturable):
            driver.broken.add(stream)
            return self._error("operation not permitted when the stream is capturing")
        self.has_run = True
        shape, addresses = self.shape, dict(self.addresses)

        def step() -> None:
            spec = self.engine.get_tensor_dtype("input").name
            dtype = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}[spec]
            low = driver.device[addresses["input"]].view(dtype).reshape(shape)
            high = np.ascontiguousarray(self._compute(low))
            driver.device[addresses["output"]][: high.nbytes] = high.view(np.uint8).ravel()

        driver.put(stream, step)
        return True
