"""A camera whose pace is the stream's own, so that tests need no sleep and no luck."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gidrn_runtime import Stream

PATIENCE_S = 60.0
"""How long a test waits for what must happen; only a failing one waits so long."""


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds. Raises TimeoutError where it does not in PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what had to happen did not")
        time.sleep(0.001)


class OneByOne:
    """Frames, each given when the one before has met its fate; the clock ticks in between."""

    def __init__(self, frames: Iterable[np.ndarray], tick_s: float = 0.04) -> None:
        self.now = 0.0
        self.stream: Stream | None = None
        """Set it before the stream runs."""
        self._frames, self._tick_s = frames, tick_s

    def clock(self) -> float:
        """Seconds of the stream's clock."""
        return self.now

    def __iter__(self) -> Iterator[np.ndarray]:
        assert self.stream is not None
        counts = self.stream.ledger.counts
        for frame in self._frames:
            self.now += self._tick_s
            yield frame
            until(lambda: counts().inside == 0)
