"""The manifest of a folder of enlarged pictures: what each was made of, and what became of it.

A file of JSON lines (`gidrn_runtime.json_lines`) in the output folder, which is only ever added to.
A run begins with a line of what decides its pictures and who it is:

    {"run": {"source": ..., "model": ..., "model_sha256": ..., "picture_format": ...},
     "format": "gidrn-folder/1", "version": ..., "host": ..., "pid": ..., "began": ...}

Each picture adds lines of its own, of which the last counts (`Record`): ``writing`` before its
output gets its name, ``done`` after; or ``failed``. So whichever moment a run is killed at, the
next one can tell by ``writing`` and the output's sha256 whether the picture is there.

The file is locked while a run is at work on the folder.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import gidrn_runtime
from gidrn_runtime.json_lines import JsonLines

NAME = "gidrn_manifest.jsonl"
FORMAT = "gidrn-folder/1"
WRITING, DONE, FAILED = "writing", "done", "failed"


@dataclass(frozen=True)
class Settings:
    """What decides the pictures of a run."""

    source: str
    """The folder that they come from."""
    model: str
    """Its file's name."""
    model_sha256: str
    picture_format: str
    """``png`` or ``keep``."""


@dataclass(frozen=True)
class Record:
    """What the manifest says of one picture."""

    item: str
    """Path of the source relative to the source folder, with slashes."""
    state: str
    """``writing``, ``done`` or ``failed``."""
    size: int = 0
    """Of the source in bytes, with `mtime_ns` and `sha256` as it was when it was read."""
    mtime_ns: int = 0
    sha256: str = ""
    output: str = ""
    """Path of the output relative to the output folder, with slashes."""
    output_size: int = 0
    output_sha256: str = ""
    engine: str = ""
    error: str = ""


class Manifest:
    """The manifest of the folder `out`, which is there, locked until `close`.

    A run with other settings than the last is refused, or with `overwrite` begins anew: then no
    picture of former runs counts as done.

    Raises:
        ValueError: the folder holds the pictures of a run with other settings; or another run is at
            work on it.
        OSError: the folder or the disk does not take it.
    """

    def __init__(self, out: Path, settings: Settings, overwrite: bool) -> None:
        path = out / NAME
        try:
            self._locked = open(path, "ab")
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror}") from error
        try:
            lock(self._locked, path)
            self._lines = JsonLines(path)
            self._records: dict[str, Record] = {}
            self._written: set[tuple[str, int]] = set()
            last = self._read()
            if last is not None and last != asdict(settings):
                if not overwrite:
                    raise ValueError(_difference(out, last, asdict(settings)))
                self._records.clear()
            self._lines.add(
                {
                    "run": asdict(settings),
                    "format": FORMAT,
                    "version": gidrn_runtime.__version__,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                }
            )
        except BaseException:
            self._locked.close()
            raise

    def _read(self) -> dict[str, Any] | None:
        """Take in the lines of former runs; the settings of the last."""
        known = {field.name for field in fields(Record)}
        last: dict[str, Any] | None = None
        for line in self._lines.objects:
            if "run" in line:
                if line.get("format") != FORMAT:
                    raise ValueError(
                        f"{self._lines.path} is of the format {line.get('format')!r}, not "
                        f"{FORMAT!r}; choose another output folder"
                    )
                if last not in (None, line["run"]):
                    self._records.clear()
                last = line["run"]
            elif line.keys() >= {"item", "state"}:
                self._take(Record(**{key: line[key] for key in known & line.keys()}))
        self._lines.objects.clear()
        return last

    def _take(self, record: Record) -> None:
        self._records[record.item] = record
        if record.output:
            self._written.add((record.output, record.output_size))

    def get(self, item: str) -> Record | None:
        """The last word on a picture in a run with these settings, or None."""
        return self._records.get(item)

    def wrote(self, output: str, size: int) -> bool:
        """Whether a file of this name and size may be the work of some run on this folder."""
        return (output, size) in self._written

    def add(self, record: Record) -> None:
        """Write one line; it is on the disk when this returns. Raises OSError."""
        try:
            self._lines.add({key: value for key, value in asdict(record).items() if value})
        except OSError as error:
            raise OSError(f"cannot write {self._lines.path}: {error.strerror}") from error
        self._take(record)

    def close(self) -> None:
        """Let others at the folder. A second call does nothing."""
        self._locked.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(file: IO[bytes], path: Path) -> None:
    """Lock an open manifest for this process; the lock goes with the file's closing, or a kill.

    Raises:
        ValueError: another run holds it; the message says which.
        OSError: this system or file system has no such locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("folders need the file locks of Linux or macOS") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        runs = [line for line in JsonLines(path).objects if "run" in line]
        who = "{host}, process {pid}, since {began}".format_map(runs[-1]) if runs else "it begins"
        raise ValueError(
            f"another run is at work on {path.parent} ({who}); wait for its end, or choose another "
            "output folder"
        ) from error
    except OSError as error:
        raise OSError(f"cannot lock {path}: {error.strerror}") from error


def _difference(out: Path, last: dict[str, Any], now: dict[str, Any]) -> str:
    """What a user is told whose run has other settings than the folder."""
    shown = [
        f"{key}: {str(last.get(key))[:60]!r} there, {str(now[key])[:60]!r} now"
        for key in now
        if last.get(key) != now[key]
    ]
    return (
        f"{out} holds the pictures of a run with other settings ({'; '.join(shown)}); choose "
        "another output folder, or --overwrite does all of them anew"
    )
