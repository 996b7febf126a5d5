"""What works here and what does not: engines, versions, shipped models, each really run once."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import gidrn_runtime
from gidrn_runtime import engine_choice, engines, models
from gidrn_runtime.engine_choice import Choice, Chooser
from gidrn_runtime.errors import EngineUnavailable, ModelError
from gidrn_runtime.image_files import import_cv2
from gidrn_runtime.video.library import import_av

TRIAL_HW = (16, 24)
"""Size of the frame that each model enlarges on each engine."""


def measure(model: str, size_hw: tuple[int, int], threads: int | None) -> Choice:
    """Time every engine of the CPU that takes a model on a frame of this size; ``auto`` then takes
    the fastest for frames of about that size.

    Frames beyond memory are cut into tiles, as they would be at work. Raises ValueError where there
    are not two such engines, and what opening the first one raises.
    """
    path = models.find(model)
    chooser = Chooser(path, threads)
    if not chooser.is_open:
        raise ValueError(
            f"there is nothing to measure for {model}: {chooser.why_closed}, so that `auto` takes "
            f"{chooser.first}"
        )
    openers = {
        name: partial(gidrn_runtime.Upscaler, path, name, threads=threads)
        for name in chooser.builds
    }
    found = engine_choice.measure(openers, size_hw, exactly=True)
    return chooser.keep(found, engine_choice.bucket_of(size_hw))


def examine() -> dict[str, Any]:
    """Everything `report` prints, JSON-able; `ok` is True when some shipped model runs."""
    found = engines.available()
    shipped = [_examine_model(name, path, found) for name, path in models.shipped().items()]
    choosers = _choosers()
    return {
        "ok": any(run["ok"] for model in shipped for run in model["runs"]),
        "gidrn_runtime": gidrn_runtime.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "numpy": np.__version__,
        "opencv": _package(import_cv2),
        "pyav": _package(import_av),
        "engines": [asdict(status) for status in found],
        "models": shipped,
        "choices": [asdict(one) for chooser in choosers for one in chooser.of_any_threads()],
        "no_choice": _why_none(choosers),
    }


def _choosers() -> list[Chooser]:
    """One for each shipped model that some engine here takes."""
    found = []
    for path in models.shipped().values():
        with suppress(EngineUnavailable, ModelError):
            found.append(Chooser(path, None))
    return found


def _why_none(choosers: list[Chooser]) -> str:
    """Why nothing has been chosen, or what will decide."""
    closed = (chooser.why_closed for chooser in choosers if not chooser.is_open)
    return next(closed, "the first frame of a size decides, or --measure")


def report(facts: dict[str, Any]) -> str:
    """The facts of `examine` for reading, several lines."""
    lines = [
        f"gidrn_runtime {facts['gidrn_runtime']}",
        f"Python {facts['python']} on {facts['platform']}, {facts['cpus']} CPUs",
        f"NumPy {facts['numpy']}",
        _package_text("OpenCV", facts["opencv"]),
        _package_text("PyAV", facts["pyav"]),
        "engines, the fastest first:",
    ]
    for engine in facts["engines"]:
        if engine["available"]:
            lines.append(f"  {engine['name']}: available, version {engine['version']}")
        else:
            lines.append(f"  {engine['name']}: not available: {engine['reason']}")
    lines.append("engines of the CPU that auto takes, where several take a model:")
    lines += [f"  {describe_choice(choice)}" for choice in facts["choices"]]
    if not facts["choices"]:
        lines.append(f"  nothing is measured yet: {facts['no_choice']}")
    lines.append("shipped models:")
    for model in facts["models"]:
        lines.append(f"  {describe_model(model)}")
        for run in model["runs"]:
            height, width = TRIAL_HW
            lines.append(
                f"    {run['engine']}: enlarged {height}x{width} in {run['ms']:.1f} ms"
                if run["ok"]
                else f"    {run['engine']}: failed: {run['error']}"
            )
    if not facts["models"]:
        lines.append("  none")
    lines.append(f"verdict: {verdict(facts)}")
    return "\n".join(lines)


def describe_choice(choice: dict[str, Any]) -> str:
    """One line on a choice, with its reason."""
    found = Choice(**choice)
    side = 2**found.bucket
    threads = "default threads" if found.threads is None else f"{found.threads} thread(s)"
    larger = " or more" if found.bucket >= engine_choice.LARGEST_BUCKET else ""
    return (
        f"{found.model}, {threads}, frames of about {side}x{side} pixels{larger}: "
        f"{found.engine} ({found.why})"
    )


def verdict(facts: dict[str, Any]) -> str:
    """One sentence on whether images can be enlarged here, and if not what to do."""
    if facts["ok"]:
        return "ready"
    able = any(engine["available"] for engine in facts["engines"])
    if not able or (facts["models"] and not any(model["runs"] for model in facts["models"])):
        remedy = engines.engine_class("ort-cpu").remedy  # it needs the least of a machine
        return f"not ready: no engine runs a model; {remedy}"
    if not facts["models"]:
        return "not ready: no model is shipped with this installation; install a release of gidrn"
    return "not ready: no shipped model runs; install gidrn again"


def list_models() -> list[dict[str, Any]]:
    """The shipped models with what each says of itself, without a trial run."""
    found = engines.available()
    return [_read_model(name, path, found) for name, path in models.shipped().items()]


def describe_model(model: dict[str, Any]) -> str:
    """One line on a model as `examine` and `list_models` give it."""
    size = f"{model['bytes'] / 2**20:.1f} MiB"
    if model["error"]:
        return f"{model['name']} ({size}): {model['error']}"
    metadata = model["metadata"]
    return (
        f"{model['name']} ({size}): scale {model['scale']}, {model['precision']}, "
        f"attention {metadata.get('attention', 'unknown')}, "
        f"context {metadata.get('context', 'unknown')}, format {metadata['format']}, "
        f"weights {metadata.get('weights', 'unknown')} "
        f"(sha256 {metadata.get('weights_sha256', '')[:16] or 'none'})"
    )


def _read_model(name: str, path: Path, found: list[engines.EngineStatus]) -> dict[str, Any]:
    """Metadata is read by whichever engine is there that takes the file."""
    facts: dict[str, Any] = {
        "name": name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "scale": None,
        "precision": None,
        "metadata": {},
        "error": "",
    }
    present = next(iter(_able(path, found)), None)
    if present is None:
        facts["error"] = "cannot be read without an engine"
        return facts
    try:
        engine = engines.open_engine(present, path)
        try:
            info = models.check(engine, path)
        finally:
            engine.close()
    except ValueError as error:
        facts["error"] = str(error)
        return facts
    return facts | {"scale": info.scale, "precision": info.precision, "metadata": info.metadata}


def _examine_model(name: str, path: Path, found: list[engines.EngineStatus]) -> dict[str, Any]:
    facts = _read_model(name, path, found)
    facts["runs"] = [_try(path, engine) for engine in _able(path, found)]
    return facts


def _able(path: Path, found: list[engines.EngineStatus]) -> list[str]:
    """Engines that are here and open files of this kind."""
    opening = engines.that_open(path)
    return [status.name for status in found if status.available and status.name in opening]


def _try(path: Path, engine: str) -> dict[str, Any]:
    """Enlarge one mid-gray frame, and time it once, warm-up excluded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random weights: the listing tells
            upscaler = gidrn_runtime.Upscaler(path, engine=engine)
        with upscaler:
            height, width = (
                fixed or free for fixed, free in zip(upscaler.size_hw, TRIAL_HW, strict=True)
            )
            frame = np.full((height, width, 3), 128, np.uint8)
            began = time.perf_counter()
            upscaler(frame)
            elapsed_ms = 1000 * (time.perf_counter() - began)
    except Exception as error:  # whatever happens is a finding, not a crash of the doctor
        return {"engine": engine, "ok": False, "ms": None, "error": " ".join(str(error).split())}
    return {"engine": engine, "ok": True, "ms": elapsed_ms, "error": ""}


def _package(import_it: Callable[[], Any]) -> dict[str, str | None]:
    try:
        return {"version": import_it().__version__, "reason": ""}
    except ImportError as error:
        return {"version": None, "reason": str(error)}


def _package_text(name: str, found: dict[str, str | None]) -> str:
    if found["version"]:
        return f"{name} {found['version']}"
    return f"{name} not available: {found['reason']}"
