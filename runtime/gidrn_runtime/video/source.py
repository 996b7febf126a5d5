"""Reading a video file: what it is, and every frame of it, or an error that says what is missing.

Untagged colour: a matrix that the file does not name is taken to be BT.709 where the picture is
1280 wide or more, or more than 576 high, and BT.601 elsewhere, as players guess; a range that it
does not name is limited. What was guessed is among the notes, and the output is tagged with it.

Chroma siting is not told by PyAV, so the codecs' own rule stands: centre for MPEG-1 and Motion
JPEG, top left for BT.2020, left for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gidrn_runtime.colour import PIXEL_FORMATS, Coding, PixelFormat, Plane, Planes, split
from gidrn_runtime.video.library import ffmpeg_name, import_av

UNSPECIFIED = 2
"""H.273's number for a matrix, primaries or transfer characteristic that is not told."""

MATRICES: dict[int, str] = {1: "709", 4: "fcc", 5: "601", 6: "601", 7: "240m", 9: "2020"}
"""H.273's MatrixCoefficients -> matrix of `gidrn_runtime.colour`."""

MATRIX_NUMBERS = {"601": 6, "709": 1, "2020": 9, "240m": 7, "fcc": 4}
"""The number that an output is tagged with where the source's own says something else."""

OTHER_MATRICES = {0: "RGB", 8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp"}
"""Those that are refused, by name."""

RANGE_NUMBERS = {"limited": 1, "full": 2}
"""FFmpeg's numbers; 0 is unspecified."""

CENTRED_CODECS = ("mjpeg", "mpeg1video")

CUT_S = 0.2
"""Seconds by which a video may end before its container says so and still count as whole."""

ORIGINLESS = ("mpegts", "mpeg")
"""Formats whose clock starts anywhere; times are counted from the file's first."""

LOST = {
    "A53_CC": "closed captions inside the video's own data are not kept",
    "MASTERING_DISPLAY_METADATA": "the metadata of the mastering display (HDR10) are not kept",
    "DYNAMIC_HDR_PLUS": "the metadata of HDR10+ are not kept",
    "DOVI_METADATA": "the metadata of Dolby Vision are not kept",
}
"""What a frame may carry that PyAV cannot hand to an encoder, by FFmpeg's names."""

GO_ON = "--allow-damaged goes on with what can be decoded and counts what cannot"


@dataclass(frozen=True)
class VideoFacts:
    """What the video stream is."""

    index: int
    """Of the stream in the file."""
    codec: str
    size_hw: tuple[int, int]
    pixel_format: str
    """A key of `colour.PIXEL_FORMATS`."""
    coding: Coding
    tags: tuple[int, int, int, int]
    """Matrix, range, primaries and transfer characteristic, by H.273's and FFmpeg's numbers; matrix
    and range are those that are used."""
    time_base: Fraction
    """Seconds of a tick."""
    rate: Fraction | None
    """Frames per second on average, where known."""
    frames: int | None
    """How many there are: what the file says, or duration times rate; None where unknown."""
    aspect: Fraction | None
    """Of a sample, width : height."""
    display_matrix: tuple[int, ...] | None
    """How the picture is turned for display, as FFmpeg's nine numbers."""
    notes: tuple[str, ...]
    """What was guessed, and what is not kept."""

    @property
    def layout(self) -> PixelFormat:
        """How its code values lie in memory."""
        return PIXEL_FORMATS[self.pixel_format]

    @property
    def chroma(self) -> str:
        """420, 422 or 444; gray counts as 420."""
        halved_hw = self.layout.halved_hw
        if halved_hw is None:
            return "420"
        return {(True, True): "420", (False, True): "422", (False, False): "444"}[halved_hw]


@dataclass(frozen=True)
class DecodedFrame:
    """One frame of the file."""

    number: int
    """From 0, in order of display."""
    pts: int
    """Time of display, in ticks."""
    duration: int
    """In ticks; 0 where the file does not say."""
    planes: Planes


@dataclass
class Damage:
    """What could not be read, counted as it is met."""

    packets: int = 0
    """Pieces of the stream that are corrupt, or from which no frame came."""
    cut: str | None = None
    """Where the file ends too early: by how much."""
    interlaced: int = 0
    """Frames that say they are interlaced, of a video whose first is not."""
    not_kept: list[str] = field(default_factory=list)
    """Which of `LOST` frames carry."""


def open_container(path: Path) -> Any:
    """An `av` container to read from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, empty, or nothing that FFmpeg can read.
    """
    av = import_av()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a video file in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return av.open(ffmpeg_name(path), metadata_errors="replace")
    except av.FFmpegError as error:
        if isinstance(error, PermissionError):
            raise OSError(f"{path} may not be read by this user") from error
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is damaged, cut short or no video that FFmpeg "
            f"can read ({error.strerror}); copy or download it again"
        ) from error


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture that comes along, not a video."""
    return bool(stream.disposition & import_av().stream.Disposition.attached_pic)


def origin(container: Any) -> Fraction:
    """Seconds that are taken off every time, so that the file begins at 0: see `ORIGINLESS`."""
    if container.format.name not in ORIGINLESS:
        return Fraction(0)
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None]
    return min(starts, default=Fraction(0))


class Source:
    """A video file, opened and looked at: its first frame has been decoded.

    Use as a context manager. `frames` may be called once.
    """

    def __init__(
        self,
        path: Path,
        *,
        matrix: str | None = None,
        color_range: str | None = None,
        allow_damaged: bool = False,
    ) -> None:
        """Open `path`; `matrix` and `color_range` overrule what the file says of itself.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no video that can be decoded and enlarged here.
        """
        self.path = path
        self.damage = Damage()
        self._allow_damaged = allow_damaged
        with open_container(path) as container:
            self.facts = _look(container, path, matrix, color_range)
        self._container = open_container(path)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self) -> Iterator[DecodedFrame]:
        """Every frame, in order of display. What cannot be decoded is counted in `damage`.

        Raises:
            ValueError: something cannot be decoded, the file ends too early, and damage is not
                allowed; or a frame has another size or format, or no time after the frame before.
        """
        facts = self.facts
        video = self._container.streams[facts.index]
        video.thread_type = "AUTO"
        if not self._allow_damaged:  # no patching up of what cannot be decoded
            video.codec_context.options = {"err_detect": "explode"}
        number, last, longest, open_ended = 0, None, 0, False
        ends: dict[int, Fraction] = {}
        for frame in self._decoded(video, ends):
            pts = frame.pts
            if pts is None or (last is not None and pts <= last):
                raise ValueError(
                    f"{self.path}: frame {number} has no time of display after that of the frame "
                    "before it; have FFmpeg give it one: ffmpeg -i IN -c:v ffv1 -c:a copy OUT.mkv"
                )
            longest = max(longest, 0 if last is None else pts - last)
            last, open_ended = pts, not frame.duration
            self._check_frame(frame, number)
            planes = planes_of(frame, facts.layout)
            yield DecodedFrame(number, pts, frame.duration or 0, planes)
            number += 1
        if number == 0:
            raise ValueError(f"{self.path}: not one frame of its video can be decoded")
        self._check_whole(video, ends, longest * facts.time_base if open_ended else Fraction(0))

    def _decoded(self, video: Any, ends: dict[int, Fraction]) -> Iterator[Any]:
        """The decoder's frames; `ends` gets the last time of each stream, in seconds."""
        av = import_av()
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._count(f"reading stops with: {error.strerror}")
                return
            stream = packet.stream
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                ends[stream.index] = max(end, ends.get(stream.index, end))
            if stream.index != video.index:
                continue
            if packet.is_corrupt:
                self._count(f"its video is corrupt {_at(packet)}")
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._count(f"its video cannot be decoded {_at(packet)} ({error.strerror})")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._count(f"its video is decoded in part only {_at(packet)}")
                yield frame

    def _count(self, what: str) -> None:
        if not self._allow_damaged:
            raise ValueError(f"{self.path} is damaged: {what}; {GO_ON}")
        self.damage.packets += 1

    def _check_frame(self, frame: Any, number: int) -> None:
        facts = self.facts
        name = _normal(frame.format.name)
        if (frame.height, frame.width) != facts.size_hw or name != facts.pixel_format:
            height, width = facts.size_hw
            raise ValueError(
                f"{self.path}: frame {number} is {frame.width}x{frame.height} {name}, those before "
                f"it {width}x{height} {facts.pixel_format}; bring all to one: "
                f"ffmpeg -i IN -vf scale={width}:{height},format={facts.pixel_format} OUT"
            )
        self.damage.interlaced += bool(frame.interlaced_frame)
        for data in frame.side_data:
            if data.type.name in LOST and data.type.name not in self.damage.not_kept:
                self.damage.not_kept.append(data.type.name)

    def _check_whole(self, video: Any, ends: dict[int, Fraction], last: Fraction) -> None:
        """Refuse, or count, a file that ends before it says; its last frame may last `last`."""
        wanted = _promised_end(video)
        came = ends.get(video.index, Fraction(0))
        if (
            wanted is None
            and self._container.duration
            and self._container.format.name
            not in (
                *ORIGINLESS,
                "h264",
                "hevc",
            )
        ):
            start = self._container.start_time or 0
            wanted = Fraction(start + self._container.duration, import_av().time_base)
            came = max(ends.values(), default=came)
        if wanted is not None and wanted - came > CUT_S + last:
            what = f"it should last {float(wanted):.2f} s and ends at {float(came):.2f} s"
            if not self._allow_damaged:
                raise ValueError(
                    f"{self.path} is cut short: {what}; copy or download it again, or "
                    f"{GO_ON.replace('--allow', 'allow it: --allow')}"
                )
            self.damage.cut = what


