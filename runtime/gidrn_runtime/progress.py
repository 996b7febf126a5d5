"""One line that tells how far a long piece of work is, and how long it will still take."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

SECONDS_BETWEEN = {True: 0.1, False: 30.0}
"""Between two lines on a terminal, where each takes the last one's place; and anywhere else."""


class Progress:
    """The progress of `total` things called `unit`, told on stderr."""

    def __init__(self, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._unit = total, unit
        self._on_terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._last = self._began if not self._on_terminal else -1e9
        self._width = 0

    def show(self, done: int, failed: int) -> None:
        """Tell it, unless that was told a moment ago."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN[self._on_terminal]:
            return
        self._last = now
        text = progress_text(done, failed, self._total, self._unit, now - self._began)
        if self._on_terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps would stay
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line off the terminal, so that something else can be told there."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width, self._last = 0, -1e9


def progress_text(done: int, failed: int, total: int, unit: str, elapsed_s: float) -> str:
    """``12 of 40 pictures, 1 failed, 27 left, 4.1 pictures/s, 7 s to go``."""
    finished = done + failed
    parts = [f"{done} of {total} {unit}", f"{failed} failed", f"{total - finished} left"]
    if finished and elapsed_s > 0:
        per_second = finished / elapsed_s
        parts += [
            f"{per_second:.3g} {unit}/s",
            f"{duration_text((total - finished) / per_second)} to go",
        ]
    return ", ".join(parts)


def duration_text(seconds: float) -> str:
    """``7 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
