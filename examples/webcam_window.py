"""Show a webcam enlarged, live: in a window of OpenCV's, or of ffplay's.

    python examples/webcam_window.py
    python examples/webcam_window.py --source clip.mp4 --display ffplay

A window of OpenCV's needs a desktop and `pip install opencv-python`: opencv-python-headless, which
gidrn[cpu] brings, has no windows. `--display ffplay` does without; it needs FFmpeg. In both q ends
it, as Ctrl-C does.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams import WindowSink
from gidrn_runtime.upscaler import Frame


class Ffplay:
    """A window of ffplay, which is fed with raw frames; it opens with the first one."""

    def __init__(self) -> None:
        self._player: subprocess.Popen[bytes] | None = None

    def write(self, frame: Frame) -> bool:
        """Show one frame. False, which ends the stream, once the window was closed."""
        if self._player is None:
            height, width, _ = frame.shape
            self._player = subprocess.Popen(
                [
                    *("ffplay", "-loglevel", "error", "-fflags", "nobuffer"),
                    *("-f", "rawvideo", "-pixel_format", "bgr24"),
                    *("-video_size", f"{width}x{height}", "-i", "-"),
                ],
                stdin=subprocess.PIPE,
            )
        assert self._player.stdin is not None
        try:
            self._player.stdin.write(frame.tobytes())
        except BrokenPipeError:
            return False
        return True

    def close(self) -> None:
        """The stream is over: close the window."""
        if self._player is not None:
            self._player.terminate()
            self._player.wait()


DISPLAYS: dict[str, Callable[[], Any]] = {"window": WindowSink, "ffplay": Ffplay}
"""Name -> what shows frames. Anything with `write(frame)` and `close()` will do."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="0", help="a camera's number, or a file or address")
    parser.add_argument("--model", default="gidrn_x2")
    parser.add_argument("--age-ms", type=float, default=500, help="older frames are dropped")
    parser.add_argument("--display", choices=DISPLAYS, default="window")
    options = parser.parse_args(argv)
    source = int(options.source) if options.source.isdecimal() else options.source

    with Upscaler(options.model) as upscale:
        # "live": when the model is slower than the camera, the newest frame wins; nothing piles up.
        with Stream(source, upscale, "live", age_ms=options.age_ms) as stream:
            try:
                stream.run(DISPLAYS[options.display]())
            except KeyboardInterrupt:
                pass  # Ctrl-C: the with-blocks close camera and model
    print(stream.statistics())


if __name__ == "__main__":
    main()
