"""PyAV, which only video needs."""

from __future__ import annotations

from typing import Any

from gidrn_runtime import optional

REMEDY = 'pip install "gidrn[video]"'


def import_av() -> Any:
    """The package `av`.

    Raises:
        ImportError: it is missing or does not start here, with the remedy.
    """
    return optional.load("av", "video needs PyAV", REMEDY)
