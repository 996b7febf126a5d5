"""The GStreamer element `gidrnupscale`: raw BGR or RGB video in, enlarged by a model's scale.

GStreamer's loader for Python elements (libgstpython) imports this file, from the folder `python` of
GST_PLUGIN_PATH, into the Python that it embeds. NumPy and `gidrn_runtime` are imported when the
element starts, so that one that misses them is there and says what it misses.

    gst-launch-1.0 v4l2src ! videoconvert ! gidrnupscale ! videoconvert ! autovideosink
"""

from __future__ import annotations

import sys
import time
from typing import Any

import gi

for namespace in ("Gst", "GstBase", "GstVideo"):
    gi.require_version(namespace, "1.0")
from gi.repository import GObject, Gst, GstBase, GstVideo  # noqa: E402 - after the versions

FORMATS = ("BGR", "RGB")
LARGEST = 2**31 - 1
"""Of a side, in GStreamer's caps."""


def template(name: str, direction: Any) -> Any:
    """An always-present pad of raw video in system memory."""
    caps = f"video/x-raw, format={{ {', '.join(FORMATS)} }}, width=[1, max], height=[1, max]"
    caps = caps.replace("max", str(LARGEST))
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(caps))


def enlarged(side: Any, scale: int) -> Any | None:
    """A side of caps (number, range or list) behind the element; None where there is none.

    A range has every number between its ends, multiples of `scale` or not: what follows may then
    offer one that is none, and `do_transform_caps` tells of it instead of finding nothing.
    """
    if isinstance(side, int):
        return side * scale if side * scale <= LARGEST else None
    if isinstance(side, Gst.IntRange):
        low, high = side.range.start, min(side.range.stop, LARGEST // scale)
        return ranged(low * scale, high * scale)
    return listed([enlarged(one, scale) for one in side])


def reduced(side: Any, scale: int) -> Any | None:
    """A side of caps before the element; None where no whole number becomes it."""
    if isinstance(side, int):
        return side // scale if side % scale == 0 else None
    if isinstance(side, Gst.IntRange):
        return ranged(-(-side.range.start // scale), side.range.stop // scale)
    return listed([reduced(one, scale) for one in side])


def ranged(low: int, high: int) -> Any | None:
    """The numbers from `low` to `high`, both included, as caps have them."""
    if low >= high:
        return low if low == high else None
    return Gst.IntRange(range(low, high))


def listed(sides: list[Any]) -> Any | None:
    """Those of several that there are."""
    there = [side for side in sides if side is not None]
    return Gst.ValueList(there) if there else None


class GidrnUpscale(GstBase.BaseTransform):  # type: ignore[misc] # gi has no types
    """One frame in, one frame out, `scale` times as wide and high; everything else of caps stays.

    The model is opened on the way from READY to PAUSED. Late frames are dropped, and told in QoS
    messages with their count, where the property `qos` of every such element is true.
    """

    __gtype_name__ = "GidrnUpscale"
    __gstmetadata__ = (
        "G-IDRN super-resolution",
        "Filter/Effect/Video/Scaler",
        "Enlarges video 2 to 4 times with a G-IDRN toolkit model",
        "G-IDRN contributors",
    )
    __gsttemplates__ = (
        template("sink", Gst.PadDirection.SINK),
        template("src", Gst.PadDirection.SRC),
    )

    _FLAGS = GObject.ParamFlags.READWRITE | Gst.PARAM_MUTABLE_READY

    model = GObject.Property(
        type=str,
        default="gidrn_x2",
        nick="model",
        blurb="A shipped model's name, or the path of an ONNX file or a TensorRT plan",
        flags=_FLAGS,
    )
    engine = GObject.Property(
        type=str,
        default="auto",
        nick="engine",
        blurb="native, ort-cpu, openvino, ort-cuda, tensorrt, tensorrt-rtx, or auto for the "
        "fastest that is there",
        flags=_FLAGS,
    )
    threads = GObject.Property(
        type=int,
        default=0,
        minimum=0,
        maximum=1024,
        nick="threads",
        blurb="CPU threads of one frame; 0 leaves it to the engine",
        flags=_FLAGS,
    )

    _upscaler: Any = None
    _scale: int | None = None
    """The model's; None before it is open. It stays while the model is opened for another order, so
    that caps may be asked for meanwhile."""
    _low: Any = None
    """GstVideo's description of what comes in; None before caps."""
    _high: Any = None
    _tight: Any = None
    """Where a picture is made whose rows are padded in its buffer."""
    _latency: Any = None
    _warned = ""

    def do_start(self) -> bool:
        try:
            from gidrn_runtime.gstreamer.latency import FrameLatency

            self._open("bgr")
            self._scale = self._upscaler.scale
        except ImportError as error:
            version = ".".join(map(str, sys.version_info[:3]))
            self._fail(
                Gst.LibraryError,
                Gst.LibraryError.INIT,
                f"the Python {version} that GStreamer embeds misses a part of gidrnupscale "
                f"({error}); set the variables that python -m gidrn_runtime gstreamer prints, in "
                "an environment of this version of Python",
            )
            return False
        except Exception as error:  # left to PyGObject it would be printed, and the call succeed
            self._fail(Gst.ResourceError, Gst.ResourceError.OPEN_READ, str(error))
            return False
        self._latency = FrameLatency()
        return True

    def do_stop(self) -> bool:
        self._close()
        self._scale = self._low = self._high = self._tight = None
        return True

    def _open(self, color: str) -> None:
        """Open the model for frames in this order, in the place of the one that is open."""
        from gidrn_runtime import Upscaler

        self._close()
        self._upscaler = Upscaler(
            self.model, self.engine, color=color, threads=self.threads or None
        )

    def _close(self) -> None:
        if self._upscaler is not None:
            self._upscaler.close()
            self._upscaler = None

    def do_transform_caps(self, direction: Any, caps: Any, wanted: Any) -> Any:
        try:
            found = self._across(direction, caps)
        except Exception as error:  # as in do_start
            self._fail(Gst.CoreError, Gst.CoreError.NEGOTIATION, str(error))
            return Gst.Caps.new_empty()
        if found.is_empty() and not caps.is_empty():
            sides = [caps.get_structure(0).get_value(name) for name in ("width", "height")]
            self._warn(
                "what follows wants width and height of {} and {}, to which {} enlarges nothing: "
                "its scale is {}".format(*sides, self.model, self._scale)
            )
        if wanted is None:
            return found
        return wanted.intersect_full(found, Gst.CapsIntersectMode.FIRST)

    def _across(self, direction: Any, caps: Any) -> Any:
        """Caps of the other side for these of one side; of any size while no model is open."""
        found = Gst.Caps.new_empty()
        for i in range(caps.get_size()):
            structure = caps.get_structure(i).copy()
            if self._turn(direction, structure):
                found.append_structure_full(structure, caps.get_features(i).copy())
        return found

    def _turn(self, direction: Any, structure: Any) -> bool:
        """Give a structure the other side's width and height; False where there are none."""
        scale = self._scale
        if scale is None:
            structure.remove_field("width")
            structure.remove_field("height")
            return True
        turned = enlarged if direction == Gst.PadDirection.SINK else reduced
        for name in ("width", "height"):
            if structure.has_field(name):
                side = turned(structure.get_value(name), scale)
                if side is None:
                    return False
                structure.set_value(name, side)
        return True

    def do_set_caps(self, caps_in: Any, caps_out: Any) -> bool:
        try:
            low = GstVideo.VideoInfo.new_from_caps(caps_in)
            if low.interlace_mode != GstVideo.VideoInterlaceMode.PROGRESSIVE:
                raise ValueError(
                    "gidrnupscale takes progressive video alone: put deinterlace before it"
                )
            color = low.finfo.name.lower()
            if color != self._upscaler.color:
                self._open(color)
            self._upscaler.prepare(low.height, low.width)  # now, and not in a frame's time
        except Exception as error:  # as in do_start
            self._fail(Gst.StreamError, Gst.StreamError.FORMAT, str(error))
            return False
        self._low, self._high = low, GstVideo.VideoInfo.new_from_caps(caps_out)
        self._tight = None
        return True

    def do_transform_size(
        self, direction: Any, caps: Any, size: int, othercaps: Any
    ) -> tuple[bool, int]:
        """The bytes of a picture follow from its caps, not from the buffer, whose rows may be
        padded."""
        info = GstVideo.VideoInfo.new_from_caps(othercaps)
        return (False, 0) if info is None else (True, info.size)

    def do_get_unit_size(self, caps: Any) -> tuple[bool, int]:
        info = GstVideo.VideoInfo.new_from_caps(caps)
        return (False, 0) if info is None else (True, info.size)

    def do_transform(self, buffer_in: Any, buffer_out: Any) -> Any:
        began = time.perf_counter_ns()
        try:
            with (
                buffer_in.map(Gst.MapFlags.READ) as low,
                buffer_out.map(Gst.MapFlags.WRITE) as high,
            ):
                self._enlarge(
                    picture(low.data, buffer_in, self._low),
                    picture(high.data, buffer_out, self._high),
                )
        except Exception as error:  # as in do_start
            self._fail(Gst.StreamError, Gst.StreamError.FAILED, str(error))
            return Gst.FlowReturn.ERROR
        if self._latency.add(time.perf_counter_ns() - began):
            self.post_message(Gst.Message.new_latency(self))
        return Gst.FlowReturn.OK

    def _enlarge(self, low: Any, high: Any) -> None:
        """From mapped memory into mapped memory."""
        if high.flags.c_contiguous:
            self._upscaler(low, out=high)
            return
        self._tight = self._upscaler(low, out=self._tight)
        high[...] = self._tight

    def do_gst_base_transform_query(self, direction: Any, query: Any) -> bool:
        answered = GstBase.BaseTransform.do_query(self, direction, query)
        if (
            answered
            and query.type == Gst.QueryType.LATENCY
            and direction == Gst.PadDirection.SRC
            and self._latency is not None
        ):
            live, least, most = query.parse_latency()
            own = self._latency.told_ns
            bounded = most != Gst.CLOCK_TIME_NONE
            query.set_latency(live, least + own, most + own if bounded else most)
        return bool(answered)

    def _fail(self, domain: Any, code: Any, text: str) -> None:
        """Post an error of this element, which ends the pipeline."""
        self._post(Gst.MessageType.ERROR, domain, code, text)

    def _warn(self, text: str) -> None:
        """Post a warning, unless it is the last one again."""
        if text != self._warned:
            self._warned = text
            self._post(Gst.MessageType.WARNING, Gst.CoreError, Gst.CoreError.NEGOTIATION, text)

    def _post(self, kind: Any, domain: Any, code: Any, text: str) -> None:
        line = " ".join(text.split())
        self.message_full(kind, domain.quark(), int(code), line, None, __file__, "", 0)


def picture(data: Any, buffer: Any, info: Any) -> Any:
    """A mapped buffer as an array (H, W, 3); its rows may be padded, as its meta or caps say."""
    import numpy as np

    meta = GstVideo.buffer_get_video_meta(buffer)
    plane = info if meta is None else meta
    return np.ndarray(
        (info.height, info.width, 3), np.uint8, data, plane.offset[0], (plane.stride[0], 3, 1)
    )


GObject.type_register(GidrnUpscale)
__gstelementfactory__ = ("gidrnupscale", Gst.Rank.NONE, GidrnUpscale)
