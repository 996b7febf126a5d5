"""Linux's control groups, by which containers and services limit a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def folders(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """The groups that limit this process by a controller, such as ``memory``, from its own to the
    top one: version of their files, 1 or 2, and folder. `root` is where ``proc`` and ``sys`` are.
    """
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = top / path.strip("/")
        # Inside a container the path may be the host's, of which only the top is to be seen.
        for group in (folder, *folder.parents):
            if group != top and top not in group.parents:
                break
            yield (1 if controllers else 2), group


def lines(path: Path) -> list[str]:
    """Of a file; none where it is not there."""
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def number(text: str) -> int | None:
    """A limit; None for none, as ``max`` or -1."""
    return int(text) if text.isdecimal() else None
