"""Peak memory of one model, in a process of its own that does nothing else.

Method: a fresh Python imports NumPy, the runtime and the engine's library and notes its resident
memory (the baseline); then it opens the model and enlarges frames of each size once, and notes the
highest resident memory that it ever had. On Linux that is the kernel's count for this very process
(VmHWM); `ru_maxrss` would start from the parent's peak there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from gidrn_runtime import Upscaler, engines

METHOD = (
    "fresh process per model; baseline = resident memory with NumPy, runtime and engine imported; "
    "peak = highest resident memory after one frame of each size, end to end"
)


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a process in MiB."""

    baseline_mib: float
    """Before the model was opened."""
    peak_mib: float
    """The highest until every size had been run."""


def peak_memory(
    model: Path,
    *,
    engine: str,
    threads: int | None,
    sizes_hw: Iterable[tuple[int, int]],
    tiles: str | tuple[int, int] = "never",
    memory_mib: int | None = None,
    tile_rounds: int | None = None,
    tensors: bool = False,
) -> PeakMemory:
    """Measure a model in a process of its own; `tiles` and the next two are `Upscaler`'s.

    With `tensors` the engine runs float tensors (1, 3, H, W) without an `Upscaler` around it, so
    that the file may be any network. Raises OSError where that process fails.
    """
    sizes = [f"{height}x{width}" for height, width in sizes_hw]
    options = json.dumps({"tiles": tiles, "memory_mib": memory_mib, "tile_rounds": tile_rounds})
    command = [sys.executable, __file__, str(model), engine, str(threads or 0), options, *sizes]
    command += ["--tensors"] if tensors else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise OSError(
            f"the process that measures the memory of {model.name} ended with code "
            f"{done.returncode}: {lines[-1] if lines else 'it says nothing'}"
        )
    return PeakMemory(**json.loads(done.stdout))


def measure(
    model: Path,
    engine: str,
    threads: int | None,
    sizes_hw: list[tuple[int, int]],
    options: Mapping[str, Any],
) -> PeakMemory:
    """Measure in this process, which should be fresh; `options` are further ones of `Upscaler`."""
    frames = [np.full((height, width, 3), 128, np.uint8) for height, width in sizes_hw]
    if engine != "auto":
        engines.engine_class(engine).installed_version()  # imports the engine's library
    baseline_mib = psutil.Process().memory_info().rss / 1024**2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights are what we may want to measure
        upscale = Upscaler(model, engine=engine, threads=threads, **options)
    with upscale:
        for frame in frames:
            upscale(frame)
    return PeakMemory(round(baseline_mib, 1), round(_peak_mib(), 1))


def measure_tensors(
    model: Path, engine: str, threads: int | None, sizes_hw: list[tuple[int, int]]
) -> PeakMemory:
    """Measure an engine on tensors in this process, which should be fresh."""
    made = engines.engine_class(engine)
    made.installed_version()  # imports the engine's library
    baseline_mib = psutil.Process().memory_info().rss / 1024**2
    opened = made(model, threads)
    for height, width in sizes_hw:
        opened.run(np.full((1, 3, height, width), 0.5, np.float32))
    opened.close()
    return PeakMemory(round(baseline_mib, 1), round(_peak_mib(), 1))


def _peak_mib() -> float:
    """The highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if on_windows is not None:
        return float(on_windows) / 1024**2
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def main() -> None:
    """Measure what the command line names, and print it as JSON."""
    parser = argparse.ArgumentParser(description="Peak memory of one model, as JSON.")
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("engine", help="a name of the runtime")
    parser.add_argument("threads", type=int, help="CPU threads; 0 leaves it to the engine")
    parser.add_argument("options", type=json.loads, help="further ones of Upscaler, as JSON")
    parser.add_argument("sizes", nargs="+", help="HEIGHTxWIDTH of a frame")
    parser.add_argument("--tensors", action="store_true", help="run tensors, not frames")
    given = parser.parse_args()
    sizes_hw = []
    for size in given.sizes:
        height, width = size.split("x")
        sizes_hw.append((int(height), int(width)))
    options = given.options
    if isinstance(options["tiles"], list):
        options["tiles"] = tuple(options["tiles"])
    threads = given.threads or None
    if given.tensors:
        found = measure_tensors(given.model, given.engine, threads, sizes_hw)
    else:
        found = measure(given.model, given.engine, threads, sizes_hw, options)
    print(json.dumps({"baseline_mib": found.baseline_mib, "peak_mib": found.peak_mib}))


if __name__ == "__main__":
    main()
