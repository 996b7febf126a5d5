"""A stand-in for picamera2, which runs on a Raspberry Pi alone: the few names that an example uses.

Their signatures are picamera2's own (`Picamera2.create_video_configuration`, `configure`, `start`,
`stop`, the attribute `pre_callback`, and `CompletedRequest.make_array`). As there, frames are
delivered in a thread of the camera's, and the camera writes into the same buffer again as soon as
the callback returns.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np


class CompletedRequest:
    """What the callback gets."""

    def __init__(self, buffer: np.ndarray) -> None:
        self._buffer = buffer

    def make_array(self, name: str) -> np.ndarray:
        """A copy of the frame, (H, W, 3)."""
        assert name == "main"
        return self._buffer.copy()


class Picamera2:
    """Gives frames whose gray value counts up from 0 to 199 and around, 50 a second."""

    def __init__(self) -> None:
        self.pre_callback: Callable[[CompletedRequest], None] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._size = (0, 0)

    def create_video_configuration(self, main: dict[str, Any]) -> dict[str, Any]:
        """A configuration for `configure`."""
        return {"main": main}

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take on size (width, height) and format."""
        assert configuration["main"]["format"] == "RGB888"
        self._size = configuration["main"]["size"]

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver no more."""
        self._over.set()
        self._thread.join()

    def _deliver(self) -> None:
        width, height = self._size
        buffer = np.empty((height, width, 3), np.uint8)
        for number in itertools.count():
            buffer[:] = number % 200
            assert self.pre_callback is not None
            self.pre_callback(CompletedRequest(buffer))
            buffer[:] = 255  # the memory is the camera's again
            if self._over.is_set():
                return
            time.sleep(0.02)
