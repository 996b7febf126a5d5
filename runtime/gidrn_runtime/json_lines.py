"""Files of JSON objects, one a line, that are only ever added to and survive a kill at any moment.

A line that is not whole, as the last of a process that was killed while it wrote, counts for
nothing and spoils nothing: the next line begins on a line of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """The objects in the file `path`, which the first `add` makes.

    Raises OSError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects: list[dict[str, Any]] = []
        """What the file held when it was opened, in order; lines that are no objects left out."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        self._is_torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                self.objects.append(value)

    def add(self, value: Mapping[str, Any]) -> None:
        """Write one line; it is on the disk when this returns. Raises OSError."""
        line = json.dumps(value) + "\n"
        data = ("\n" * self._is_torn + line).encode()
        self._is_torn = True
        with open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._is_torn = False
