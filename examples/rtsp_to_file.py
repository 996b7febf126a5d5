"""Record a network camera, enlarged, into a video file.

    python examples/rtsp_to_file.py rtsp://user:password@camera/stream out.mkv --seconds 60

Ctrl-C ends the recording, too. A camera that goes away is awaited. Frames that the model is too
slow for are left out; each of the others keeps the time at which it came, so that the video runs at
the camera's pace. Needs PyAV: `pip install "gidrn[video]"`.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams import Shown

TICK = Fraction(1, 1000)
"""Seconds; time stamps are whole numbers of it, as Matroska has them."""


class VideoFile:
    """A sink for `Stream.run`: H.264, of the size of the first frame."""

    def __init__(self, path: str) -> None:
        self._file = av.open(path, "w")
        self._stream: Any = None
        self._began = 0.0
        self._last = -1

    def put(self, shown: Shown) -> None:
        """Encode one frame at the time at which the camera gave it."""
        height, width, _ = shown.frame.shape
        if self._stream is None:
            self._stream = self._file.add_stream("libx264", options={"preset": "veryfast"})
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = TICK
            # Which YUV this is, so that players show the camera's colours: BT.709, 16 to 235.
            self._stream.codec_context.colorspace = av.video.reformatter.Colorspace.ITU709
            self._stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
            self._began = shown.time_in
        frame = av.VideoFrame.from_ndarray(shown.frame, format="bgr24").reformat(
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=av.video.reformatter.Colorspace.ITU709,
            dst_color_range=av.video.reformatter.ColorRange.MPEG,
        )
        self._last = max(self._last + 1, round((shown.time_in - self._began) / TICK))
        frame.pts, frame.time_base = self._last, TICK
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the file's end."""
        if self._stream is not None:
            self._file.mux(self._stream.encode(None))
        self._file.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="rtsp://…, or anything else that a Stream reads")
    parser.add_argument("out", help="the video file; .mkv is readable even when cut short")
    parser.add_argument("--model", default="gidrn_x2")
    parser.add_argument("--age-ms", type=float, default=500, help="older frames are dropped")
    parser.add_argument("--seconds", type=float, help="stop after so long; default: never")
    options = parser.parse_args(argv)

    with Upscaler(options.model) as upscale:
        with Stream(options.address, upscale, "live", age_ms=options.age_ms) as stream:
            if options.seconds is not None:
                alarm = threading.Timer(options.seconds, stream.stop)
                alarm.daemon = True  # a recording that ends before does not wait for it
                alarm.start()
            try:
                stream.run(VideoFile(options.out))
            except KeyboardInterrupt:
                pass  # `run` has closed the file
    print(stream.statistics())


if __name__ == "__main__":
    main()
