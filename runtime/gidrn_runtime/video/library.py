"""PyAV, which only video needs."""

from __future__ import annotations

import os
from typing import Any

from gidrn_runtime import optional

REMEDY = 'pip install "gidrn[video]"'


def import_av() -> Any:
    """The package `av`.

    Raises:
        ImportError: it is missing or does not start here, with the remedy.
    """
    return optional.load("av", "video needs PyAV", REMEDY)


def ffmpeg_name(path: str | os.PathLike[str]) -> str:
    """What FFmpeg takes for the file `path`: of a relative one such as ``12:30.mp4`` it would take
    what stands before the colon for a protocol."""
    return os.path.abspath(path)
