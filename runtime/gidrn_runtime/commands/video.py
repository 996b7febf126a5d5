"""``video``: a video file in, a larger one out."""

from __future__ import annotations

import argparse
from pathlib import Path

from gidrn_runtime.colour import LUMA_WEIGHTS, RANGES
from gidrn_runtime.console import add_model_options, complain, open_upscaler, say
from gidrn_runtime.progress import Progress, duration_text
from gidrn_runtime.video import VideoOptions, VideoResult, upscale_video
from gidrn_runtime.video.encoders import CONTAINERS, ENCODERS
from gidrn_runtime.video.job import check_target
from gidrn_runtime.video.library import import_av

HELP = "enlarge a video file"
DESCRIPTION = (
    "Enlarge a video file. Every frame and its time, audio, subtitles, chapters, rotation and "
    "metadata are kept; colour is read, applied and tagged; 10 and 12 bits stay so. What the "
    "output's container cannot hold is refused or told before the work. A job that was interrupted "
    "or killed goes on when the same command is given again, and its result is the same."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("source", type=Path, metavar="VIDEO")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help=f"the file to write; its extension sets the container: {', '.join(CONTAINERS)}",
    )
    add_model_options(parser)
    parser.add_argument(
        "--codec",
        help=f"one of {', '.join(ENCODERS)}; default: libx264 for 8 bits, libx265 for more, "
        "libsvtav1 for .webm",
    )
    parser.add_argument(
        "--quality",
        "--crf",
        type=int,
        help="constant rate factor, less is better; default: "
        + ", ".join(f"{name} {e.quality}" for name, e in ENCODERS.items() if e.quality is not None),
    )
    parser.add_argument("--preset", help="how hard the encoder tries, in its own words")
    parser.add_argument(
        "--matrix",
        choices=LUMA_WEIGHTS,
        help="of the video's colour, where its tag is missing or wrong",
    )
    parser.add_argument("--range", choices=RANGES, help="likewise")
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="STREAM",
        help="leave a stream out: its number as ffprobe tells it, or audio, subtitle, data, "
        "attachment, cover; may be given again",
    )
    parser.add_argument(
        "--segment-seconds",
        type=float,
        default=VideoOptions.segment_s,
        help="how much video a killed job may have to do again; each segment begins with a key "
        "frame; default: %(default)g",
    )
    parser.add_argument(
        "--allow-damaged",
        action="store_true",
        help="go on where the video cannot be decoded, and count what is lost",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--restart", action="store_true", help="begin anew instead of going on from OUT.work"
    )


def run(arguments: argparse.Namespace) -> int:
    """Enlarge the video; 0 when it is done."""
    import_av()
    if not arguments.source.exists():
        raise FileNotFoundError(f"there is no file {arguments.source}")
    check_target(arguments.source, arguments.out, arguments.overwrite)
    upscaler = open_upscaler(arguments)
    options = VideoOptions(
        codec=arguments.codec,
        quality=arguments.quality,
        preset=arguments.preset,
        segment_s=arguments.segment_seconds,
        drop=tuple(arguments.drop),
        matrix=arguments.matrix,
        color_range=arguments.range,
        allow_damaged=arguments.allow_damaged,
        overwrite=arguments.overwrite,
        restart=arguments.restart,
    )
    try:
        result = upscale_video(
            upscaler,
            arguments.source,
            arguments.out,
            options,
            tell=complain,
            make_progress=lambda total, done: Progress(total, "frames", done_before=done),
        )
    except KeyboardInterrupt:
        complain(f"interrupted; the same command goes on from {arguments.out}.work")
        raise
    # No with-block: closing waits for the run in progress, which Ctrl-C must not do.
    upscaler.close()
    say(summary(arguments.source, arguments.out, result, str(upscaler.describe()["engine"])))
    return 0


def summary(source: Path, target: Path, result: VideoResult, engine: str) -> str:
    """The line at the end. FPS counts the frames of this run."""
    height, width = result.size_hw
    done = result.frames_out - result.resumed
    fps = done / result.seconds if result.seconds else 0.0
    extra = f", {result.resumed} of them before" if result.resumed else ""
    if result.damaged:
        extra += f", {result.damaged} pieces of the source damaged"
    return (
        f"{source} -> {target} {width}x{height}: {result.frames_in} frames in, {result.frames_out} "
        f"out{extra}, in {duration_text(result.seconds)} ({fps:.2f} FPS, {engine}), "
        f"{result.file_bytes / 1e6:.1f} MB"
    )
