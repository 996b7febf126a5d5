"""Telling how far a long job is."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR = 24
"""Characters of the bar."""


class Progress:
    """A bar on a terminal; elsewhere, as in a log file, a line now and then."""

    def __init__(
        self,
        total: int | None,
        *,
        done_before: int = 0,
        stream: TextIO | None = None,
        line_every_s: float = 30.0,
    ) -> None:
        """`total` frames, None where unknown; `done_before` of them cost no time in this run."""
        self._total = total
        self._before = done_before
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._every_s = 0.2 if self._bar else line_every_s
        self._began = self._shown = time.monotonic()
        self._open = False

    def update(self, done: int) -> None:
        """Show that `done` frames are finished, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._every_s:
            return
        self._shown = now
        text = self.line(done, now - self._began)
        self._stream.write(f"\r{text}\x1b[K" if self._bar else f"{text}\n")
        self._stream.flush()
        self._open = self._bar

    def line(self, done: int, elapsed_s: float) -> str:
        """What is shown after so many frames and seconds."""
        fps = (done - self._before) / elapsed_s if elapsed_s > 0 else 0.0
        if not self._total:
            return f"{done} frames, {fps:.2f} FPS"
        total = max(self._total, done)
        left = clock((total - done) / fps) if fps > 0 else "unknown"
        text = f"{done}/{total} frames, {fps:.2f} FPS, {left} left"
        if not self._bar:
            return text
        filled = BAR * done // total
        return f"[{'#' * filled}{'.' * (BAR - filled)}] {text}"

    def close(self) -> None:
        """Leave the bar's line."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}"
