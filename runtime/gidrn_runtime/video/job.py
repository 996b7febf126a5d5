"""Enlarging a video file: every frame, in segments, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

import gidrn_runtime
from gidrn_runtime import processor
from gidrn_runtime.colour import PIXEL_FORMATS, luma, planes_from_rgb, rgb_from_planes
from gidrn_runtime.engines.base import Tensor
from gidrn_runtime.image_files import replacing
from gidrn_runtime.progress import Progress
from gidrn_runtime.upscaler import Upscaler
from gidrn_runtime.video import joining
from gidrn_runtime.video.ahead import Ahead
from gidrn_runtime.video.encoders import (
    CONTAINERS,
    Encoding,
    choose_codec,
    open_encoder,
    options_for,
)
from gidrn_runtime.video.library import import_av
from gidrn_runtime.video.segments import SegmentWriter, WorkFolder
from gidrn_runtime.video.source import (
    LOST,
    DecodedFrame,
    Source,
    VideoFacts,
    output_coding,
    plane_array,
)

AHEAD = 2
"""Frames that wait between two stages, at most."""

SAMPLE_BYTES = 2**20
"""At a file's beginning and end, that tell it from others."""


@dataclass(frozen=True)
class VideoOptions:
    """What may be asked for beside source, target and model."""

    codec: str | None = None
    """A key of `encoders.ENCODERS`; None for H.264 for 8 bits, HEVC for more, AV1 for WebM."""
    quality: int | None = None
    """Constant rate factor; None for the codec's usual one."""
    preset: str | None = None
    """The encoder's name for how hard it tries."""
    segment_s: float = 5.0
    """Seconds of video between which the job can be resumed; each begins with a key frame."""
    drop: tuple[str, ...] = ()
    """Streams to leave out, by number or kind."""
    matrix: str | None = None
    """Of the source's colour, where its own tag is missing or wrong."""
    color_range: str | None = None
    """``limited`` or ``full``, likewise."""
    allow_damaged: bool = False
    """Go on where the source cannot be decoded, and count."""
    overwrite: bool = False
    """Replace the target."""
    restart: bool = False
    """Throw an unfinished job away instead of resuming it."""


