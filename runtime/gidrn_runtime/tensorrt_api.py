"""TensorRT and TensorRT for RTX under one set of names.

One code path serves TensorRT 10.3, 10.16 and 11.4 and TensorRT for RTX 1.7. Every name that is not
in all of them is looked up in this file and nowhere else:

- `NetworkDefinitionCreationFlag.STRONGLY_TYPED` must be passed to 10.x and is ignored by 11 and
  RTX, which know nothing else; TensorRT 8 does not have it. `EXPLICIT_BATCH`, gone in 11, is never
  needed.
- `ComputeCapability` and `IBuilderConfig.set_compute_capability` are RTX's alone: it builds for
  GPUs that are not there. It has the names of timing caches, and does nothing with them.
- RTX compiles kernels for the GPU when a plan runs, by `IRuntimeConfig`; what CUDA may capture is
  asked of `IExecutionContext.is_stream_capturable`, and `BuilderFlag.REQUIRE_USER_ALLOCATION` is
  what makes it so.

Nothing is imported from NVIDIA before `open_api`. A logger must be given to every object: the
libraries' own writes to standard output.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gidrn_runtime.errors import EngineUnavailable

Flavor = Literal["tensorrt", "tensorrt-rtx"]
MODULES: dict[str, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
REMEDIES: dict[str, str] = {
    "tensorrt": (
        "install TensorRT 10.3 or later as NVIDIA ships it for this machine: JetPack, a container, "
        "or the tensorrt package from NVIDIA's own index"
    ),
    "tensorrt-rtx": 'pip install "gidrn[tensorrt-rtx]"',
}


@dataclass
class Messages:
    """What a library said while it worked, the oldest first."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Api:
    """One of the two libraries, imported."""

    flavor: Flavor
    module: Any
    version: str

    @property
    def builds_without_gpu(self) -> bool:
        """Whether a machine without a GPU can build engines for others."""
        return self.flavor == "tensorrt-rtx"

    @property
    def keeps_timings(self) -> bool:
        """Whether a build measures kernels, so that a timing cache makes the next one faster."""
        return self.flavor == "tensorrt"

    def logger(self, messages: Messages) -> Any:
        """An `ILogger` that keeps errors and warnings in `messages` and drops the rest."""
        trt = self.module

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    messages.errors.append(text)
                elif severity == trt.ILogger.WARNING:
                    messages.warnings.append(text)

        return Logger()

    def progress_monitor(
        self,
        begin: Callable[[str, str | None, int], None],
        step: Callable[[str], bool],
    ) -> Any:
        """An `IProgressMonitor`: `begin(phase, parent, steps)`, and `step(phase)`, False to stop.

        The library calls them from its own threads and cannot pass exceptions on: they must not
        raise.
        """
        trt = self.module

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, name: str, parent: str | None, steps: int) -> None:
                begin(name, parent, steps)

            def step_complete(self, name: str, done: int) -> bool:
                return step(name)

            def phase_finish(self, name: str) -> None:
                pass

        return Monitor()

    def create_network(self, builder: Any) -> Any:
        """An empty network whose types are those of the graph."""
        flag = self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return builder.create_network(1 << int(flag))

    def compute_capabilities(self) -> dict[str, Any]:
        """The GPUs that can be built for without being there, as "8.9"; {} for TensorRT."""
        known = getattr(self.module, "ComputeCapability", None)
        if known is None:
            return {}
        return {
            f"{name[2:-1]}.{name[-1]}": value
            for name, value in known.__members__.items()
            if name.startswith("SM")
        }

    def make_capturable(self, config: Any) -> None:
        """Build so that a run can become part of a CUDA graph, where that has to be asked for."""
        flag = getattr(self.module.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
        if flag is not None:
            config.set_flag(flag)

    def create_context(self, engine: Any) -> Any:
        """An `IExecutionContext` without working memory: whoever asks for it gives that.

        RTX compiles a size's kernels before its first run: else it would swap them later, behind a
        captured graph. None where the library makes none.
        """
        trt = self.module
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.flavor == "tensorrt":
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        return engine.create_execution_context(config)

    def is_capturable(self, context: Any, stream: Any) -> bool:
        """Whether runs of a context may be captured; TensorRT's always, as far as it tells."""
        if self.flavor == "tensorrt":
            return True
        return bool(context.is_stream_capturable(int(stream)))

    def set_targets(self, config: Any, targets: list[str]) -> None:
        """Build for these compute capabilities rather than for the library's default."""
        known = self.compute_capabilities()
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(known[target], index)


def open_api(flavor: str) -> Api:
    """Import the library `flavor`.

    Raises:
        ValueError: there is no such flavor.
        EngineUnavailable: it is not installed, does not start, or is older than TensorRT 10; the
            message says how to get it.
    """
    if flavor not in MODULES:
        raise ValueError(f"the library is {' or '.join(get_args(Flavor))}, not {flavor!r}")
    name = MODULES[flavor]
    try:
        module = importlib.import_module(name)
        version = str(module.__version__)
    except Exception as error:  # a broken installation raises more than ImportError
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EngineUnavailable(
            f"{flavor} cannot be imported here ({reason}); {REMEDIES[flavor]}"
        ) from error
    if not hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise EngineUnavailable(
            f"{flavor} {version} has no strongly typed networks, so that precision would not be "
            f"the file's; {REMEDIES[flavor]}"
        )
    return Api("tensorrt" if flavor == "tensorrt" else "tensorrt-rtx", module, version)
