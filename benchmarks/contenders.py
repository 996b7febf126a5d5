"""What is timed: a network on an engine of gidrn_runtime, or in PyTorch in one of its forms."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import numpy as np
import torch
import torch._dynamo.config as dynamo_config
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.training_steps import EVERY_FORM_COMPILED
from export import to_tensorrt
from export.layer_types import OtherTypesError
from export.profiles import Profile
from export.proof import Dtype
from gidrn import zoo
from gidrn_runtime import Upscaler, engines, tensorrt_api
from gidrn_runtime.engines.tensorrt import LANES
from gidrn_runtime.errors import EngineError, FrameTooLargeError, ModelError
from gidrn_runtime.plans import SUFFIXES

Frames = NDArray[np.uint8]
"""uint8 BGR (H, W, 3), or (N, H, W, 3)."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

WARM_UP_BEFORE_CAPTURE = 3
"""Runs on a side stream that PyTorch's documentation asks for before a CUDA graph is captured."""


class Runnable(Protocol):
    """What is timed."""

    @property
    def takes_tensors(self) -> bool:
        """Whether `run_tensor` works: a model of uint8 frames takes none."""
        ...

    def __call__(self, frames: Frames, /) -> object:
        """Enlarge a BGR frame, or several at once, in host memory to such in host memory."""
        ...

    def run_tensor(self, x: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Enlarge an RGB tensor in host memory."""
        ...

    def device_ms(self, frames: Frames, /) -> float | None:
        """Milliseconds of one run on the GPU alone; None where it has no clock."""
        ...


@dataclass(frozen=True)
class TorchForm:
    """How PyTorch runs a network."""

    dtype: Dtype
    compiled: bool = False
    """By torch.compile, on a GPU with its CUDA graphs (mode "reduce-overhead")."""
    graphs: bool = False
    """As one CUDA graph for each size, captured from the eager run."""

    @property
    def channels_last(self) -> bool:
        """FP16's kernels want it; FP32 stays as the paper's code has it."""
        return self.dtype == "fp16"


TORCH = {
    "torch-fp32": TorchForm("fp32"),
    "torch-fp16": TorchForm("fp16"),
    "torch-compile": TorchForm("fp16", compiled=True),
    "torch-graphs": TorchForm("fp16", graphs=True),
}

TOO_LARGE = (torch.OutOfMemoryError, FrameTooLargeError, MemoryError)
"""What is raised where memory is too little for an input."""


@dataclass(frozen=True)
class Choice:
    """One of --engines, read and found to be here."""

    name: str
    """Of the runtime's engines or of TORCH."""
    dtype: Dtype
    """What the network computes in."""
    device: str
    """"cpu", or "cuda"."""

    @property
    def is_torch(self) -> bool:
        """Whether PyTorch runs it, and no file is exported."""
        return self.name in TORCH

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device != "cpu"

    @property
    def takes_plans(self) -> bool:
        """Whether it opens TensorRT's plans, each built for its sizes."""
        return not self.is_torch and SUFFIXES[0] in engines.engine_class(self.name).opens


def choose(text: str, device: str) -> Choice:
    """An engine by name, with its precision behind a colon where that is not the usual one.

    The usual one is FP16 on a GPU and FP32 on a CPU. `device` is where PyTorch runs.

    Raises ValueError for an unknown engine or precision, and for one that is not available here.
    """
    name, _, dtype = text.partition(":")
    if name == "auto":
        raise ValueError("--engines wants names, since results say what ran: not auto")
    if name not in engines.ENGINES and name not in TORCH:
        raise zoo.unknown("engine", name, [*engines.ENGINES, *TORCH])
    if name in TORCH:
        form = TORCH[name]
        if dtype:
            raise ValueError(f"{name} is in {form.dtype} already: leave out :{dtype}")
        _check_torch(name, device)
        return Choice(name, form.dtype, device)
    if dtype and dtype not in get_args(Dtype):
        raise ValueError(f"{name} runs in {' or '.join(get_args(Dtype))}, not {dtype!r}")
    status = engines.status(name)
    if not status.available:
        raise ValueError(f"{name} is not available here: {status.reason}")
    usual: Dtype = "fp32" if name in engines.ON_CPU else "fp16"
    chosen = cast("Dtype", dtype) if dtype else usual
    return Choice(name, chosen, "cpu" if name in engines.ON_CPU else "cuda")


def _check_torch(name: str, device: str) -> None:
    """Raise ValueError where PyTorch cannot run this form on this device."""
    if device == "cpu":
        if TORCH[name].graphs:
            raise ValueError(f"{name} wants a CUDA device: leave it out")
        return
    if not torch.cuda.is_available():
        built = "has no CUDA" if torch.version.cuda is None else "finds no GPU"
        raise ValueError(
            f"{name} is not available here: this PyTorch {torch.__version__} {built}; "
            "--device cpu times it on the CPU"
        )


def check_rates(choices: Iterable[Choice]) -> None:
    """Raise ValueError where a GPU's rates are to be measured and PyTorch cannot use it."""
    if any(choice.on_gpu for choice in choices) and not torch.cuda.is_available():
        raise ValueError(
            f"--floor measures the GPU with PyTorch, and {torch.__version__} here finds none: "
            "leave it out, or install PyTorch with CUDA"
        )


class OfRuntime:
    """An Upscaler; what it opened belongs to it."""

    def __init__(self, upscale: Upscaler) -> None:
        self.upscale = upscale
        self.takes_tensors = upscale.describe()["frames"] is None

    def __call__(self, frames: Frames) -> object:
        """One frame, or several in one run."""
        return self.upscale(frames) if frames.ndim == 3 else self.upscale.batch(frames)

    def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Upscaler.run_tensor`."""
        return self.upscale.run_tensor(x)

    def device_ms(self, frames: Frames) -> float | None:
        """See `Upscaler.device_ms`."""
        return self.upscale.device_ms(frames)


def open_file(path: Path, engine: str, threads: int | None) -> Upscaler:
    """Open a file, and raise ValueError where what runs is not what was asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights are named in the table
        upscale = Upscaler(path, engine=engine, threads=threads)
    told = upscale.describe()
    used = (told.get("engine"), told.get("threads"))
    if used != (engine, threads):
        upscale.close()
        raise ValueError(
            f"{engine} on {threads} threads was asked for, and {used[0]} on {used[1]} runs"
        )
    return upscale


def plan_of(
    onnx: Path, engine: str, sizes_hw: Iterable[tuple[int, int]], batch: int, cache: Path
) -> Path:
    """The TensorRT plan of a file for these sizes and this batch, built where it is not there.

    Raises to_tensorrt.BuildError and layer_types.OtherTypesError.
    """
    heights, widths = zip(*sizes_hw, strict=True)
    best = next(iter(zip(heights, widths, strict=True)))
    profile = Profile(
        (batch, min(heights), min(widths)), (batch, *best), (batch, max(heights), max(widths))
    )
    api = tensorrt_api.open_api(cast("tensorrt_api.Flavor", engine))
    source = to_tensorrt.read_source(onnx)
    request = to_tensorrt.Request(profile)
    device = to_tensorrt.find_device(api)
    path = to_tensorrt.plan_path(source, None, request, api, device, cache)
    return to_tensorrt.build(source, path, request, api, device).path


@contextmanager
def torch_settings(threads: int | None) -> Iterator[None]:
    """PyTorch as it is timed: cuDNN's kernels chosen by time, no TF32, every size compiled."""
    before = (
        torch.get_num_threads(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )
    torch.set_num_threads(threads or before[0])
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with dynamo_config.patch(EVERY_FORM_COMPILED):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before[1:3]
        torch.backends.cuda.matmul.allow_tf32 = before[3]


class OfTorch:
    """A network in PyTorch: frames go to the device as uint8 and come back as uint8."""

    takes_tensors = True

    def __init__(self, network: nn.Module, form: TorchForm, device: str) -> None:
        """`network` is copied. Threads of the CPU are PyTorch's own setting."""
        self._device = torch.device(device)
        self._dtype = DTYPES[form.dtype]
        self._compiled = form.compiled
        self._order = torch.channels_last if form.channels_last else torch.contiguous_format
        moved = copy.deepcopy(network).eval().to(device=self._device, dtype=self._dtype)
        self._network: Callable[[Tensor], Tensor] = moved.to(memory_format=self._order)  # type: ignore[call-overload]
        if form.compiled:
            mode = "reduce-overhead" if self._device.type == "cuda" else None
            self._network = torch.compile(moved, mode=mode, dynamic=False)
        if form.graphs:
            self._network = _Graphs(moved)

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> object:
        """One frame, or several in one run."""
        several = frames if frames.ndim == 4 else frames[None]
        high = self._run(self._upload(several)).float().clamp(0, 1).mul(255).round()
        bgr = high.to(torch.uint8).permute(0, 2, 3, 1).flip(-1).contiguous().cpu().numpy()
        return bgr if frames.ndim == 4 else bgr[0]

    @torch.inference_mode()
    def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 RGB (N, 3, H, W) in host memory, both in and out."""
        low = torch.from_numpy(x).to(self._device, self._dtype)
        found = self._run(low.contiguous(memory_format=self._order)).float().cpu().contiguous()
        return cast("NDArray[np.float32]", found.numpy())

    @torch.inference_mode()
    def device_ms(self, frames: Frames) -> float | None:
        """Time between two events around the second of two runs; gaps in which the GPU waits for
        the host count."""
        if self._device.type != "cuda":
            return None
        low = self._upload(frames if frames.ndim == 4 else frames[None])
        self._run(low)  # the GPU works at this one while the host sends the timed one after it
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._mark()
        begin.record()
        self._network(low)
        end.record()
        torch.cuda.synchronize(self._device)
        return float(begin.elapsed_time(end))

    def _upload(self, frames: Frames) -> Tensor:
        """uint8 BGR (N, H, W, 3) -> RGB (N, 3, H, W) in [0, 1] on the device."""
        low = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)
        rgb = low.flip(-1).permute(0, 3, 1, 2).to(self._dtype).div_(255)
        return rgb.contiguous(memory_format=self._order)

    def _run(self, low: Tensor) -> Tensor:
        self._mark()
        return self._network(low)

    def _mark(self) -> None:
        """Tell the compiler's CUDA graphs that the outputs before are no longer wanted."""
        if self._compiled and self._device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


class _Graphs:
    """A network as one CUDA graph for each shape of its input."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._captured: dict[torch.Size, tuple[Any, Tensor, Tensor]] = {}

    def __call__(self, low: Tensor) -> Tensor:
        if low.shape not in self._captured:
            self._captured[low.shape] = self._capture(low.clone())
        graph, kept, high = self._captured[low.shape]
        kept.copy_(low)
        graph.replay()
        return high

    def _capture(self, low: Tensor) -> tuple[Any, Tensor, Tensor]:
        aside = torch.cuda.Stream(low.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(low.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_BEFORE_CAPTURE):
                self._network(low)
        torch.cuda.current_stream(low.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            high = self._network(low)
        return graph, low, high


def open_all(
    choice: Choice,
    networks: dict[str, nn.Module],
    files: dict[str, Path],
    stack: ExitStack,
    *,
    threads: int | None,
    scale: int,
    sizes_hw: list[tuple[int, int]],
    batch: int,
    cache: Path,
    left_out: Callable[[str, str], None],
) -> tuple[dict[str, Runnable], dict[str, str]]:
    """Every network on one engine, closed by `stack`; and the precision of each.

    Of `networks` and `files` the one is used that the engine wants. `left_out(name, reason)` hears
    of a file that the engine does not take. Raises ValueError where what runs is not what was asked
    for.
    """
    if choice.takes_plans and len(sizes_hw) > LANES:
        raise ValueError(
            f"{choice.name} keeps {LANES} sizes ready and opens others anew, which would be timed: "
            f"{len(sizes_hw)} are too many; time B100, or --sizes"
        )
    opened: dict[str, Runnable] = {}
    precision: dict[str, str] = {}
    if choice.is_torch:
        stack.enter_context(torch_settings(threads))
        for name, network in networks.items():
            opened[name] = OfTorch(network, TORCH[choice.name], choice.device)
            precision[name] = choice.dtype
        return opened, precision
    for name, path in files.items():
        if choice.takes_plans:
            try:
                path = plan_of(path, choice.name, sizes_hw, batch, cache)
            except (to_tensorrt.BuildError, OtherTypesError) as error:
                left_out(name, str(error))
                continue
        try:
            upscale = stack.enter_context(open_file(path, choice.name, threads))
        except (ModelError, EngineError, *TOO_LARGE) as error:  # its golden frame has been run
            left_out(name, " ".join(str(error).split()))
            continue
        if upscale.scale != scale:
            raise ValueError(f"{name} enlarges x{upscale.scale}, not x{scale}")
        opened[name] = OfRuntime(upscale)
        precision[name] = str(upscale.describe()["precision"])
    return opened, precision


def free() -> None:
    """Give the GPU's memory back that PyTorch keeps for itself: other engines may want it."""
    if torch.cuda.is_available():
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
