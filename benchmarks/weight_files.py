"""Weights by file name: `imdn_x4.safetensors`, `.pth` or `.pt` in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = (".safetensors", ".pth", ".pt")
"""In the order in which they are looked for."""


def folder(given: Path | None) -> Path | None:
    """The folder given, else that of the variable GIDRN_WEIGHTS, else None.

    Raises FileNotFoundError for one that is not there.
    """
    named = os.environ.get("GIDRN_WEIGHTS")
    root = given or (Path(named) if named else None)
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"there is no folder of weights {root}")
    return root


def names(root: Path | None, name: str, scale: int) -> list[Path]:
    """Where weights of a network would lie under `root`; none without a root."""
    return [] if root is None else [root / f"{name}_x{scale}{suffix}" for suffix in SUFFIXES]
