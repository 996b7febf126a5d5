"""The encoders that a video can be written with, and how each is opened the same way every time.

A video is encoded in segments, each by an encoder of its own, so that what one segment becomes must
not depend on anything but its frames: numbers of threads are fixed, groups of pictures closed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gidrn_runtime.video.library import import_av

THREADS = 4
"""Of an encoder, on every machine alike: x264's and x265's output may depend on it."""


@dataclass(frozen=True)
class Encoder:
    """What an encoder of FFmpeg holds, and the options that we always give it."""

    bits: tuple[int, ...]
    chroma: tuple[str, ...]
    quality: int | None
    """Constant rate factor unless asked otherwise; None for one without loss."""
    presets: tuple[str, ...] = ()
    """From the fastest to the one that tries hardest."""
    fixed: dict[str, str] = field(default_factory=dict)
    parameters: tuple[str, str, str] | None = None
    """Option that takes the library's own parameters, what is always in it, and how it is told
    that chroma lies top left."""
    tag: str | None = None
    """Code in MP4 and MOV, where not FFmpeg's choice."""


X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)

ENCODERS: dict[str, Encoder] = {
    "libx264": Encoder(
        (8, 10),
        ("420", "422", "444"),
        18,
        X26_PRESETS,
        parameters=("x264-params", "", "chromaloc=2"),
    ),
    "libx265": Encoder(
        (8, 10, 12),
        ("420", "422", "444"),
        20,
        X26_PRESETS,
        parameters=("x265-params", "log-level=error:open-gop=0", "chromaloc=2"),
        tag="hvc1",  # the only one that Apple's players take
    ),
    "libsvtav1": Encoder(
        (8, 10),
        ("420",),
        30,
        tuple(str(number) for number in range(13, -1, -1)),
        fixed={"preset": "8"},
        parameters=("svtav1-params", "lp=2", "chroma-sample-position=topleft"),
    ),
    "ffv1": Encoder(
        (8, 10, 12),
        ("420", "422", "444"),
        None,
        fixed={"level": "3", "slices": "4", "slicecrc": "1"},
    ),
}
"""FFmpeg's name -> encoder. All are in PyAV's wheels."""

CONTAINERS: dict[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Extension -> FFmpeg's name of the muxer."""


@dataclass(frozen=True)
class Encoding:
    """Everything that an encoder is told, JSON-able by `dataclasses.asdict`."""

    codec: str
    options: dict[str, str]
    size_hw: tuple[int, int]
    pixel_format: str
    time_base: str
    """Seconds of a tick of the timestamps, as a fraction."""
    rate: str | None
    """Frames per second on average, as a fraction; a hint for the encoder."""
    aspect: str | None
    """Of a sample, width : height, as a fraction."""
    tags: tuple[int, int, int, int]
    """Matrix, range, primaries and transfer characteristic, by H.273's and FFmpeg's numbers."""
    container: str
    """FFmpeg's name of the muxer."""


def choose_codec(codec: str | None, container: str, bits: int, chroma: str) -> str:
    """`codec`, or the usual one for that container and depth.

    Raises:
        ValueError: there is no such encoder, or it cannot hold the depth or chroma.
    """
    if codec is None:
        codec = "libx264" if bits == 8 else "libx265"
        if container == "webm":
            codec = "libsvtav1"
    encoder = ENCODERS.get(codec)
    if encoder is None:
        raise ValueError(f"there is no codec {codec!r} here; choose one of {', '.join(ENCODERS)}")
    if bits not in encoder.bits or chroma not in encoder.chroma:
        able = [n for n, e in ENCODERS.items() if bits in e.bits and chroma in e.chroma]
        raise ValueError(
            f"{codec} cannot hold the source's {bits} bits in 4:{chroma[1]}:{chroma[2]}; "
            f"take --codec {' or '.join(able)}"
        )
    return codec


def options_for(codec: str, quality: int | None, preset: str | None, siting: str) -> dict[str, str]:
    """FFmpeg's options for the encoder.

    Raises:
        ValueError: the preset is not one of its own, or quality and preset have no meaning for it.
    """
    encoder = ENCODERS[codec]
    options = dict(encoder.fixed)
    if encoder.quality is not None:
        options["crf"] = str(encoder.quality if quality is None else quality)
        if preset is not None:
            if preset not in encoder.presets:
                raise ValueError(
                    f"{codec} has no preset {preset!r}; choose one of {', '.join(encoder.presets)}"
                )
            options["preset"] = preset
    elif quality is not None or preset is not None:
        raise ValueError(f"{codec} writes without loss and takes no --quality and no --preset")
    if encoder.parameters is not None:
        option, always, top_left = encoder.parameters
        values = [always, top_left if siting == "topleft" else ""]
        text = ":".join(value for value in values if value)
        if text:
            options[option] = text
    return options


def open_encoder(encoding: Encoding) -> Any:
    """An `av.VideoCodecContext` that encodes one segment.

    Raises:
        ValueError: the encoder does not take the options or the size.
    """
    av = import_av()
    context = av.CodecContext.create(encoding.codec, "w")
    configure(context, encoding)
    if av.ContainerFormat(encoding.container, "w").flags & av.format.Flags.global_header.value:
        context.flags |= av.codec.context.Flags.global_header.value
    try:
        context.open()
    except av.FFmpegError as error:
        height, width = encoding.size_hw
        given = ", ".join(f"{key}={value}" for key, value in encoding.options.items())
        raise ValueError(
            f"{encoding.codec} does not take {width}x{height} {encoding.pixel_format} with {given} "
            f"({error.strerror}); try another --preset, --quality or --codec"
        ) from error
    return context


def configure(context: Any, encoding: Encoding) -> None:
    """Tell an encoder's context, not open yet, what `encoding` says."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise
    context.height, context.width = encoding.size_hw
    context.pix_fmt = encoding.pixel_format
    context.time_base = Fraction(encoding.time_base)
    if encoding.rate is not None:
        context.framerate = Fraction(encoding.rate)
    if encoding.aspect is not None:
        context.sample_aspect_ratio = Fraction(encoding.aspect)
    context.colorspace, context.color_range = encoding.tags[:2]
    context.color_primaries, context.color_trc = encoding.tags[2:]
    context.thread_count = THREADS
    context.options = dict(encoding.options)
    tag = ENCODERS[encoding.codec].tag
    if tag is not None and encoding.container in ("mp4", "mov"):
        context.codec_tag = tag
