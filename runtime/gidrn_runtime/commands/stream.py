"""``stream``: a camera, an address, a video file or a folder, enlarged as it comes."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.console import add_model_options, complain, nobody_reads, open_upscaler
from gidrn_runtime.streams.ladder import Ladder, lower_rungs
from gidrn_runtime.streams.stream import POLICIES

HELP = "enlarge a camera, a network stream, a video file or a folder as it comes"
DESCRIPTION = (
    "Enlarge frames as they come, and tell every second what became of them. With the policy live "
    "the newest frame wins and none older than --age-ms is handed over; a lost camera or address "
    "is opened again. With file nothing is dropped. Ctrl-C, or SIGTERM, ends it."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a camera's index (0) or device (/dev/video0), an address (rtsp://, http://, udp://, "
        "...), a video file or a folder of images",
    )
    parser.add_argument("--policy", choices=POLICIES, default="live", help="default: %(default)s")
    parser.add_argument(
        "-o",
        "--out",
        help="a folder for image files; 'window'; or '-' for raw bgr24 frames on stdout. Without "
        "it frames are made and counted, and go nowhere",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace image files in --out")
    parser.add_argument("--age-ms", type=float, help="live: the age budget; default: 500")
    parser.add_argument("--queue", type=int, help="file: frames in each queue; default: 4")
    parser.add_argument(
        "--ladder",
        action="store_true",
        help="live: while frames miss the age budget, enlarge only their middle by the model, or "
        "all of them bicubically",
    )
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=5.0,
        help="network: silent for so long means lost; default: %(default)g",
    )
    add_model_options(parser, model="gidrn_x2")


def run(arguments: argparse.Namespace) -> int:
    """Run the stream to its end; the report goes to stderr. 130 or 143 where a signal ended it, 141
    where nobody reads stdout any more."""
    if arguments.seconds is not None and arguments.seconds <= 0:
        raise ValueError(f"--seconds is a time above 0, not {arguments.seconds:g}")
    with open_upscaler(arguments) as upscale:
        stream = Stream(
            int(arguments.source) if arguments.source.isdecimal() else arguments.source,
            upscale,
            arguments.policy,
            age_ms=arguments.age_ms,
            queue=arguments.queue,
            ladder=Ladder(lower_rungs(upscale)) if arguments.ladder else None,
            timeout_s=arguments.timeout_s,
            on_source=lambda event: complain(f"source {event.kind}: {event.reason}"),
        )
        sink = open_sink(arguments, upscale)
        ending = Ending(stream, arguments.seconds)
        try:
            with stream, Reporter(lambda: str(stream.statistics())), ending:
                stream.run(sink)
        except BrokenPipeError:
            if arguments.out != "-":
                raise
            return nobody_reads()
    return ending.code


def open_sink(arguments: argparse.Namespace, upscale: Upscaler) -> Any:
    """The sink that --out names."""
    from gidrn_runtime.streams import sinks

    if arguments.out is None:
        return _forget
    if arguments.out == "-":
        return sinks.RawSink(sys.stdout.buffer)
    if arguments.out == "window":
        return sinks.WindowSink()
    ending = f"_x{upscale.scale}"
    return sinks.FolderSink(Path(arguments.out), ending=ending, overwrite=arguments.overwrite)


def _forget(_: object) -> None:
    """A sink for those who only want the figures."""


class Ending:
    """Ends a stream after a time, at Ctrl-C or at SIGTERM, as service managers send it; the second
    of which ends the program at once."""

    def __init__(self, stream: Stream, seconds: float | None) -> None:
        self.code = 0
        """What the program ends with: 0, or as of one that was ended by the signal."""
        self._stream = stream
        self._timer = None if seconds is None else threading.Timer(seconds, self._stop)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._interrupt)

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _interrupt(self, number: int, _: object) -> None:
        self.code = 128 + number
        self._restore()
        complain("ends with the frame that is being enlarged; Ctrl-C again ends at once")
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        with suppress(TimeoutError):  # `run` raises the same
            self._stream.stop()


class Reporter:
    """Writes a line on stderr: on a terminal every second over the last one, elsewhere every five
    seconds, and a last one at the end."""

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._write(self._line())

    def _report(self) -> None:
        while not self._over.wait(1.0 if self._is_terminal else 5.0):
            if self._is_terminal:  # a line that wraps could not be written over
                self._write(self._line()[: shutil.get_terminal_size().columns - 1], end="")
            else:
                self._write(self._line())

    def _write(self, line: str, end: str = "\n") -> None:
        start = "\r\x1b[2K" if self._is_terminal else ""
        sys.stderr.write(f"{start}{line}{end}")
        sys.stderr.flush()
