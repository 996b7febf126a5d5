"""TensorRT, and TensorRT for RTX: plans of export/to_tensorrt.py on an NVIDIA GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from gidrn_runtime import cuda_memory, plans, tensorrt_api
from gidrn_runtime.cuda_devices import Device, find_device
from gidrn_runtime.engines.base import Array, Engine, TensorSpec
from gidrn_runtime.errors import EngineError, EngineUnavailable, FrameTooLargeError, ModelError
from gidrn_runtime.tensorrt_api import Api, Flavor, Messages

DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}
"""TensorRT's words for NumPy's."""

Result = TypeVar("Result")

LANES = 4
"""Sizes, or threads at one size, that are kept ready at most: each holds memory of the GPU."""


class TensorRT(Engine):
    """One plan, opened once, with a lane for each size of frame and each thread at work.

    A lane is an execution context with its stream, its memory on both sides and its CUDA graph:
    copy in, enlarge, copy out, as one launch. Opening it, at a size's first frame, runs the network
    once. A size that does not fit beside the others takes the place of the one longest unused. Its
    working memory is what TensorRT asks for at that size, not at the profile's greatest.

    Conversion from and to uint8 is part of a plan of `--frames`, and so of the graph. Threads: as
    many run at once as there are lanes; others wait. No GPU has run this engine yet: it is tested
    on a CUDA and a TensorRT that are played on the CPU.
    """

    name = "tensorrt"
    flavor: ClassVar[Flavor] = "tensorrt"
    remedy = f"{tensorrt_api.REMEDIES['tensorrt']}, and {cuda_memory.REMEDY}"
    opens = plans.SUFFIXES

    @classmethod
    def installed_version(cls) -> str:
        return cls._require()[0].version

    @classmethod
    def _require(cls) -> tuple[Api, Device]:
        """The library and the GPU, each looked at before anything is made on it."""
        try:
            device = find_device()  # first: without one the library may end the process
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{cls.name}: {error}") from error
        api = tensorrt_api.open_api(cls.flavor)
        cuda_memory.import_driver()
        return api, device

    def __init__(self, model: Path, threads: int | None = None) -> None:
        api, device = self._require()
        if not plans.is_plan(model):
            raise ModelError(
                f"{self.name} opens plans ({' or '.join(plans.SUFFIXES)}), not {model}; build one "
                f"with: python export/to_tensorrt.py {model} --library {self.flavor}"
            )
        facts = plans.read_facts(model)
        self._check_key(model, facts["key"], api, device)
        data = plans.read_plan(model, facts)

        self._api, self._gpu = api, device
        self._messages = Messages()
        self._lanes: list[_Lane] = []
        self._turn = threading.Condition()
        with ExitStack() as stack:
            self._cuda = cuda_memory.Cuda()
            stack.callback(self._cuda.close)
            self._cuda.use()
            stack.callback(self._drop)  # before the context goes
            self._logger = api.logger(self._messages)  # must outlive what is made with it
            self._runtime: Any = api.module.Runtime(self._logger)
            self._engine: Any = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None:
                raise ModelError(
                    f"{self.name} {api.version} on {device.name} cannot open {model}: "
                    f"{self._told()}; build it again with export/to_tensorrt.py"
                )
            self.metadata = dict(facts["metadata"])
            names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
            inputs = [name for name in names if self._is_input(name)]
            self.inputs = tuple(map(self._spec, inputs))
            self.outputs = tuple(self._spec(name) for name in names if name not in inputs)
            self._stack = stack.pop_all()

    def _check_key(self, plan: Path, key: dict[str, Any], api: Api, device: Device) -> None:
        """Raise ModelError where a plan is another library's, version's or GPU's."""
        built = f"{key['library']} {key['library_version']}"
        again = "build it again with export/to_tensorrt.py"
        if key["library"] != api.flavor:
            raise ModelError(
                f"{plan} was built by {built}, not by {api.flavor}: open it with "
                f"engine={key['library']!r}, or {again}"
            )
        if key["library_version"] != api.version:
            raise ModelError(f"{plan} was built by {built}, and {api.version} is here; {again}")
        gpu = key.get("gpu")
        if api.builds_without_gpu:
            targets = key.get("targets") or list(api.compute_capabilities())
            if device.compute_capability not in targets:
                raise ModelError(
                    f"{plan} was built for GPUs of compute capability {', '.join(targets)}, and "
                    f"{device.name} has {device.compute_capability}; {again}"
                )
        elif gpu is None or gpu["name"] != device.name:
            other = "an unknown GPU" if gpu is None else gpu["name"]
            raise ModelError(f"{plan} was built on {other}, and {device.name} is here; {again}")

    def _is_input(self, name: str) -> bool:
        mode = self._engine.get_tensor_mode(name)
        return bool(mode == self._api.module.TensorIOMode.INPUT)

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(
            None if side < 0 else int(side) for side in self._engine.get_tensor_shape(name)
        )
        dtype = self._engine.get_tensor_dtype(name).name
        least = most = None
        if self._is_input(name) and None in shape:
            sizes = self._engine.get_tensor_profile_shape(name, 0)
            least, most = tuple(map(int, sizes[0])), tuple(map(int, sizes[2]))
        return TensorSpec(name, DTYPES.get(dtype, dtype), shape, least, most)

    def _told(self) -> str:
        """The library's last errors in one line; the ones before are forgotten."""
        del self._messages.errors[:-3], self._messages.warnings[:]
        told = [" ".join(text.split()) for text in self._messages.errors]
        return "; ".join(told) or "it gave no reason"

    def run(self, tensor: Array) -> Array:
        return self._in_lane(tensor.shape, lambda lane: lane.run(tensor).copy())

    def run_into(self, tensor: Array, out: Array) -> None:
        self._in_lane(tensor.shape, lambda lane: self.deliver(lane.run(tensor), out))

    def device_ms(self, tensor: Array) -> float | None:
        return self._in_lane(tensor.shape, lambda lane: lane.device_ms(tensor))

    def _in_lane(self, shape: tuple[int, ...], work: Callable[[_Lane], Result]) -> Result:
        """What `work` makes of a lane of this shape; after a failure the lane is no more."""
        self._cuda.use()
        lane = self._take(shape)
        try:
            found = work(lane)
        except BaseException:
            with self._turn:  # what a failed run left is not used again
                self._lanes.remove(lane)
                self._turn.notify_all()
            with suppress(EngineError, FrameTooLargeError):  # the first fault is the one to tell
                lane.close()
            raise
        with self._turn:
            lane.busy = False
            self._lanes.append(self._lanes.pop(self._lanes.index(lane)))  # the last used, last
            self._turn.notify_all()
        return found

    def _take(self, shape: tuple[int, ...]) -> _Lane:
        """A lane for inputs of this shape that no other thread uses, made where there is none."""
        with self._turn:
            while True:
                idle = [lane for lane in self._lanes if not lane.busy]
                for lane in idle:
                    if lane.shape == shape:
                        lane.busy = True
                        return lane
                if len(self._lanes) >= LANES and idle:
                    self._discard(idle[0])
                if len(self._lanes) < LANES:
                    opened = self._open(shape)
                    if opened is not None:
                        opened.busy = True
                        self._lanes.append(opened)
                        return opened
                self._turn.wait()

    def _open(self, shape: tuple[int, ...]) -> _Lane | None:
        """A new lane, in the place of idle ones where memory is short; None where others are busy.

        Raises FrameTooLargeError where it does not fit by itself.
        """
        while True:
            try:
                return _Lane(self._engine, self._cuda, self._api, shape, self._told)
            except FrameTooLargeError:
                idle = [lane for lane in self._lanes if not lane.busy]
                if idle:
                    self._discard(idle[0])
                elif self._lanes:
                    return None
                else:
                    raise

    def _discard(self, lane: _Lane) -> None:
        self._lanes.remove(lane)
        lane.close()

    def close(self) -> None:
        if self._engine is None:
            return
        self._cuda.use()
        while self._lanes:
            self._discard(self._lanes[0])
        self._stack.close()

    def _drop(self) -> None:
        self._engine = self._runtime = None

    def describe(self) -> dict[str, object]:
        with self._turn:
            lanes = list(self._lanes)
        graphs = [lane.why_no_graph for lane in lanes]
        return {
            "engine": self.name,
            "engine_version": self._api.version,
            "device": self._gpu.name,
            "compute_capability": self._gpu.compute_capability,
            "driver": self._gpu.driver,
            "threads": None,
            "sizes": [list(lane.shape) for lane in lanes],
            "cuda_graphs": [reason is None for reason in graphs],
            "why_no_graph": next((reason for reason in graphs if reason is not None), None),
        }


