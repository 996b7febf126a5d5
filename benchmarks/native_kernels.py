"""The native engine's inner loops by themselves: microseconds, and multiply-adds a second.

`native_kernels.cpp` calls them on rows that stay in the first two caches, on one core.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hatch_build
from benchmarks.records import PROJECT
from gidrn_runtime.engines import native

PIXELS = 120
"""Of a row."""

PROTOCOL = (
    f"each kernel on rows of {PIXELS} pixels in the caches, one core; a sample is the mean of 20 "
    "calls; multiply-adds of the 3x3 convolutions are counted as direct ones'"
)


@dataclass(frozen=True)
class Kernel:
    """One inner loop's times."""

    name: str
    multiply_adds: int
    """Of a call; 0 where it is no convolution."""
    us: tuple[float, ...]
    """Microseconds of a call, sample by sample."""

    @property
    def g_per_s(self) -> float | None:
        """Multiply-adds a second in the best sample, in G."""
        return self.multiply_adds / min(self.us) / 1000 if self.multiply_adds else None


def measure(pixels: int = PIXELS) -> tuple[str, list[Kernel]]:
    """The set of instructions that the engine takes here, and its kernels.

    Raises:
        EngineUnavailable: the engine is not built here.
        hatch_build.NoCompilerError: there is no C++ compiler.
    """
    chosen = native.instructions(native.library())
    with tempfile.TemporaryDirectory() as folder:
        driver = _compiled(Path(folder), chosen)
        done = subprocess.run(
            [driver, str(pixels)], capture_output=True, text=True, check=True, timeout=300
        )
    found = json.loads(done.stdout)
    kernels = [
        Kernel(one["name"], int(one["multiply_adds"]), tuple(one["us"])) for one in found["kernels"]
    ]
    return str(found["instructions"]), kernels


def _compiled(folder: Path, instructions: str) -> Path:
    table, flags = hatch_build.KERNELS[instructions]
    sources = PROJECT / hatch_build.SOURCES
    driver = folder / "driver"
    command = [
        *(hatch_build.compiler(), *hatch_build.FLAGS, *flags, f"-I{sources}"),
        *(f"-DGIDRN_KERNELS={table}", f'-DGIDRN_NAME="{instructions}"'),
        *(str(sources / "kernels.cpp"), str(Path(__file__).with_suffix(".cpp"))),
        *("-o", str(driver)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return driver
