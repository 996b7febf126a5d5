"""Arrays that a thread keeps from call to call."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt


class Scratch(threading.local):
    """Arrays by name, each thread's own, made anew where another shape is asked for.

    They are freed with their thread, or with the object.
    """

    def __init__(self) -> None:
        """Runs once in each thread that touches the object."""
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """This thread's array of that name, C-contiguous; its content is undefined."""
        kept = self._arrays.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            self._arrays.pop(name, None)  # frees it before the new one is made
            kept = self._arrays[name] = np.empty(shape, dtype)
        return kept