class TensorRTRtx(TensorRT):
    """TensorRT for RTX: as `TensorRT`, its plans compiled for the GPU when a size is opened."""

    name = "tensorrt-rtx"
    flavor: ClassVar[Flavor] = "tensorrt-rtx"
    remedy = f"{tensorrt_api.REMEDIES['tensorrt-rtx']}, on a machine with an RTX GPU"


@dataclass(frozen=True)
class _Bare:
    """What a lane measures itself with."""

    stopwatch: cuda_memory.Stopwatch
    graph: Any
    """Of the execution without its copies; None where there can be none."""


class _Lane:
    """All that a run at one size needs. One thread at a time."""

    def __init__(
        self, engine: Any, cuda: cuda_memory.Cuda, api: Api, shape: tuple[int, ...], told: Any
    ) -> None:
        self.shape = shape
        self.busy = False
        self.why_no_graph: str | None = None
        """Why each run is put on the stream step by step; None where it is one graph."""
        self._cuda, self._told = cuda, told
        with ExitStack() as stack:
            self._stream = cuda_memory.make_stream(cuda, stack)
            self._context = api.create_context(engine)
            if self._context is None:
                raise EngineError(f"{api.flavor} makes no execution context: {told()}")
            if not self._context.set_input_shape("input", shape):
                raise EngineError(f"{api.flavor} does not take {shape}: {told()}")
            high = tuple(int(side) for side in self._context.get_tensor_shape("output"))
            dtypes = [DTYPES[engine.get_tensor_dtype(name).name] for name in ("input", "output")]
            self._low = cuda_memory.Buffer(cuda, stack, shape, dtypes[0])
            self._high = cuda_memory.Buffer(cuda, stack, high, dtypes[1])
            needed = int(self._context.update_device_memory_size_for_shapes())
            scratch = cuda_memory.device_memory(cuda, stack, needed)
            self._context.set_device_memory(int(scratch), needed)
            for name, buffer in (("input", self._low), ("output", self._high)):
                if not self._context.set_tensor_address(name, int(buffer.device)):
                    raise EngineError(f"{api.flavor} does not take an address: {told()}")
            # Once outside of the capture: the library prepares itself at a size's first run.
            self._enqueue()
            self._wait()
            self._graph = None
            if not api.is_capturable(self._context, self._stream):
                self.why_no_graph = f"{api.flavor} says that this plan cannot be captured"
            else:
                try:
                    self._graph = self._capture(stack, self._enqueue)
                except EngineError as error:  # slower, and the same numbers: `describe` tells
                    self.why_no_graph = str(error)
            self._bare: _Bare | None = None
            self._stack = stack.pop_all()

    def _capture(self, stack: ExitStack, work: Callable[[], None]) -> Any:
        return cuda_memory.capture(self._cuda, stack, self._stream, work)

    def _enqueue(self) -> None:
        self._low.upload(self._stream)
        self._execute()
        self._high.download(self._stream)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"TensorRT did not run: {self._told()}")

    def _wait(self) -> None:
        self._cuda.call("cuStreamSynchronize", self._stream)

    def run(self, tensor: Array) -> Array:
        """One run; what it returns is the lane's own memory, good until its next run."""
        np.copyto(self._low.host, tensor)
        self._launch(self._graph, self._enqueue)
        self._wait()
        return self._high.host

    def device_ms(self, tensor: Array) -> float:
        """Milliseconds of the execution alone, as a graph of its own where a run is one."""
        if self._bare is None:
            graph = None if self._graph is None else self._capture(self._stack, self._execute)
            self._bare = _Bare(cuda_memory.Stopwatch(self._cuda, self._stack), graph)
        bare = self._bare
        np.copyto(self._low.host, tensor)
        self._low.upload(self._stream)
        self._wait()
        return bare.stopwatch.milliseconds(
            self._stream, lambda: self._launch(bare.graph, self._execute)
        )

    def _launch(self, graph: Any, work: Callable[[], None]) -> None:
        """Put `work` on the stream: as its graph, or step by step where there is none."""
        if graph is None:
            work()
        else:
            self._cuda.call("cuGraphLaunch", graph, self._stream)

    def close(self) -> None:
        """Free all of it."""
        self._context = None  # before the memory that it works in
        self._stack.close()
