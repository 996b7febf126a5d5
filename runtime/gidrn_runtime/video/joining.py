"""Putting the encoded video and everything else of the source into the output.

Audio, subtitles, attachments, covers and data are copied packet by packet, chapters and metadata
value by value. What a container cannot hold is found out before the work, by asking its muxer.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from gidrn_runtime.video.encoders import Encoding, configure
from gidrn_runtime.video.library import ffmpeg_name, import_av
from gidrn_runtime.video.segments import Segment, WorkFolder, read_packets, read_segment
from gidrn_runtime.video.source import VideoFacts, is_cover, open_container, origin

FILE_KEYS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
"""Metadata that speaks of the file it stands in, lower case."""

STATISTICS = ("duration", "encoder", "bps", "number_of_frames", "number_of_bytes", "_statistics")
"""How metadata begins that speaks of the video stream as it was, lower case."""


@dataclass(frozen=True)
class Copy:
    """A stream of the source that goes into the output as it is."""

    index: int
    """In the source."""
    kind: str
    """``audio``, ``subtitle``, ``attachment``, ``data``, or ``cover``."""
    as_attachment: bool = False
    """Whether a cover becomes an attachment, as Matroska has it."""


@dataclass(frozen=True)
class CopyPlan:
    """What is copied, and what is not, with the reason."""

    copies: tuple[Copy, ...]
    notes: tuple[str, ...]


def plan_copies(
    path: Path, video_index: int, target: Path, container: str, drop: Sequence[str]
) -> CopyPlan:
    """Which streams of `path` go along into a `container` file.

    `drop` names streams to leave out, by number or by kind (``audio``, ``subtitle``, ``data`` …).
    Streams of data, which nobody sees or hears, are left out with a note where the container
    cannot hold them; anything else that it cannot hold is an error.

    Raises:
        ValueError: a stream cannot be held; the message says which and what to do. Or `drop` names
            nothing that is there.
    """
    copies, notes = [], []
    with open_container(path) as source:
        names = {str(s.index) for s in source.streams} | {kind_of(s) for s in source.streams}
        for name in drop:
            if name not in names:
                raise ValueError(f"--drop {name}: {path} has no such stream")
        for stream in source.streams:
            kind = kind_of(stream)
            if stream.index == video_index:
                continue
            if str(stream.index) in drop or kind in drop:
                notes.append(f"{_told(stream)} is left out, as asked")
                continue
            if kind == "video":
                raise ValueError(
                    f"{path} has more than one video; {_told(stream)} would be neither enlarged "
                    f"nor kept: leave it out with --drop {stream.index}"
                )
            if _is_remade(stream, source, container):
                continue
            as_attachment = kind == "cover" and container == "matroska"
            refusal = None if as_attachment else _refusal(stream, container)
            if refusal is None:
                copies.append(Copy(stream.index, kind, as_attachment))
            elif kind in ("data", "unknown"):
                notes.append(f"{_told(stream)} is left out, since {target.suffix} cannot hold it")
            else:
                other = ".mkv" if container in ("mp4", "mov", "webm") else ".mp4"
                raise ValueError(
                    f"{target}: {target.suffix} cannot hold {_told(stream)} of {path}; write "
                    f"{other} if that can, or leave it out with --drop {stream.index}"
                )
    return CopyPlan(tuple(copies), tuple(notes))


def check_rotation(facts: VideoFacts) -> None:
    """See that the output can be told how the picture is turned for display.

    Raises:
        ImportError: it is turned, and this PyAV cannot say so.
    """
    if facts.display_matrix is None or hasattr(import_av().VideoStream, "set_display_matrix"):
        return
    raise ImportError(
        "the video is turned for display, and only PyAV 18 or later (Python 3.11 or later) can say "
        "so in the output; pip install --upgrade av, or turn the picture itself first: "
        "ffmpeg -i IN -c:a copy OUT"
    )


def kind_of(stream: Any) -> str:
    """What `Copy.kind` says; ``video`` for a video, ``unknown`` for what FFmpeg does not know."""
    if stream.type == "video" and is_cover(stream):
        return "cover"
    return str(stream.type)


def join(
    target: Path,
    work: WorkFolder,
    encoding: Encoding,
    facts: VideoFacts,
    source_path: Path,
    copies: Sequence[Copy],
) -> None:
    """Write the file `target` from the segments of `work` and the streams `copies` of the source.

    Raises:
        OSError: the disk does not take it.
        ValueError: a segment is damaged, or does not fit the encoder.
        RuntimeError: what was written is not what was to be written.
    """
    av = import_av()
    segments = [read_segment(work.segment(number)) for number in range(work.finished())]
    options = {"movflags": "+faststart"} if encoding.container in ("mp4", "mov") else {}
    try:
        with (
            open_container(source_path) as source,
            # No dates and random numbers of the muxer's own: a resumed job gives the same file.
            av.open(
                ffmpeg_name(target),
                "w",
                format=encoding.container,
                container_options=options | {"fflags": "+bitexact"},
            ) as output,
        ):
            counts = _write(output, source, work, segments, encoding, facts, copies)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise OSError(f"cannot write {target}: {error.strerror}") from error
        raise ValueError(
            f"{target}: the streams of {source_path} cannot be written as {encoding.container} "
            f"({error.strerror}); write .mkv, or leave streams out with --drop"
        ) from error
    _verify(target, counts)


def lost_metadata(source_path: Path, target: Path) -> list[str]:
    """Names of the file's metadata that `target` does not hold, since its container cannot."""
    with open_container(source_path) as source, open_container(target) as output:
        kept = {key.lower() for key in output.metadata}
        return sorted(key for key in _file_metadata(source) if key.lower() not in kept)


