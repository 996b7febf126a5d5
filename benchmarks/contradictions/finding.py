"""What a check of the paper against itself says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["contradiction", "consistent", "cannot be decided"]


@dataclass(frozen=True)
class Finding:
    """Two statements of the paper, or a statement and a count, and whether both can hold."""

    title: str
    """In a few words."""
    place: str
    """Tables, sections and equations."""
    statements: tuple[str, ...]
    """What the paper says, at least two; or one, and what is counted from the network."""
    arithmetic: str
    """How the verdict comes about, in numbers."""
    verdict: Verdict
    treatment: str
    """What this toolkit does about it."""


def judged(agrees: bool) -> Verdict:
    """The verdict of a check that can be decided."""
    return "consistent" if agrees else "contradiction"
