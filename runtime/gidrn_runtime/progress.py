"""One line that tells how far a long piece of work is, and how long it will still take."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

SECONDS_BETWEEN = {True: 0.1, False: 30.0}
"""Between two lines on a terminal, where each takes the last one's place; and anywhere else."""

BAR = 24
"""Characters of the bar that a terminal gets."""


class Progress:
    """The progress of `total` things called `unit`, told on stderr; a bar too on a terminal."""

    def __init__(
        self, total: int | None, unit: str, stream: TextIO | None = None, *, done_before: int = 0
    ) -> None:
        """`total` is None where unknown; `done_before` of them cost no time of this run."""
        self._stream = stream or sys.stderr
        self._total, self._unit, self._before = total, unit, done_before
        self._on_terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._last = self._began if not self._on_terminal else -1e9
        self._width = 0

    def show(self, done: int, failed: int = 0) -> None:
        """Tell it, unless that was told a moment ago."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN[self._on_terminal]:
            return
        self._last = now
        finished = done + failed
        elapsed_s = now - self._began
        per_second = (finished - self._before) / elapsed_s if elapsed_s > 0 else 0.0
        text = progress_text(done, failed, self._total, self._unit, per_second)
        if self._on_terminal:
            text = bar_text(finished, self._total) + text
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


def progress_text(done: int, failed: int, total: int | None, unit: str, per_second: float) -> str:
    """``12 of 40 pictures, 1 failed, 4.1 pictures/s, 7 s to go``; frames go by FPS."""
    parts = [f"{done} {unit}" if total is None else f"{done} of {total} {unit}"]
    if failed:
        parts.append(f"{failed} failed")
    if per_second > 0:
        parts.append(f"{per_second:.3g} {'FPS' if unit == 'frames' else f'{unit}/s'}")
        if total is not None:
            parts.append(f"{duration_text(max(total - done - failed, 0) / per_second)} to go")
    return ", ".join(parts)


def bar_text(finished: int, total: int | None) -> str:
    """``[######..................] ``; empty where the total is unknown."""
    if not total:
        return ""
    filled = min(BAR * finished // total, BAR)
    return f"[{'#' * filled}{'.' * (BAR - filled)}] "


def duration_text(seconds: float) -> str:
    """``7 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
