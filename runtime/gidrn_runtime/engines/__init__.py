"""The table of engines. A new engine is one file beside this one and one line in `ENGINES`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gidrn_runtime import plans
from gidrn_runtime.engines.base import Engine
from gidrn_runtime.errors import EngineUnavailable

ENGINES: dict[str, tuple[str, str]] = {
    "tensorrt": ("gidrn_runtime.engines.tensorrt", "TensorRT"),
    "tensorrt-rtx": ("gidrn_runtime.engines.tensorrt", "TensorRTRtx"),
    "ort-cuda": ("gidrn_runtime.engines.ort_cuda", "OrtCuda"),
    "native": ("gidrn_runtime.engines.native", "Native"),
    "ort-cpu": ("gidrn_runtime.engines.ort_cpu", "OrtCpu"),
    "openvino": ("gidrn_runtime.engines.openvino", "OpenVino"),
}
"""Name -> (module, class), the fastest first: ``auto`` takes the first that is available and takes
the file at hand, and among those `ON_CPU` the one that is fastest here: see `engine_choice`."""

ON_CPU = ("native", "ort-cpu", "openvino")
"""Those that compute on the CPU, all of them exactly."""

OTHER_NAMES = {
    "gpu": "ort-cuda",
    "ort-gpu": "ort-cuda",
    "onnxruntime": "ort-cpu",
    "onnx": "ort-cpu",
    "trt": "tensorrt",
}
"""What else people call them, for the hint of an error: spelling would lead elsewhere."""


@dataclass(frozen=True)
class EngineStatus:
    """Whether one engine of the table can be used here."""

    name: str
    available: bool
    version: str | None
    """Version of the engine's library, None when it is not available."""
    reason: str
    """Why it is not available; empty when it is."""
    remedy: str
    """What to do about it; empty when it is available."""


def engine_class(name: str) -> type[Engine]:
    """The class of the engine `name`; its library is not imported yet.

    Raises:
        ValueError: there is no such engine; the message names the nearest one and all of them.
    """
    if name not in ENGINES:
        wanted = OTHER_NAMES.get(name, name)
        nearest = difflib.get_close_matches(wanted, ENGINES, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        known = ", ".join(["auto", *ENGINES])
        raise ValueError(f"there is no engine {name!r}; {hint}engines are: {known}")
    module, class_name = ENGINES[name]
    engine: type[Engine] = getattr(importlib.import_module(module), class_name)
    return engine


def status(name: str) -> EngineStatus:
    """Whether the engine `name` can be used here; imports its library to find out.

    Raises:
        ValueError: there is no such engine.
    """
    engine = engine_class(name)
    try:
        version = engine.installed_version()
    except EngineUnavailable as error:
        return EngineStatus(name, False, None, str(error), engine.remedy)
    return EngineStatus(name, True, version, "", "")


def available() -> list[EngineStatus]:
    """The status of every engine of the table, in its order."""
    return [status(name) for name in ENGINES]


def that_open(path: Path) -> list[str]:
    """Names of the engines that take this file: a plan by what built it, else those for ONNX files
    but for the ones that refuse what is in it.

    Raises:
        ModelError: it is a plan without the facts that tell what built it.
    """
    if plans.is_plan(path):
        return [str(plans.read_facts(path)["key"]["library"])]
    classes = {name: engine_class(name) for name in ENGINES}
    return [n for n, one in classes.items() if ".onnx" in one.opens and not one.refusal(path)]


def open_engine(name: str, model: Path, threads: int | None = None) -> Engine:
    """Open `model` on the engine `name`; ``auto`` is the first available one for such a file.

    Raises:
        ValueError: there is no such engine.
        EngineUnavailable: the engine, or for ``auto`` every engine, cannot be used here.
        ModelError: the engine cannot read the file.
    """
    if name == "auto":
        name = first_available(model, that_open(model))
    return engine_class(name)(model, threads)


def first_available(model: Path, names: Sequence[str]) -> str:
    """The first of those that take a file, see `that_open`, which is available here.

    Raises EngineUnavailable where none is; the message has the reason of each.
    """
    missing = []
    for candidate in names:
        found = status(candidate)
        if found.available:
            return candidate
        missing.append(f"{candidate}: {found.reason}")
    raise EngineUnavailable(f"no engine for {model} is available here; " + "; ".join(missing))


def builds_on_cpu(names: Sequence[str]) -> dict[str, str]:
    """Those of the CPU that are installed, each with its `Engine.build`; no library that is slow to
    import is imported."""
    found = {}
    for name in names:
        if name in ON_CPU:
            with suppress(EngineUnavailable):
                found[name] = engine_class(name).build()
    return found