def planes_of(frame: Any, layout: PixelFormat) -> Planes:
    """Views of a decoded frame's code values; they keep the frame alive."""
    arrays = [plane_array(plane, layout) for plane in frame.planes]
    if layout.halved_hw is None:
        arrays = arrays[:1]
    elif layout.interleaved:
        arrays = [arrays[0], *split(plane_array(frame.planes[1], layout, per_sample=2))]
    return tuple(array >> layout.shift if layout.shift else array for array in arrays)


def plane_array(plane: Any, layout: PixelFormat, per_sample: int = 1) -> Plane:
    """A view of one plane of an `av.VideoFrame`, without its padding; it can be written to."""
    rows: Plane = np.frombuffer(plane, layout.dtype).reshape(plane.height, -1)
    return rows[:, : per_sample * plane.width]


def _look(container: Any, path: Path, matrix: str | None, color_range: str | None) -> VideoFacts:
    """What the first frame and the container say."""
    av = import_av()
    videos = [stream for stream in container.streams.video if not is_cover(stream)]
    if not videos:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no stream at all"
        raise ValueError(f"{path} has no video; what it holds is {kinds}")
    video = videos[0]
    if video.codec_context is None:
        raise ValueError(f"{path}: PyAV has no decoder for its video")
    frame = None
    try:
        frame = next(iter(container.decode(video)), None)
    except av.FFmpegError as error:
        raise ValueError(
            f"{path}: its video ({video.codec_context.name}) cannot be decoded ({error.strerror})"
        ) from error
    if frame is None:
        raise ValueError(f"{path}: not one frame of its video can be decoded")
    name = _normal(frame.format.name)
    if name not in PIXEL_FORMATS:
        raise ValueError(
            f"{path}: its video is {frame.format.name}, and no such pixels are read here; convert "
            "it: ffmpeg -i IN -pix_fmt yuv420p OUT (or yuv444p, yuv420p10le, yuv444p12le)"
        )
    if frame.interlaced_frame:
        raise ValueError(
            f"{path} is interlaced, and enlarging fields as frames would spoil it; make it "
            "progressive first: ffmpeg -i IN -vf bwdif -c:a copy OUT"
        )
    notes: list[str] = []
    tags, coding = _colour(frame, video, name, path, matrix, color_range, notes)
    display_matrix = None
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            display_matrix = tuple(int(v) for v in np.frombuffer(data, np.int32))
        elif data.type.name in LOST:
            notes.append(LOST[data.type.name])
    rate = video.average_rate or video.guessed_rate
    end = _promised_end(video)
    seconds = end if end is not None else container.duration and container.duration / av.time_base
    count = video.frames or (round(seconds * rate) if seconds and rate else None)
    return VideoFacts(
        index=video.index,
        codec=video.codec_context.name,
        size_hw=(frame.height, frame.width),
        pixel_format=name,
        coding=coding,
        tags=tags,
        time_base=video.time_base,
        rate=rate,
        frames=count,
        aspect=video.sample_aspect_ratio,
        display_matrix=display_matrix,
        notes=tuple(notes),
    )


