"""How long a frame takes, as an element tells its pipeline."""

from __future__ import annotations

from collections import deque

WINDOW = 16
"""Frames that are looked back at."""

TOLERANCE = 0.25
"""What was told stands while it is off by this share at most: telling it makes the whole pipeline
ask anew."""


class FrameLatency:
    """The longest time of the last frames, told anew when it has changed by more than a quarter."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=WINDOW)
        self.told_ns = 0
        """What the pipeline has been told; 0 before the first frame."""

    def add(self, taken_ns: int) -> bool:
        """One more frame; True where `told_ns` has changed and the pipeline is to hear of it."""
        self._recent.append(taken_ns)
        longest = max(self._recent)
        if abs(longest - self.told_ns) <= TOLERANCE * self.told_ns:
            return False
        self.told_ns = longest
        return True
