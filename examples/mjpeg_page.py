"""Show a camera on a web page, before and after enlarging, with a slider between the two.

    python examples/mjpeg_page.py --source 0          # then open http://127.0.0.1:8000
    python examples/mjpeg_page.py --source rtsp://camera/stream --host 0.0.0.0

Both sides are MJPEG streams, which every browser shows without a plug-in; ?still at the end of the
address shows one frame instead. Needs `pip install flask`. Whoever reaches the host and port sees
the pictures: the default lets in this machine alone.
"""

from __future__ import annotations

import argparse
import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
from flask import Flask, Response, request
from werkzeug.serving import make_server

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.upscaler import Frame

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>G-IDRN: before and after</title>
<style>
  body { margin: 0; background: #111; color: #eee; font: 16px sans-serif; }
  #view { position: relative; }
  #view img { display: block; width: 100%; }
  #after { position: absolute; top: 0; left: 0; clip-path: inset(0 0 0 50%); }
  #line { position: absolute; top: 0; bottom: 0; left: 50%; width: 2px; background: #fff; }
  #view span { position: absolute; top: 8px; padding: 2px 8px; background: #000a; }
  input { width: 100%; margin: 12px 0; }
</style>
<div id="view">
  <img id="before" alt="before" src="BEFORE">
  <img id="after" alt="after" src="AFTER">
  <div id="line"></div>
  <span style="left: 8px">before</span>
  <span style="right: 8px">after</span>
</div>
<input id="slider" type="range" min="0" max="100" value="50" aria-label="before and after">
<script>
  const slider = document.getElementById("slider");
  slider.oninput = () => {
    document.getElementById("after").style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    document.getElementById("line").style.left = slider.value + "%";
  };
</script>
"""


class Pair:
    """The newest frame before and after enlarging, as JPEG; any number of pages may wait for it."""

    def __init__(self, upscale: Callable[[Frame], Frame]) -> None:
        self._upscale = upscale
        self._changed = threading.Condition()
        self._number = 0
        self._jpegs = {"before": b"", "after": b""}

    def enlarge(self, low: Frame) -> Frame:
        """What the Stream calls for each frame: enlarges, and keeps both sides together."""
        high = self._upscale(low)
        jpegs = {"before": encode_jpeg(low), "after": encode_jpeg(high)}
        with self._changed:
            self._jpegs = jpegs
            self._number += 1
            self._changed.notify_all()
        return high

    def newer_than(self, number: int) -> tuple[int, dict[str, bytes]]:
        """Wait for a pair with a higher number than this; after 5 s without one, the last again.

        Sending something now and then is how the server notices that a browser has gone away.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number > number, 5 if number else None)
            return self._number, self._jpegs


def encode_jpeg(frame: Frame) -> bytes:
    """uint8 BGR (H, W, 3) -> a JPEG file's content."""
    _, data = cv2.imencode(".jpg", frame)
    return data.tobytes()


def make_app(pair: Pair) -> Flask:
    """The page and its two streams."""
    app = Flask(__name__)

    @app.get("/")
    def page() -> str:
        sources = {"before": "before.mjpg", "after": "after.mjpg"}
        if "still" in request.args:
            _, jpegs = pair.newer_than(0)
            for side, jpeg in jpegs.items():
                sources[side] = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        return PAGE.replace("BEFORE", sources["before"]).replace("AFTER", sources["after"])

    @app.get("/<any(before, after):side>.mjpg")
    def mjpeg(side: str) -> Response:
        return Response(parts(side), mimetype="multipart/x-mixed-replace; boundary=frame")

    def parts(side: str) -> Iterator[bytes]:
        number = 0
        while True:  # until the browser goes away
            number, jpegs = pair.newer_than(number)
            head = (
                f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpegs[side])}\r\n\r\n"
            )
            yield head.encode() + jpegs[side] + b"\r\n"

    return app


def ignore(_: Any) -> None:
    """The stream's sink: the page has taken the frames already."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="0", help="a camera's number, or a file or address")
    parser.add_argument("--model", default="gidrn_x2")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(argv)
    source = int(options.source) if options.source.isdecimal() else options.source

    with Upscaler(options.model) as upscale:
        pair = Pair(upscale)
        server = make_server(options.host, options.port, make_app(pair), threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://{options.host}:{server.server_port}", flush=True)
        try:
            with Stream(source, pair.enlarge, "live") as stream:
                print(stream.run(ignore))
            threading.Event().wait()  # the source is over; its last frame stays on the page
        except KeyboardInterrupt:
            server.shutdown()


if __name__ == "__main__":
    main()