def _write(
    output: Any,
    source: Any,
    work: WorkFolder,
    segments: Sequence[Segment],
    encoding: Encoding,
    facts: VideoFacts,
    copies: Sequence[Copy],
) -> list[int]:
    """Write everything; returns how many packets each stream of the output got."""
    main = source.streams[facts.index]
    shift = origin(source)
    outputs = {}
    video = None
    for stream in source.streams:
        copy = next((copy for copy in copies if copy.index == stream.index), None)
        if stream.index == facts.index:
            video = _add_video(output, main, encoding, facts)
        elif copy is not None and copy.as_attachment:
            _attach_cover(output, source, stream)
        elif copy is not None:
            added = output.add_stream_from_template(stream, opaque=True)
            added.metadata.update(stream.metadata)
            added.disposition = stream.disposition.value
            if copy.kind != "attachment":
                outputs[stream.index] = added
    assert video is not None
    output.metadata.update(_file_metadata(source))
    output.set_chapters(source.chapters())
    output.start_encoding()
    extradata = bytes(video.codec_context.extradata or b"").hex()
    if any(segment.extradata != extradata for segment in segments):
        raise ValueError(f"{work.folder} was encoded by another encoder; --restart begins anew")

    counts: dict[int, int] = {}

    def mux(packet: Any) -> None:
        counts[packet.stream.index] = counts.get(packet.stream.index, 0) + 1
        output.mux_one(packet)

    waiting = _video_packets(work, segments, video, facts.time_base, shift)
    following = next(waiting, None)
    copied = [source.streams[index] for index in outputs]
    for packet in source.demux(copied) if copied else ():
        if packet.size == 0 and packet.dts is None:  # the demuxer's sign of the end
            continue
        _shift(packet, shift)
        due = packet.dts if packet.dts is not None else packet.pts
        while following is not None and due is not None:
            if following.dts * following.time_base > due * packet.time_base:
                break
            mux(following)
            following = next(waiting, None)
        packet.stream = outputs[packet.stream.index]
        mux(packet)
    while following is not None:
        mux(following)
        following = next(waiting, None)
    return [counts.get(stream.index, 0) for stream in output.streams]


def _add_video(output: Any, source: Any, encoding: Encoding, facts: VideoFacts) -> Any:
    stream = output.add_stream(encoding.codec, rate=Fraction(encoding.rate or 25))
    configure(stream.codec_context, encoding)
    stream.time_base = Fraction(encoding.time_base)
    for key, value in source.metadata.items():
        if not key.lower().startswith(STATISTICS):
            stream.metadata[key] = value
    stream.disposition = source.disposition.value
    if facts.display_matrix is not None:
        stream.set_display_matrix(facts.display_matrix)
    return stream


