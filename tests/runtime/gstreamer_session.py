"""What `test_gstreamer.py` runs in the system's Python: pipelines fed and watched buffer by buffer.

`python3 gstreamer_session.py PART MODEL` prints as JSON what came out of one of PARTS, with a model
that repeats each pixel 2x2; the part `failure` takes a whole pipeline instead of a model. NumPy is
imported before GStreamer, which ONNX Runtime is to survive.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gi
import numpy as np

for namespace in ("Gst", "GstApp", "GstVideo"):
    gi.require_version(namespace, "1.0")
from gi.repository import Gst, GstApp, GstVideo  # noqa: E402 - after the versions

PATIENCE = 60 * Gst.SECOND
"""A test fails after this; nothing waits for it otherwise."""


class Session:
    """One pipeline: appsrc, the element, appsink."""

    def __init__(self, model: str, feed: str = "", **properties: Any) -> None:
        self.pipeline = Gst.parse_launch(
            f"appsrc name=feed format=time {feed} ! gidrnupscale name=element model={model} "
            "threads=1 ! appsink name=out sync=false"
        )
        self.feed, self.element, self.out = map(
            self.pipeline.get_by_name, ("feed", "element", "out")
        )
        for name, value in properties.items():
            self.element.set_property(name, value)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.frames = 0

    def caps(self, order: str, height: int, width: int, more: str = "") -> None:
        text = f"video/x-raw,format={order},width={width},height={height},framerate=10/1{more}"
        self.feed.set_property("caps", Gst.Caps.from_string(text))

    def push(self, frame: np.ndarray[Any, Any], stride: int | None = None) -> None:
        """A frame, its rows `stride` bytes long and told so by a meta, or padded to fours."""
        height, width, _ = frame.shape
        row = stride or -(-3 * width // 4) * 4
        padded = np.full((height, row), 99, np.uint8)
        padded[:, : 3 * width] = frame.reshape(height, -1)
        buffer = Gst.Buffer.new_wrapped(padded.tobytes())
        if stride is not None:
            GstVideo.buffer_add_video_meta_full(
                *(buffer, GstVideo.VideoFrameFlags.NONE, GstVideo.VideoFormat.BGR),
                *(width, height, 1, [0, 0, 0, 0], [stride, 0, 0, 0]),
            )
        buffer.pts = self.frames * Gst.SECOND // 10
        buffer.duration = Gst.SECOND // 10
        self.frames += 1
        assert self.feed.emit("push-buffer", buffer) == Gst.FlowReturn.OK

    def pull(self) -> tuple[np.ndarray[Any, Any], Any, int]:
        """The next picture, its caps and its time."""
        sample = self.out.emit("try-pull-sample", PATIENCE)
        assert sample is not None, [str(m.get_structure()) for m in self.told()]
        info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
        buffer = sample.get_buffer()
        data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
        rows = data.reshape(info.height, info.stride[0])[:, : 3 * info.width]
        return rows.reshape(info.height, info.width, 3), sample.get_caps(), buffer.pts

    def told(self, kinds: Any = Gst.MessageType.ANY) -> list[Any]:
        """Messages of these kinds so far."""
        bus = self.pipeline.get_bus()
        found = []
        while (message := bus.pop_filtered(kinds)) is not None:
            found.append(message)
        return found

    def latency(self, pad: Any) -> tuple[bool, int, int]:
        query = Gst.Query.new_latency()
        assert pad.query(query)
        live, least, most = query.parse_latency()
        return bool(live), int(least), int(most)

    def end(self) -> bool:
        """End of stream arrives, and the pipeline stops."""
        self.feed.emit("end-of-stream")
        bus = self.pipeline.get_bus()
        message = bus.timed_pop_filtered(PATIENCE, Gst.MessageType.EOS | Gst.MessageType.ERROR)
        self.pipeline.set_state(Gst.State.NULL)
        return bool(message is not None and message.type == Gst.MessageType.EOS)


def frame_of(height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(height * width).integers(0, 250, (height, width, 3), np.uint8)


def repeated(frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the model of tensors makes of a frame."""
    return frame.repeat(2, axis=0).repeat(2, axis=1)


def padded_rows(model: str) -> bool:
    """Rows of another length than caps say, told by a meta of the buffer."""
    session = Session(model)
    frame = frame_of(5, 7)
    session.caps("BGR", 5, 7)
    session.push(frame, stride=40)
    picture, _, _ = session.pull()
    return session.end() and np.array_equal(picture, repeated(frame))


