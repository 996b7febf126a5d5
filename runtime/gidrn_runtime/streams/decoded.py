"""Video files and streams from the network, decoded by FFmpeg through PyAV.

PyAV rather than OpenCV: a wait has a limit of its own for each stream, an end is told apart from a
loss, time stamps are there, and the stream's own colour matrix is applied (OpenCV takes BT.601 for
everything).
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gidrn_runtime import optional
from gidrn_runtime.errors import SourceError
from gidrn_runtime.streams.sources import Captured, Clock
from gidrn_runtime.upscaler import Frame

REMEDY = 'pip install "gidrn[video]"'
SECRET = re.compile(r"(?i)([?&][^=&]*(?:pass|pwd|token|key|auth|secret)[^=&]*=)[^&]*")
"""What an address tells behind its ``?`` that is not for everybody."""
MOST_DAMAGED = 100
"""Damaged packets in a row after which a stream from the network counts as lost."""


class Decoded:
    """A video file or an address (rtsp://, http://, udp://, …): its first video stream.

    Nobody waits for the network longer than `timeout_s`. RTSP runs over TCP, since over UDP a lost
    packet tears the picture. Rotation noted in the file is applied.
    """

    def __init__(
        self,
        name: str,
        *,
        color: str = "bgr",
        is_live: bool = False,
        timeout_s: float = 5.0,
        options: dict[str, str] | None = None,
    ) -> None:
        """`is_live`: an address is decoded with the least delay, and damaged packets are passed
        over; a file's frames come when their time stamps say. `options` are FFmpeg's own, such as
        ``{"rtsp_transport": "udp"}``.

        Raises:
            ImportError: PyAV is missing, with the remedy.
        """
        self._av = import_av()
        self.reopens = is_address(name)
        # Of a file 12:30.mp4 FFmpeg would take what stands before the colon for a protocol.
        self._address = name if self.reopens else os.path.abspath(name)
        self._has_least_delay = is_live and self.reopens
        self._name = without_passwords(name)  # what errors and logs tell
        self._color, self._is_paced = color, is_live and not self.reopens
        self._timeout_s = timeout_s
        self._options = dict(options or {})
        if name.lower().startswith("rtsp"):
            self._options.setdefault("rtsp_transport", "tcp")
        if self._has_least_delay:
            self._options.setdefault("fflags", "nobuffer")
            self._options.setdefault("flags", "low_delay")
        self._container: Any = None
        self._packets: Iterator[Any] = iter(())
        self._pending: deque[Any] = deque()
        self._reformatter: Any = None  # keeps its conversion, with threads of its own, while open
        self._halt = threading.Event()
        self._began: tuple[float, float] | None = None
        self.damaged = 0
        """Packets that could not be decoded."""

    def open(self) -> None:
        """Connect and find the video stream."""
        try:
            self._container = self._av.open(
                self._address, options=self._options, timeout=(self._timeout_s, self._timeout_s)
            )
        except (self._av.FFmpegError, OSError) as error:
            is_file = Path(self._address).is_file()
            question = "is it a video" if is_file else "is it running"
            raise SourceError(
                f"{self._name} cannot be opened ({self._reason(error)}); {question}, and does "
                "ffprobe open it?"
            ) from error
        if not self._container.streams.video:
            raise SourceError(f"{self._name} has no video stream")
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        stream = self._container.streams.video[0]
        # Each frame thread adds a frame of delay.
        stream.thread_type = "SLICE" if self._has_least_delay else "AUTO"
        self._packets = self._container.demux(stream)
        self._began = None

    def read(self, clock: Clock) -> Captured | None:
        """Wait for the next packet that completes a frame, and decode it."""
        decode_s, damaged, time_in = 0.0, 0, clock()
        while not self._pending:
            try:
                packet = next(self._packets, None)
            except (self._av.FFmpegError, OSError) as error:
                raise SourceError(f"{self._name} broke off ({self._reason(error)})") from error
            if packet is None or self._halt.is_set():
                return None
            time_in = clock()
            try:
                self._pending.extend(packet.decode())
            except self._av.InvalidDataError as error:
                damaged += 1
                self.damaged += 1
                if not self._has_least_delay or damaged >= MOST_DAMAGED:
                    raise SourceError(f"{self._name} is damaged ({error.strerror})") from error
            except self._av.EOFError:  # the decoder's own, after the last frame
                return None
            decode_s += clock() - time_in
        decoded = self._pending.popleft()
        if self._is_paced:
            time_in = self._wait_for(decoded, clock)
        return Captured(time_in, decode_s, lambda: self._convert(decoded))

    def interrupt(self) -> None:
        """Ends a wait for a file's next time stamp; the network's ends after `timeout_s`."""
        self._halt.set()

    def close(self) -> None:
        """Hang up."""
        self._pending.clear()
        self._packets = iter(())
        self._reformatter = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _wait_for(self, decoded: Any, clock: Clock) -> float:
        """Wait until the frame's time stamp says that it is due; returns the clock then."""
        if decoded.time is not None:
            if self._began is None:
                self._began = (clock(), decoded.time)
            due = self._began[0] + decoded.time - self._began[1]
            while (left := due - clock()) > 0 and not self._halt.wait(left):
                pass
        return clock()

    def _convert(self, decoded: Any) -> Frame:
        reformatter = self._reformatter or self._av.video.reformatter.VideoReformatter()
        frame: Frame = reformatter.reformat(decoded, format=f"{self._color}24").to_ndarray()
        turns = round(decoded.rotation / 90) % 4
        return frame if turns == 0 else np.ascontiguousarray(np.rot90(frame, turns))

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._av.FFmpegError):  # which a traceback shows as the cause
            error.args = (*error.args[:2], self._name)
        if isinstance(error, self._av.ExitError):
            return f"nothing came for {self._timeout_s:g} s"
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_address(name: str) -> bool:
    """Whether `name` begins with a scheme, as rtsp://."""
    return re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE) is not None


def without_passwords(address: str) -> str:
    """An address whose user, password and secrets behind a ``?`` are asterisks."""
    address = re.sub(r"(?<=//)[^/]+(?=@)", "***", address, count=1)
    return SECRET.sub(r"\1***", address)


def import_av() -> Any:
    """PyAV, which only video files and streams from the network need.

    Raises:
        ImportError: it is missing or does not start here, with the remedy.
    """
    return optional.load("av", "video files and network streams need PyAV", REMEDY)
