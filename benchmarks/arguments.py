"""What several benchmarks take on their command lines: networks, factors, threads."""

from __future__ import annotations

from collections.abc import Collection

from gidrn import command_line, zoo
from gidrn_runtime import processor


def models(text: str, known: Collection[str]) -> list[str]:
    """Names of `known` from "all" or "a,b", each once.

    Raises ValueError for no names, and for an unknown one, with the nearest.
    """
    if text.strip() == "all":
        return list(known)
    names = list(command_line.words(text))
    for name in names:
        if name not in known:
            raise zoo.unknown("network", name, known)
    if not names:
        raise ValueError(f"--models wants all, or names among {', '.join(known)}")
    return names


def scales(text: str) -> list[int]:
    """Factors from "4" or "2,3,4", each once. Raises ValueError for others."""
    parts = command_line.words(text)
    if not parts or not all(part.isdecimal() and int(part) in zoo.SCALES for part in parts):
        raise ValueError(f"--scale wants one or more of 2, 3 and 4 (such as 2,4), not {text!r}")
    return [int(part) for part in parts]


def cpu_threads(threads: int | None) -> int:
    """What is asked for, or all cores. Raises ValueError for less than one."""
    if threads is not None and threads < 1:
        raise ValueError(f"--threads is at least 1, not {threads}")
    return threads or processor.usable_cores()