@dataclass
class VideoResult:
    """What was done."""

    frames_in: int
    frames_out: int
    resumed: int
    """Frames that an earlier run had finished."""
    seconds: float
    """Of this run."""
    size_hw: tuple[int, int]
    """Of the output."""
    file_bytes: int
    damaged: int
    """Pieces of the source that could not be decoded as they were."""
    stages_s: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: decode, to_rgb, enlarge, from_rgb, encode, join. Stages overlap."""


class Stopwatch:
    """Adds up time by stage; each stage belongs to one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, items: Iterator[Any]) -> Iterator[Any]:
        """The same items; the time they take to come counts for `stage`."""
        while True:
            began = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.add(stage, began)
            yield item

    def add(self, stage: str, began: float) -> None:
        """Count the time since `began` for `stage`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def upscale_video(
    upscaler: Upscaler,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: VideoOptions | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    make_progress: Callable[[int | None, int], Progress] | None = None,
) -> VideoResult:
    """Enlarge the video file `source` into the file `target`.

    Every frame is enlarged, its time of display kept in the source's own ticks, everything else
    of the file copied. The colour's matrix and range are read, applied and tagged in the output;
    10 and 12 bits stay so. `tell` gets a line for each thing that was guessed or left out.

    Work is kept in the folder ``TARGET.work`` until the target is complete: a job that was killed
    goes on there, and its result is the same to the bit. `make_progress(total, done)` gives what
    shows how far it is.

    Raises:
        FileNotFoundError: there is no such source.
        FileExistsError: the target is there, and `overwrite` is False.
        ValueError: the source is damaged or of a kind that is not enlarged here, the target's
            container cannot hold a part of it, or the options do not fit; the message says which.
        OSError: the disk does not take it.
        ImportError: PyAV is missing.
        FrameTooLargeError, EngineError, RuntimeError: as for `Upscaler.run_tensor`.
    """
    options = options or VideoOptions()
    source, target = Path(source), Path(target)
    began = time.monotonic()
    container = check_target(source, target, options.overwrite)
    if upscaler.describe()["frames"] is not None:
        raise ValueError(
            "this model takes uint8 colour frames alone, and video is enlarged in floats; open one "
            "that was exported without --frames"
        )
    watch = Stopwatch()
    with ExitStack() as stack:
        video = stack.enter_context(
            Source(
                source,
                matrix=options.matrix,
                color_range=options.color_range,
                allow_damaged=options.allow_damaged,
            )
        )
        facts = video.facts
        upscaler.prepare(*facts.size_hw)  # the manifest names the engine
        encoding = plan_encoding(facts, upscaler.scale, container, options, target)
        open_encoder(encoding)  # refuses what it does not take before the work
        joining.check_rotation(facts)
        plan = joining.plan_copies(source, facts.index, target, container, options.drop)
        for note in (*facts.notes, *plan.notes):
            tell(f"{source}: {note}")
        length = segment_length(facts, options.segment_s)
        manifest = {
            "source": identify(source),
            "model": describe_model(upscaler),
            "versions": versions(),
            "encoding": asdict(encoding),
            "coding": asdict(facts.coding),
            "segment_frames": length,
            "copies": [asdict(copy) for copy in plan.copies],
        }
        folder = target.with_name(f"{target.name}.work")
        work = WorkFolder(folder, manifest, restart=options.restart)
        stack.callback(work.close)
        done = work.finished()
        if done:
            tell(f"{target}: {done * length} frames are there already, from {folder}")
        if work.encoded is None:
            progress = None
            if make_progress is not None:
                progress = make_progress(facts.frames, done * length)
                stack.callback(progress.clear)
            job = _Job(upscaler, video, encoding, work, length, watch, progress)
            frames = _encode(job)
            damage = asdict(video.damage)
            work.set_encoded({"frames": frames, "damage": damage})
            if progress is not None:
                progress.clear()
        encoded = work.encoded
        assert encoded is not None
        mark = time.perf_counter()
        joined = folder / f"joined{target.suffix}"
        joining.join(joined, work, encoding, facts, source, plan.copies)
        _sync(joined)
        lost = joining.lost_metadata(source, joined)
        try:
            os.replace(joined, target)
        except OSError as error:
            raise OSError(f"cannot write {target}: {error.strerror}") from error
        watch.add("join", mark)
        work.remove()
    if lost:
        tell(f"{target}: {target.suffix} has no place for the metadata {', '.join(lost)}")
    damage = encoded["damage"]
    if damage["interlaced"]:
        tell(
            f"{source}: {damage['interlaced']} frames say they are interlaced; enlarged as they are"
        )
    for kind in damage["not_kept"]:
        if LOST[kind] not in facts.notes:  # else it was told at the beginning
            tell(f"{source}: {LOST[kind]}")
    if damage["cut"]:
        tell(f"{source}: cut short: {damage['cut']}")
    return VideoResult(
        frames_in=encoded["frames"],
        frames_out=encoded["frames"],
        resumed=min(done * length, encoded["frames"]),
        seconds=time.monotonic() - began,
        size_hw=encoding.size_hw,
        file_bytes=target.stat().st_size,
        damaged=damage["packets"] + bool(damage["cut"]),
        stages_s=watch.seconds,
    )


def check_target(source: Path, target: Path, overwrite: bool) -> str:
    """FFmpeg's name of the muxer for `target`, once it is certain that it can be written.

    Raises:
        ValueError: its extension is not known, its folder is not there, or it is the source.
        FileExistsError: it is there already.
    """
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        came = repr(target.suffix) if target.suffix else "no extension"
        raise ValueError(f"{target} has {came}; videos are written as {', '.join(CONTAINERS)}")
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {target}: {target.parent} is not a folder")
    if source.exists() and target.exists() and source.samefile(target):
        raise ValueError(f"{target} is both input and output; choose another name with -o")
    if target.exists() and not (overwrite and target.is_file()):
        raise FileExistsError(f"{target} is there already; --overwrite replaces files")
    return container


def plan_encoding(
    facts: VideoFacts, scale: int, container: str, options: VideoOptions, target: Path
) -> Encoding:
    """How the enlarged video is encoded: depth and chroma as in the source.

    Raises:
        ValueError: the codec cannot hold them, or not in sides as odd as that.
    """
    bits = facts.coding.bits
    codec = choose_codec(options.codec, container, bits, facts.chroma)
    height, width = scale * facts.size_hw[0], scale * facts.size_hw[1]
    pixel_format = f"yuv{facts.chroma}p{'' if bits == 8 else f'{bits}le'}"
    halved_hw = PIXEL_FORMATS[pixel_format].halved_hw or (False, False)
    if codec != "ffv1" and ((halved_hw[0] and height % 2) or (halved_hw[1] and width % 2)):
        raise ValueError(
            f"{target}: {width}x{height} has an odd side, which {codec} cannot hold in "
            f"{pixel_format}; take a model of an even scale, or --codec ffv1"
        )
    coding = output_coding(facts.coding, bits)
    return Encoding(
        codec=codec,
        options=options_for(codec, options.quality, options.preset, coding.siting),
        size_hw=(height, width),
        pixel_format=pixel_format,
        time_base=str(facts.time_base),
        rate=None if not facts.rate else str(facts.rate),
        aspect=None if not facts.aspect else str(facts.aspect),
        tags=facts.tags,
        container=container,
    )


def segment_length(facts: VideoFacts, seconds: float) -> int:
    """Frames of a segment.

    Raises:
        ValueError: `seconds` is not above 0, or has no end.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"a segment lasts more than 0 seconds and has an end, not {seconds} s")
    return max(2, round(float(facts.rate or Fraction(25)) * seconds))


