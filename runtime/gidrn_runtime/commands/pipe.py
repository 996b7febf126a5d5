"""``pipe``: raw frames in on stdin, larger ones out on stdout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime import Upscaler
from gidrn_runtime.colour import (
    LUMA_WEIGHTS,
    PIXEL_FORMATS,
    RANGES,
    SITINGS,
    Coding,
    pack,
    planes_from_rgb,
    rgb_from_planes,
    unpack,
)
from gidrn_runtime.console import (
    add_model_options,
    complain,
    frame_size_hw,
    interruptible,
    nobody_reads,
    open_upscaler,
)
from gidrn_runtime.frames import upscale_image
from gidrn_runtime.streams.sinks import write_whole

HELP = "enlarge raw frames from stdin to stdout"
DESCRIPTION = (
    "Enlarge raw frames, as ffmpeg -f rawvideo writes and reads them. For example: "
    "ffmpeg -i in.mp4 -f rawvideo -pix_fmt bgr24 - | "
    "python -m gidrn_runtime pipe --size 640x360 --model gidrn_x2 | "
    "ffmpeg -f rawvideo -pix_fmt bgr24 -video_size 1280x720 -framerate 25 -i - out.mp4"
)

BYTES_PER_PIXEL = {"bgr24": 3, "rgb24": 3, "gray": 1}
YCBCR = [name for name, layout in PIXEL_FORMATS.items() if layout.halved_hw is not None]

Convert = Callable[[npt.NDArray[np.uint8]], bytes]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "--size",
        required=True,
        type=frame_size_hw,
        metavar="WIDTHxHEIGHT",
        help="of the frames that come in, as ffmpeg writes it: width first",
    )
    parser.add_argument(
        "--pixel-format",
        choices=[*BYTES_PER_PIXEL, *YCBCR],
        default="bgr24",
        metavar="FORMAT",
        help=f"of both ends, by ffmpeg's names: {', '.join([*BYTES_PER_PIXEL, *YCBCR])}; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--matrix",
        choices=LUMA_WEIGHTS,
        help="of YCbCr; it must be given, since nothing else tells",
    )
    parser.add_argument(
        "--range", choices=RANGES, default="limited", help="of YCbCr; default: %(default)s"
    )
    parser.add_argument(
        "--siting",
        choices=SITINGS,
        default="left",
        help="where chroma of half the sides lies; default: %(default)s",
    )
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Enlarge frames until stdin ends; 141 when nobody reads stdout any more."""
    name = arguments.pixel_format
    if name in YCBCR and arguments.matrix is None:
        raise ValueError(
            f"--pixel-format {name} needs --matrix: 601 for SD and most cameras, 709 for HD, 2020 "
            "for UHD"
        )
    if name not in YCBCR and arguments.matrix is not None:
        raise ValueError(f"--matrix is for YCbCr; frames of {name} have none")
    if sys.stdin.isatty():
        raise ValueError(f"no frames come in on stdin;{DESCRIPTION.partition('For example:')[2]}")
    upscaler = open_upscaler(arguments)
    height, width = arguments.size
    if name in YCBCR:
        bits = PIXEL_FORMATS[name].bits
        coding = Coding(arguments.matrix, arguments.range, bits, arguments.siting)
        wanted = PIXEL_FORMATS[name].frame_bytes(height, width)
        convert = ycbcr_converter(upscaler, name, coding, height, width)
    else:
        wanted = BYTES_PER_PIXEL[name] * height * width
        convert = rgb_converter(upscaler, name, height, width)
    count = 0
    try:
        while (data := read_frame(sys.stdin.buffer, wanted)) is not None:
            if data.size < wanted:
                raise ValueError(
                    f"frame {count} ends after {data.size} of {wanted} bytes; {count} frames were "
                    f"enlarged. Is --size {width}x{height} --pixel-format {name} what comes in?"
                )
            high = interruptible(partial(convert, data))
            write_whole(sys.stdout.buffer, high)
            sys.stdout.buffer.flush()
            count += 1
    except BrokenPipeError:
        return nobody_reads()
    upscaler.close()
    if count == 0:
        complain("no frame came in")
        return 2
    return 0


def read_frame(stream: Any, size: int) -> npt.NDArray[np.uint8] | None:
    """The next `size` bytes of a binary stream; fewer where it is cut, None at its end."""
    data = np.empty(size, np.uint8)
    filled = 0
    while filled < size:
        got = stream.readinto(data[filled:])
        if not got:
            break
        filled += got
    return data[:filled] if filled else None


def rgb_converter(upscaler: Upscaler, name: str, height: int, width: int) -> Convert:
    """Enlarges a frame of bgr24, rgb24 or gray."""

    def convert(data: npt.NDArray[np.uint8]) -> bytes:
        if name == "gray":
            return upscale_image(upscaler, data.reshape(height, width)).tobytes()
        frame = data.reshape(height, width, 3)
        if name[:3] == upscaler.color:
            return upscaler(frame).tobytes()
        return upscaler(np.ascontiguousarray(frame[..., ::-1]))[..., ::-1].tobytes()

    return convert


def ycbcr_converter(
    upscaler: Upscaler, name: str, coding: Coding, height: int, width: int
) -> Convert:
    """Enlarges a frame of YCbCr; chroma comes out sited as it went in."""
    layout = PIXEL_FORMATS[name]

    def convert(data: npt.NDArray[np.uint8]) -> bytes:
        planes = unpack(data, layout, height, width)
        high = upscaler.run_tensor(rgb_from_planes(planes, coding))
        return pack(planes_from_rgb(high, coding, layout.halved_hw), layout)

    return convert
