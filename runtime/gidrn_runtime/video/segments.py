"""Encoded segments on disk, so that a job that is killed goes on where it was.

A work folder beside the output holds `manifest.json`, which says of what the segments are made, a
file for each finished segment and, once the whole video is encoded, `encoded.json`. Each appears
under its name when it is complete, not before. A segment is its packets' data one after the other,
a JSON index, the index's length in 8 bytes and `MAGIC`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gidrn_runtime.image_files import replacing

MAGIC = b"GIDRNSEG"
TAIL = 8 + len(MAGIC)
OWN_FILES = (".*.part", "[0-9]*.segment", "joined.*", "encoded.json", "manifest.json")
"""What stands in a work folder, beside the lock."""


@dataclass(frozen=True)
class EncodedPacket:
    """A packet without its data: where it stands in time and in the segment's file."""

    pts: int
    size: int
    key: bool


@dataclass(frozen=True)
class Segment:
    """A finished segment's index."""

    extradata: str
    """The encoder's, in hexadecimal."""
    frames: tuple[tuple[int, int], ...]
    """Time of display and duration (0 where unknown) of each frame, in ticks."""
    packets: tuple[EncodedPacket, ...]
    """In the order of decoding."""


class SegmentWriter:
    """Writes packets to a file and, at the end, the index."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packets: list[EncodedPacket] = []

    def add(self, packet: Any) -> None:
        """Take in a packet of `av`."""
        data = bytes(packet)
        self._file.write(data)
        self._packets.append(EncodedPacket(packet.pts, len(data), bool(packet.is_keyframe)))

    def finish(self, extradata: bytes, frames: list[tuple[int, int]]) -> None:
        """Write the index.

        Raises:
            RuntimeError: the encoder has not given exactly one packet a frame.
        """
        wanted, came = [pts for pts, _ in frames], sorted(packet.pts for packet in self._packets)
        if wanted != came:
            raise RuntimeError(
                f"the encoder took {len(wanted)} frames and gave {len(came)} packets, or other "
                "times; choose another --codec"
            )
        segment = Segment(extradata.hex(), tuple(frames), tuple(self._packets))
        index = json.dumps(asdict(segment)).encode()
        self._file.write(index + len(index).to_bytes(8, "little") + MAGIC)


def read_segment(path: Path) -> Segment:
    """The index of a finished segment.

    Raises:
        ValueError: the file is damaged.
    """
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - TAIL))
        tail = file.read()
        length = int.from_bytes(tail[:8], "little")
        if tail[8:] != MAGIC or length > size - TAIL:
            raise ValueError(f"{path} is damaged; --restart begins anew")
        file.seek(size - TAIL - length)
        index = json.loads(file.read(length))
    segment = Segment(
        index["extradata"],
        tuple((pts, duration) for pts, duration in index["frames"]),
        tuple(EncodedPacket(**packet) for packet in index["packets"]),
    )
    if sum(packet.size for packet in segment.packets) != size - TAIL - length:
        raise ValueError(f"{path} is damaged; --restart begins anew")
    return segment


def read_packets(path: Path, segment: Segment) -> Iterator[tuple[EncodedPacket, bytes]]:
    """The segment's packets with their data, in the order of decoding."""
    with path.open("rb") as file:
        for packet in segment.packets:
            yield packet, file.read(packet.size)


class WorkFolder:
    """The folder of one job, held by this process alone while it is open."""

    def __init__(self, folder: Path, manifest: dict[str, Any], *, restart: bool = False) -> None:
        """Make the folder, or take up the one that is there.

        Raises:
            ValueError: it was made from other ingredients, each named, and `restart` is False; or
                another process works in it.
            OSError: the disk does not take it.
        """
        self.folder = folder
        manifest = json.loads(json.dumps(manifest))
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {folder}: {error.strerror}") from error
        self._lock = _lock(folder)
        try:
            if restart:
                self._empty()
            for stale in folder.glob(".*.part"):  # of a process that was killed
                stale.unlink(missing_ok=True)
            known = folder / "manifest.json"
            if known.exists():
                changed = _changed(json.loads(known.read_text()), manifest)
                if changed:
                    raise ValueError(
                        f"{folder} has an unfinished job of other ingredients ({changed}); "
                        "--restart throws it away and begins anew"
                    )
            else:
                self._empty()
                self._write("manifest.json", manifest)
        except BaseException:
            self._lock.close()
            raise

    def segment(self, number: int) -> Path:
        """Where a segment stands, or will."""
        return self.folder / f"{number:06d}.segment"

    def finished(self) -> int:
        """How many segments are there, without a gap from the first."""
        number = 0
        while self.segment(number).exists():
            number += 1
        return number

    @property
    def encoded(self) -> dict[str, Any] | None:
        """What was told to `set_encoded`, or None while the video is not all encoded."""
        path = self.folder / "encoded.json"
        facts: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return facts

    def set_encoded(self, facts: dict[str, Any]) -> None:
        """Say that all segments are there."""
        self._write("encoded.json", facts)

    def close(self) -> None:
        """Let other processes work in it."""
        self._lock.close()

    def remove(self) -> None:
        """Delete it; what is not of a job stays, and the folder with it."""
        self._empty()
        self._lock.close()
        (self.folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        with replacing(self.folder / name) as file:
            file.write(json.dumps(facts, indent=1).encode())

    def _empty(self) -> None:
        """Delete what a job leaves, and nothing that somebody else put there."""
        for pattern in OWN_FILES:  # the manifest goes last: what is left counts for nothing then
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)


def _lock(folder: Path) -> BinaryIO:
    """A file that this process alone holds; the system lets go of it when the process ends."""
    file = (folder / "lock").open("ab")
    try:
        import fcntl
    except ImportError:  # Windows; there the open file alone has to do
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(f"another process is at work in {folder}; wait for it") from error
    return file


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What is not the same in two manifests, with both values where they are short."""
    old, new = _flat(before), _flat(after)
    told = []
    for key in sorted(old | new):
        values = [json.dumps(facts.get(key)) for facts in (old, new)]
        if values[0] != values[1]:
            is_short = sum(map(len, values)) < 90
            told.append(f"{key} was {values[0]}, is {values[1]}" if is_short else key)
    return "; ".join(told)


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """One level of nesting taken out: ``model.threads``."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{key}.{name}".rstrip("."): item for name, item in inner.items()}
    return flat
