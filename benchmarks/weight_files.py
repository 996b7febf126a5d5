"""Weights by file name in a user's folder: `imdn_x4.safetensors`, `.pth`, `.pt` or `.mat`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gidrn import matlab, zoo

SUFFIXES = (".safetensors", ".pth", ".pt", ".mat")
"""In the order in which they are looked for. MATLAB files are of SRCNN, VDSR and LapSRN."""


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
    """Where weights of a network would lie under `root`; none without a root.

    A name's underscores may be hyphens: `rfdn-aim_x4.pth`.
    """
    if root is None:
        return []
    stems = dict.fromkeys([name, name.replace("_", "-")])
    return [root / f"{stem}_x{scale}{suffix}" for stem in stems for suffix in SUFFIXES]


def passed_over(root: Path | None, models: Iterable[str]) -> list[str]:
    """Names of weight files under `root` that no model of `models` has at any factor."""
    if root is None:
        return []
    known = {path.name for model in models for s in zoo.SCALES for path in names(root, model, s)}
    found = {path.name for path in root.iterdir() if path.suffix in SUFFIXES}
    return sorted(found - known - set(matlab.PROJECTIONS))