def caps_that_change(model: str) -> dict[str, Any]:
    """Sizes and orders that change in mid-stream, with what caps say beside."""
    session = Session(model)
    right, told, times = [], [], []
    more = ",pixel-aspect-ratio=4/3,colorimetry=bt709"
    for order, height, width in [("BGR", 6, 8), ("BGR", 3, 5), ("RGB", 3, 5), ("BGR", 6, 8)]:
        frame = frame_of(height, width)
        session.caps(order, height, width, more)
        session.push(frame)
        session.push(255 - frame)
        for wanted in (frame, 255 - frame):
            picture, caps, time = session.pull()
            right.append(np.array_equal(picture, repeated(wanted)))
            times.append(time)
        told.append(caps.to_string())
    return {"right": right, "caps": told, "times": times, "ended": session.end()}


def latency(model: str) -> dict[str, Any]:
    """What the element adds to the latency of what stands before it."""
    session = Session(model, "is-live=true min-latency=3000000 max-latency=50000000")
    source, behind = (
        session.feed.get_static_pad("src"),
        session.element.get_static_pad("src"),
    )
    session.caps("BGR", 6, 8)
    session.push(frame_of(6, 8))
    session.pull()
    session.push(frame_of(6, 8))  # the first has been told when the second is there
    session.pull()
    before, after = session.latency(source), session.latency(behind)
    from_element = [
        message
        for message in session.told(Gst.MessageType.LATENCY)
        if message.src == session.element
    ]
    return {
        "before": before,
        "after": after,
        "messages": len(from_element),
        "ended": session.end(),
    }


def late_frames(model: str) -> dict[str, Any]:
    """Frames that come after the time that a sink has told are dropped, and counted."""
    session = Session(model, qos=True)
    session.caps("BGR", 4, 4)
    session.push(frame_of(4, 4))
    session.pull()
    event = Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 2.0, 150 * Gst.MSECOND, 200 * Gst.MSECOND)
    session.element.get_static_pad("src").send_event(event)
    for _ in range(5):  # at 100 ... 500 ms; those at 350 ms and before are late
        session.push(frame_of(4, 4))
    times = [session.pull()[2] for _ in range(2)]
    counts = [message.parse_qos_stats()[1:] for message in session.told(Gst.MessageType.QOS)]
    return {"times": times, "dropped": counts[-1][1], "ended": session.end()}


def flush_and_restart(model: str) -> list[bool]:
    """A flush in mid-stream, and a pipeline that is stopped and played again."""
    session = Session(model)
    frame = frame_of(4, 6)
    right = []
    for turn in range(3):
        session.caps("BGR", 4, 6)
        session.push(frame)
        right.append(np.array_equal(session.pull()[0], repeated(frame)))
        if turn == 0:
            session.feed.send_event(Gst.Event.new_flush_start())
            session.feed.send_event(Gst.Event.new_flush_stop(True))
        if turn == 1:
            session.pipeline.set_state(Gst.State.NULL)
            session.pipeline.set_state(Gst.State.PLAYING)
    return [*right, session.end()]


def failure(pipeline: str) -> list[list[str]]:
    """The warnings and errors of a pipeline up to its first error, each with who tells it.

    gst-launch-1.0 may not do for this: GStreamer 1.22's looks for an error before its main loop
    runs, and so loses warnings that came before, or waits for ever for the error that it has read.
    """
    playing = Gst.parse_launch(pipeline)
    playing.set_state(Gst.State.PLAYING)
    told = []
    kinds = Gst.MessageType.WARNING | Gst.MessageType.ERROR
    while (message := playing.get_bus().timed_pop_filtered(PATIENCE, kinds)) is not None:
        if message.type == Gst.MessageType.ERROR:
            told.append([message.src.get_name(), message.parse_error()[0].message])
            break
        told.append([message.src.get_name(), message.parse_warning()[0].message])
    playing.set_state(Gst.State.NULL)
    return told


PARTS = (padded_rows, caps_that_change, latency, late_frames, flush_and_restart, failure)


def main(name: str, model: str) -> None:
    Gst.init(None)
    assert GstApp is not None  # appsrc's and appsink's own methods
    (part,) = (part for part in PARTS if part.__name__ == name)
    sys.stdout.write(json.dumps(part(model)))


main(*sys.argv[1:])
