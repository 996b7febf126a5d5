"""The leader of a run over a folder: which pictures, which are done, and the work until all are."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from gidrn_runtime import EngineError, image_files
from gidrn_runtime.archive.jobs import Answer, Job, WorkerDied, WorkerPool
from gidrn_runtime.archive.manifest import DONE, FAILED, NAME, WRITING, Manifest, Record

READABLE = (
    *image_files.FORMATS,
    *(".ppm", ".pgm", ".pbm", ".jpe", ".dib", ".jp2", ".sr", ".ras", ".avif"),
)
"""Extensions of the files that are taken without a pattern, in small or capital letters."""
PICTURE_FORMATS = ("png", "keep")
MAX_TRIES = 3
"""How often a picture may cost a worker its life before it counts as failed."""
STOP_THE_RUN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV)
"""Errors of writing that the next picture would meet too."""


@dataclass(frozen=True)
class Item:
    """One picture of a run."""

    name: str
    """Path of the source relative to the source folder, with slashes."""
    source: Path
    output: str
    """Path of the output relative to the output folder, with slashes."""
    target: Path
    deaths: int = 0
    """Workers that ended while they were at it, in this run."""


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: ``done``, ``failed``, or ``again`` when its worker died."""

    item: Item
    state: str
    error: Exception | None = None
    seconds: float = 0.0
    """For the enlarging alone."""


