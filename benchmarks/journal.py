"""What a long measurement has got so far, so that a run that was killed is taken up again.

A journal is a file of JSON lines, one a finished piece of work: `{"key": {...}, "value": {...}}`.
The key holds all that the value depends on; whoever asks with another key measures anew. A line
that is not whole, as the last of a run that was killed while it wrote, counts for nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

Key = Mapping[str, str | int]
Value = Mapping[str, float]


class Journal:
    """The finished pieces of work in the file `path`, which the first `add` makes.

    Raises OSError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Value] = {}
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        self._is_torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            try:
                entry = json.loads(line)
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
        line = json.dumps({"key": key, "value": value}) + "\n"
        with open(self.path, "ab") as file:
            file.write(("\n" * self._is_torn + line).encode())
            file.flush()
            os.fsync(file.fileno())
        self._is_torn = False
        self._found[_text(key)] = value

    def remove(self) -> None:
        """Take the file away, once the results stand elsewhere; none is no error."""
        self.path.unlink(missing_ok=True)


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)
