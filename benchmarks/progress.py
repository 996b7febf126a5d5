"""A progress bar for work whose amount shows itself on the way."""

from __future__ import annotations

import sys

from tqdm import tqdm


class Progress:
    """A bar on standard error whose end moves as the work ahead becomes known."""

    def __init__(self, unit: str = "step") -> None:
        self._bar = tqdm(total=0, unit=unit, disable=None, leave=False, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, name: str, done: int, more: int) -> None:
        """`done` steps of `name` are over, and `more` steps have been added."""
        self._bar.total += more
        self._bar.set_description(name, refresh=False)
        self._bar.update(done)
        self._bar.refresh()