def check_folders(source: Path, out: Path) -> None:
    """Refuse folders whose outputs would be the next run's sources.

    `out` may lie inside `source`, where `find_pictures` leaves it out.

    Raises:
        FileNotFoundError: there is no `source`.
        ValueError: one is a file; or `source` is `out`, or lies in it.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no folder {source}")
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; the command upscale enlarges single files")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the enlarged pictures")
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise ValueError(
            f"{source} lies in {out}: enlarged pictures would count as new ones; choose an output "
            "folder beside it"
        )


def find_pictures(
    source: Path, out: Path, patterns: Sequence[str] = (), recursive: bool = True
) -> list[str]:
    """Paths of the pictures under `source`, relative to it, with slashes, sorted.

    Files are taken that match one of `patterns`, as `pathlib.PurePath.match` has it, or without
    patterns those of an extension in `READABLE`. Left out are names that begin with a dot, the
    folder `out`, and folders inside `source` that a manifest marks as some run's output; links to
    folders are not followed.

    Raises:
        ValueError: there is none.
        OSError: a folder cannot be listed.
    """

    def stop(error: OSError) -> None:
        raise error

    found = []
    own = out.resolve()
    for folder, subfolders, files in os.walk(source, onerror=stop):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if recursive and not name.startswith(".") and not _is_output(Path(folder, name), own)
        )
        for name in files:
            relative = PurePath(folder, name).relative_to(source)
            if not name.startswith(".") and _is_wanted(relative, patterns):
                found.append(relative.as_posix())
    if not found:
        wanted = " or ".join(patterns or READABLE)
        raise ValueError(f"there is no picture under {source}; wanted {wanted}")
    return sorted(found)


def _is_output(folder: Path, own: Path) -> bool:
    return folder.resolve() == own or (folder / NAME).exists()


def _is_wanted(relative: PurePath, patterns: Sequence[str]) -> bool:
    if patterns:
        return any(relative.match(pattern) for pattern in patterns)
    return relative.suffix.lower() in READABLE


def plan(
    source: Path, out: Path, names: Sequence[str], scale: int, picture_format: str
) -> list[Item]:
    """Where each picture goes: ``sub/photo.jpg`` to ``sub/photo_x4.png``, or ``.jpg`` for ``keep``.

    Raises:
        ValueError: two would get one name; or ``keep`` asks for a format that is not written.
    """
    items = []
    takers: dict[str, str] = {}
    for name in names:
        path = PurePath(name)
        extension = path.suffix if picture_format == "keep" else ".png"
        output = path.with_name(f"{path.stem}_x{scale}{extension}")
        if picture_format == "keep":
            image_files.check_extension(Path(output))
        other = takers.setdefault(output.as_posix(), name)
        if other != name:
            raise ValueError(
                f"{source / other} and {name} would both become {output}; --format keep keeps "
                "their extensions apart, --pattern takes one kind alone"
            )
        items.append(Item(name, source / name, output.as_posix(), out / output))
    return items


def left_to_do(items: Sequence[Item], manifest: Manifest, overwrite: bool) -> list[Item]:
    """Those of `items` that are not done, or whose source has changed since.

    What a run that was killed had just finished is put down as done. Nothing is written but lines
    of the manifest.

    Raises:
        FileExistsError: a file is in the way that no run wrote, and `overwrite` is False.
    """
    left = [item for item in items if not _is_done(item, manifest)]
    for item in left:
        if not item.target.exists():
            continue
        ours = manifest.wrote(item.output, item.target.stat().st_size)
        if not item.target.is_file() or not (ours or overwrite):
            raise FileExistsError(
                f"{item.target} is there already and not this folder's work; --overwrite "
                "replaces files"
            )
    return left


def _is_done(item: Item, manifest: Manifest) -> bool:
    record = manifest.get(item.name)
    if record is None or record.state == FAILED or record.output != item.output:
        return False
    try:
        status, written = item.source.stat(), item.target.stat()
    except OSError:
        return False
    if written.st_size != record.output_size or status.st_size != record.size:
        return False
    # As rsync has it: the same size and time is the same content.
    touched = status.st_mtime_ns != record.mtime_ns
    if touched and _sha256(item.source.read_bytes()) != record.sha256:
        return False
    if record.state == WRITING and _sha256(item.target.read_bytes()) != record.output_sha256:
        return False
    if touched or record.state == WRITING:
        manifest.add(replace(record, state=DONE, mtime_ns=status.st_mtime_ns))
    return True


def enlarge(items: Sequence[Item], pool: WorkerPool, manifest: Manifest) -> Iterator[Outcome]:
    """Enlarge `items` in a pool that is started; yields what became of each as it comes.

    A picture whose worker died comes to the end of the line. Its last try is made while no other
    worker is at work, so that it has the machine's memory for itself.

    Raises:
        OSError: the output folder takes no more files at all, e.g. a full disk.
        EngineError: workers cannot be started again.
    """
    waiting = deque(items)
    flying: dict[int, tuple[Item, Record]] = {}
    number = 0
    while waiting or flying:
        while waiting and pool.free and not _must_wait(waiting[0], flying):
            item = waiting.popleft()
            try:
                record, data = _read_source(item)
            except OSError as error:
                yield _failed(item, error, manifest)
                continue
            number += 1
            flying[number] = (item, record)
            pool.submit(Job(number, str(item.source), str(item.target), data))
        for answer in pool.wait(0.2):
            item, record = flying.pop(answer.number)
            if isinstance(answer.error, WorkerDied) and item.deaths + 1 < MAX_TRIES:
                waiting.append(replace(item, deaths=item.deaths + 1))
                yield Outcome(item, "again", answer.error)
            else:
                yield _settle(item, record, answer, manifest)


def _must_wait(item: Item, flying: dict[int, tuple[Item, Record]]) -> bool:
    """Whether `item`, or one at work, is to be alone."""
    last = MAX_TRIES - 1
    return bool(flying) and (
        item.deaths == last or any(other.deaths == last for other, _ in flying.values())
    )


def _read_source(item: Item) -> tuple[Record, bytes]:
    """The source's content, and a record of what was read. Raises OSError."""
    with open(item.source, "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read()
    return (
        Record(
            item=item.name,
            state=WRITING,
            size=len(data),
            mtime_ns=status.st_mtime_ns,
            sha256=_sha256(data),
            output=item.output,
        ),
        data,
    )


def _settle(item: Item, record: Record, answer: Answer, manifest: Manifest) -> Outcome:
    """Write what a worker made of a picture, or put down why there is nothing to write."""
    if answer.error is not None:
        error = answer.error
        if isinstance(error, WorkerDied):
            error = EngineError(f"{item.source} was given up after {MAX_TRIES} tries: {error}")
        return _failed(item, error, manifest)
    record = replace(
        record,
        output_size=len(answer.data),
        output_sha256=_sha256(answer.data),
        engine=answer.engine,
    )
    _remove_leftovers(item, manifest)
    manifest.add(record)
    try:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        with image_files.replacing(item.target) as file:
            file.write(answer.data)
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if cause.errno in STOP_THE_RUN:
            raise
        return _failed(item, error, manifest)
    manifest.add(replace(record, state=DONE))
    return Outcome(item, DONE, seconds=answer.seconds)


def _failed(item: Item, error: Exception, manifest: Manifest) -> Outcome:
    manifest.add(Record(item.name, FAILED, error=str(error) or type(error).__name__))
    return Outcome(item, FAILED, error)


def _remove_leftovers(item: Item, manifest: Manifest) -> None:
    """Remove the temporary file of a run that was killed while it wrote this picture."""
    record = manifest.get(item.name)
    if record is not None and record.state == WRITING:
        start = glob.escape(image_files.temporary_start(item.target))
        for path in item.target.parent.glob(f"{start}*.part"):
            with suppress(OSError):
                path.unlink()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