def _colour(
    frame: Any,
    video: Any,
    pixel_format: str,
    path: Path,
    matrix: str | None,
    color_range: str | None,
    notes: list[str],
) -> tuple[tuple[int, int, int, int], Coding]:
    """Tags for the output, and what the code values mean."""
    number = int(frame.colorspace)
    if matrix is None and number in MATRICES:
        matrix = MATRICES[number]
    elif matrix is None and number == UNSPECIFIED:
        matrix = "709" if frame.width >= 1280 or frame.height > 576 else "601"
        if PIXEL_FORMATS[pixel_format].halved_hw is not None:
            notes.append(
                f"the file names no colour matrix; taken as BT.{matrix} (--matrix says otherwise)"
            )
    elif matrix is None:
        raise ValueError(
            f"{path}: its colour is {OTHER_MATRICES.get(number, f'matrix {number} of H.273')}, "
            "which is not read here; convert it: ffmpeg -i IN -vf zscale=matrix=709 OUT"
        )
    if MATRICES.get(number) != matrix:
        number = MATRIX_NUMBERS[matrix]
    if color_range is None:
        is_full = int(frame.color_range) == RANGE_NUMBERS["full"] or "yuvj" in frame.format.name
        color_range = "full" if is_full else "limited"
    siting = "topleft" if matrix == "2020" else "left"
    if video.codec_context.name in CENTRED_CODECS:
        siting = "centre"
    tags = (
        number,
        RANGE_NUMBERS[color_range],
        int(video.codec_context.color_primaries),  # PyAV 16's frames do not tell
        int(video.codec_context.color_trc),
    )
    return tags, Coding(matrix, color_range, PIXEL_FORMATS[pixel_format].bits, siting)


def output_coding(coding: Coding, bits: int) -> Coding:
    """The source's matrix and range, at the siting that readers suppose where nothing is told."""
    siting = "topleft" if coding.matrix == "2020" else "left"
    return replace(coding, bits=bits, siting=siting)


def _promised_end(video: Any) -> Fraction | None:
    """When the stream should end, in seconds, where the file says."""
    if video.duration is not None and video.container.format.name not in ORIGINLESS:
        return Fraction((video.start_time or 0) + video.duration) * Fraction(video.time_base)
    text = video.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    except ValueError:
        return None


def _normal(pixel_format: str) -> str:
    """yuvj420p is yuv420p of full range."""
    return pixel_format.replace("yuvj", "yuv")


def _at(packet: Any) -> str:
    time = packet.dts if packet.pts is None else packet.pts
    return "at its end" if time is None else f"at {float(time * packet.time_base):.2f} s"
