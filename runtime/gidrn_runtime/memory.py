"""What a run needs of memory, and how much there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gidrn_runtime import control_groups
from gidrn_runtime.control_groups import lines, number

BYTES_PER_PIXEL: dict[tuple[str, int, str], int] = {
    ("gidrn", 2, "ort-cpu"): 9_400,
    ("gidrn", 3, "ort-cpu"): 9_700,
    ("gidrn", 4, "ort-cpu"): 9_700,
    ("gidrn", 2, "native"): 2_400,
    ("gidrn", 3, "native"): 2_500,
    ("gidrn", 4, "native"): 2_600,
}
"""Model, factor and engine -> peak bytes per input pixel of whole runs, tensors included.

native: its eight floats of 72 channels, and both tensors, which it knows beforehand. ort-cpu: of
the third frame of a size: ONNX Runtime lays a pattern of its memory down after the first, and
takes nearly twice as much from then on. Measured at x2 and x4; x3 lies between and has x4's.
"""

TILE_BYTES_PER_PIXEL: dict[tuple[str, int, str], int] = {
    ("gidrn", 2, "ort-cpu"): 7_500,
    ("gidrn", 3, "ort-cpu"): 7_900,
    ("gidrn", 4, "ort-cpu"): 7_900,
}
"""The same of a tile file, a pixel of the tile and its halo. Measured at x2 and x4; x3 has x4's."""

FIXED_BYTES = 64 << 20
"""What an opened model takes whatever it runs."""

SHARE = 0.8
"""Of the memory that is free, what a run is let take: the rest is for the forecast's error, and for
what else the process does meanwhile."""


def bytes_per_pixel(metadata: Mapping[str, str], engine: str, *, tile: bool) -> int | None:
    """Of a run of this model on this engine, by input pixel; None where it was not measured."""
    usual = (metadata.get("dtype"), metadata.get("merged_groups", "1")) == ("fp32", "1")
    if not usual or not metadata.get("attention", "").startswith("curve"):
        return None
    key = (metadata.get("model", ""), int(metadata["scale"]), engine)
    return (TILE_BYTES_PER_PIXEL if tile else BYTES_PER_PIXEL).get(key)


def available(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None where the system does not say (not Linux).

    The kernel's estimate of what is free without swapping, or what the control groups of this
    process (containers, services) leave of their limits, whichever is less. `root` is where
    ``proc`` and ``sys`` are.
    """
    found = [*_meminfo(root), *_control_groups(root)]
    return max(0, min(found)) if found else None


def _meminfo(root: Path) -> list[int]:
    for line in lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return [int(line.split()[1]) * 1024]
    return []


def _control_groups(root: Path) -> list[int]:
    """What each limit above this process leaves: version 2's files, or version 1's."""
    found = []
    for version, group in control_groups.folders("memory", root):
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if version == 1
            else ("memory.max", "memory.current")
        )
        most, now = _number(group / limit), _number(group / used)
        if most is not None and now is not None:
            found.append(most - now + _cache(group / "memory.stat"))
    return found


def _cache(stat: Path) -> int:
    """Bytes of files that are only kept while there is room for them; they count as used."""
    for line in lines(stat):
        if line.split()[0] in ("inactive_file", "total_inactive_file"):
            return int(line.split()[1])
    return 0


def _number(path: Path) -> int | None:
    found = lines(path)
    return number(found[0]) if found else None