def _attach_cover(output: Any, source: Any, stream: Any) -> None:
    """A cover as an attachment: Matroska has no streams of single pictures."""
    packet = next(p for p in source.demux(stream) if p.size)
    source.seek(0)
    codec = stream.codec_context.name
    kind = {"mjpeg": ("jpg", "image/jpeg")}.get(codec, (codec, f"image/{codec}"))
    output.add_attachment(f"cover.{kind[0]}", kind[1], bytes(packet))


def _video_packets(
    work: WorkFolder,
    segments: Sequence[Segment],
    stream: Any,
    time_base: Fraction,
    shift: Fraction,
) -> Iterator[Any]:
    """The segments' packets, in order, with the times of decoding of one continuous stream.

    A packet is decoded at the time at which the frame so many places earlier is displayed, that
    number being the least at which no packet is decoded after its own display. The encoder's own
    times of decoding would run backwards where a segment of variable frame rate begins.
    """
    av = import_av()
    frames = [frame for segment in segments for frame in segment.frames]
    packets = [packet for segment in segments for packet in segment.packets]
    times = [pts for pts, _ in frames]
    delay = 0
    for number, packet in enumerate(packets):
        while number >= delay and times[number - delay] > packet.pts:
            delay += 1
    delay = min(delay, len(times) - 1)
    # Before the first: the same steps, so that times rise up to the first time of display.
    early = [times[k] - times[delay] + times[0] for k in range(delay)]
    steps = [b - a for a, b in pairwise(times)]
    durations = [*steps, frames[-1][1] or (steps[-1] if steps else 1)]
    lasts = dict(zip(times, durations, strict=True))
    ticks = round(shift / time_base)
    number = 0
    for place, segment in enumerate(segments):
        for facts, data in read_packets(work.segment(place), segment):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = time_base
            packet.pts = facts.pts - ticks
            packet.dts = (early[number] if number < delay else times[number - delay]) - ticks
            packet.duration = lasts[facts.pts]
            packet.is_keyframe = facts.key
            yield packet
            number += 1


def _shift(packet: Any, shift: Fraction) -> None:
    if shift:
        ticks = round(shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks


def _verify(target: Path, counts: Sequence[int]) -> None:
    """Read the file back and count: every packet that was written must be there."""
    with open_container(target) as output:
        came = [0] * len(output.streams)
        for packet in output.demux():
            came[packet.stream.index] += packet.size > 0
        for stream, wanted, found in zip(output.streams, counts, came, strict=False):
            if stream.type in ("video", "audio") and not is_cover(stream) and wanted != found:
                raise RuntimeError(
                    f"{target}: of {wanted} packets of {_told(stream)} {found} can be read back"
                )


def _refusal(stream: Any, container: str) -> str | None:
    """What the muxer has against a stream, or None."""
    av = import_av()
    output = av.open(io.BytesIO(), "w", format=container)
    try:
        added = output.add_stream_from_template(stream, opaque=True)
        added.metadata.update(stream.metadata)
        added.disposition = stream.disposition.value
        output.start_encoding()
        output.close()
    except (ValueError, av.FFmpegError) as error:
        return str(error)
    return None


def _is_remade(stream: Any, source: Any, container: str) -> bool:
    """Whether the muxer makes such a stream itself, of chapters or of the video's time code."""
    is_quicktime = "mp4" in source.format.name
    if is_quicktime and stream.type == "data" and stream.name == "bin_data" and source.chapters():
        return True
    return container in ("mp4", "mov") and stream.type == "data" and "timecode" in stream.metadata


def _file_metadata(container: Any) -> dict[str, str]:
    return {key: value for key, value in container.metadata.items() if key.lower() not in FILE_KEYS}


def _told(stream: Any) -> str:
    """A stream as the user may know it."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else stream.name
    language = stream.metadata.get("language")
    details = ", ".join(word for word in (codec, language) if word and word != "und")
    return f"stream {stream.index} ({kind_of(stream)}{f': {details}' if details else ''})"