def identify(path: Path) -> dict[str, object]:
    """What tells this file from another, or from itself after a change."""
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, stat.st_size - SAMPLE_BYTES))
        digest.update(file.read(SAMPLE_BYTES))
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest.hexdigest()}


def describe_model(upscaler: Upscaler) -> dict[str, object]:
    """The model and all that may change its output."""
    facts = upscaler.describe()
    digest = hashlib.sha256(Path(str(facts["path"])).read_bytes()).hexdigest()
    keys = ("scale", "engine", "engine_version", "device", "threads")
    return {
        "sha256": digest,
        "cores": processor.usable_cores(),
        **{key: facts.get(key) for key in keys},
    }


def versions() -> dict[str, object]:
    """Of what decodes, converts and encodes."""
    av = import_av()
    libraries = {name: list(version) for name, version in av.library_versions.items()}
    return {"gidrn_runtime": gidrn_runtime.__version__, "av": av.__version__, **libraries}


@dataclass(frozen=True)
class _Job:
    """What the encoding of one video takes."""

    upscaler: Upscaler
    video: Source
    encoding: Encoding
    work: WorkFolder
    length: int
    """Frames of a segment."""
    watch: Stopwatch
    progress: Progress | None


def _encode(job: _Job) -> int:
    """Encode every segment that is not there yet; returns the number of frames of the video.

    One thread decodes and makes RGB, one enlarges, and this one encodes.
    """
    watch, number = job.watch, job.work.finished()
    first = number * job.length
    seen = [0]

    def low() -> Iterator[tuple[DecodedFrame, Tensor]]:
        for frame in watch.timed("decode", job.video.frames()):
            seen[0] = frame.number + 1
            if frame.number >= first:
                began = time.perf_counter()
                rgb = rgb_from_planes(frame.planes, job.video.facts.coding)
                watch.add("to_rgb", began)
                yield frame, rgb

    decoded = Ahead(low(), AHEAD)

    def high() -> Iterator[tuple[DecodedFrame, Tensor]]:
        for frame, rgb in decoded:
            began = time.perf_counter()
            enlarged = job.upscaler.run_tensor(rgb)
            watch.add("enlarge", began)
            yield frame, enlarged

    enlarged = Ahead(high(), AHEAD)
    try:
        frames = iter(enlarged)
        for frame, rgb in frames:
            segment = chain([(frame, rgb)], islice(frames, job.length - 1))
            _encode_segment(job, number, segment)
            number += 1
    except BaseException as error:
        decoded.stop()
        enlarged.stop()
        # The decoder is quick, and its file must not be closed under it. The network may be at one
        # frame for minutes, for which Ctrl-C does not wait.
        decoded.join()
        if not isinstance(error, KeyboardInterrupt):
            enlarged.join()
        raise
    decoded.join()
    enlarged.join()
    return seen[0]


def _encode_segment(job: _Job, number: int, frames: Iterable[tuple[DecodedFrame, Tensor]]) -> None:
    """Encode enlarged frames into one segment's file."""
    watch, facts = job.watch, job.video.facts
    context = open_encoder(job.encoding)
    times: list[tuple[int, int]] = []
    with replacing(job.work.segment(number)) as file:
        writer = SegmentWriter(file)
        for frame, rgb in frames:
            began = time.perf_counter()
            picture = picture_from_rgb(rgb, job.encoding, facts)
            watch.add("from_rgb", began)
            began = time.perf_counter()
            picture.pts, picture.time_base = frame.pts, facts.time_base
            for packet in context.encode(picture):
                writer.add(packet)
            watch.add("encode", began)
            times.append((frame.pts, frame.duration))
            if job.progress is not None:
                job.progress.show(frame.number + 1)
        began = time.perf_counter()
        for packet in context.encode(None):
            writer.add(packet)
        watch.add("encode", began)
        writer.finish(bytes(context.extradata or b""), times)


def picture_from_rgb(rgb: Tensor, encoding: Encoding, facts: VideoFacts) -> Any:
    """An `av.VideoFrame` in the encoder's pixel format."""
    layout = PIXEL_FORMATS[encoding.pixel_format]
    height, width = encoding.size_hw
    picture = import_av().VideoFrame(width, height, encoding.pixel_format)
    coding = output_coding(facts.coding, layout.bits)
    if facts.layout.halved_hw is None:  # gray stays gray, whatever colour a network makes of it
        rgb = np.broadcast_to(luma(rgb[0], coding.matrix), rgb.shape)
    planes = planes_from_rgb(rgb, coding, layout.halved_hw)
    for plane, codes in zip(picture.planes, planes, strict=True):
        plane_array(plane, layout)[:] = codes
    picture.colorspace, picture.color_range = encoding.tags[:2]
    return picture


def _sync(path: Path) -> None:
    """Have the disk hold the file before it gets its name."""
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
