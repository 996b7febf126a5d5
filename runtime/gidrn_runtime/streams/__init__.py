"""Streams: frames from a camera, an address, a file or a program, enlarged as they come."""

from gidrn_runtime.streams.decoded import Decoded
from gidrn_runtime.streams.ladder import Ladder, Rung, lower_rungs
from gidrn_runtime.streams.ledger import Entry, Ledger
from gidrn_runtime.streams.report import Statistics
from gidrn_runtime.streams.schedule import Reopen
from gidrn_runtime.streams.sinks import FolderSink, RawSink, Shown, WindowSink
from gidrn_runtime.streams.sources import Camera, Folder, FrameFeed, Frames
from gidrn_runtime.streams.stream import SourceEvent, Stream

__all__ = [
    "Camera",
    "Decoded",
    "Entry",
    "Folder",
    "FolderSink",
    "FrameFeed",
    "Frames",
    "Ladder",
    "Ledger",
    "RawSink",
    "Reopen",
    "Rung",
    "Shown",
    "SourceEvent",
    "Statistics",
    "Stream",
    "WindowSink",
    "lower_rungs",
]
