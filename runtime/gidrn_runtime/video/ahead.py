"""Doing the next items' work while the last one's is still going on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_S = 0.1
"""How often a waiting thread looks whether it is to stop."""


class Ahead(Generic[T]):
    """An iterator whose items are made in a thread of its own, at most `depth` in advance.

    What the items' maker raises is raised where they are taken. `stop` ends the thread after the
    item it is at; it does not wait, since that item may keep an engine busy for minutes.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._full: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                made = self._full.get(timeout=POLL_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            if made is None:
                return
            if isinstance(made, BaseException):
                raise made
            yield made[0]

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended; `stop` comes first."""
        self._thread.join()

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # handed over to the thread that takes the items
            self._put(error)
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def _put(self, made: tuple[T] | BaseException | None) -> bool:
        """Whether it was taken in before `stop`."""
        while not self._stopping.is_set():
            try:
                self._full.put(made, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False
