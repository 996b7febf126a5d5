"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there when the block ends without an error.

    An error or Ctrl-C inside removes the temporary file and leaves whatever stood at `path`.
    Raises OSError, before the block runs, where the folder is missing or cannot be written, and
    where `path` is a folder, a device or anything else that is no regular file.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise OSError(f"cannot write {path}: it is no regular file")
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.tmp")
    temporary.touch(exist_ok=False)  # with the permissions that the system gives any new file
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
