"""Enlarge a Raspberry Pi camera's frames as its callback brings them, and save some.

    python examples/picamera_callback.py frames --count 10

picamera2 calls a function of ours for every frame. The function must return at once, or the camera
loses frames; so it only hands a copy over to a `FrameFeed`, and a `Stream` does the rest in threads
of its own. Cameras of other makers with a callback work the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picamera2 import Picamera2

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams import FolderSink, FrameFeed


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for PNG files")
    parser.add_argument("--model", default="gidrn_x2")
    parser.add_argument("--count", type=int, default=10, help="frames to save")
    parser.add_argument("--age-ms", type=float, default=500, help="older frames are dropped")
    options = parser.parse_args(argv)

    feed = FrameFeed()

    def on_frame(request: Any) -> None:
        # `make_array` copies, so that the camera may have its buffer back when this returns.
        feed.push(request.make_array("main"))

    camera = Picamera2()
    # What picamera2 calls RGB888 lies in memory as B, G, R: the order of an Upscaler, as of OpenCV.
    camera.configure(
        camera.create_video_configuration(main={"size": (320, 240), "format": "RGB888"})
    )
    camera.pre_callback = on_frame
    saved = FolderSink(options.out)
    with Upscaler(options.model) as upscale:
        with Stream(feed, upscale, "live", age_ms=options.age_ms) as stream:
            camera.start()
            try:
                for number, shown in enumerate(stream, start=1):
                    saved.put(shown)
                    print(f"frame {shown.number}, {shown.age_ms:.0f} ms old", flush=True)
                    if number == options.count:
                        break
            except KeyboardInterrupt:
                pass
            finally:
                feed.close()
                camera.stop()
    print(stream.statistics())


if __name__ == "__main__":
    main()
