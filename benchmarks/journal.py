"""What a long measurement has got so far, so that a run that was killed is taken up again.

A journal is a file of JSON lines, one a finished piece of work: `{"key": {...}, "value": {...}}`.
The key holds all that the value depends on; whoever asks with another key measures anew. A line
that is not whole, as the last of a run that was killed while it wrote, counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gidrn_runtime.json_lines import JsonLines

Key = Mapping[str, str | int]
Value = Mapping[str, float]


class Journal:
    """The finished pieces of work in the file `path`, which the first `add` makes.

    Raises OSError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)
        self._found: dict[str, Value] = {}
        for entry in self._lines.objects:
            try:
                self._found[_text(entry["key"])] = dict(entry["value"])
            except (ValueError, KeyError, TypeError):
                continue

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Key) -> Value | None:
        """What was added under an equal key, to the last digit, or None."""
        return self._found.get(_text(key))

    def add(self, key: Key, value: Value) -> None:
        """Write one line; it is on the disk when this returns. Raises OSError."""
        self._lines.add({"key": key, "value": value})
        self._found[_text(key)] = value

    def remove(self) -> None:
        """Take the file away, once the results stand elsewhere; none is no error."""
        self.path.unlink(missing_ok=True)


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)
