"""Where frames come from: cameras, streams from the network, video files, folders, iterables.

A source of your own is any iterable of frames, or a class with the methods of `Source`.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gidrn_runtime import image_files
from gidrn_runtime.errors import SourceError
from gidrn_runtime.upscaler import Frame

Clock = Callable[[], float]
"""Seconds from any beginning, never running backwards, as `time.monotonic`."""


@dataclass(frozen=True)
class Captured:
    """One frame as a source gives it."""

    time_in: float
    """The clock when it was there."""
    decode_s: float
    """Seconds of decoding, without the wait for it."""
    frame: Callable[[], Frame]
    """Converts it to uint8 (H, W, 3); called once, in another thread, and only where the frame is
    really used."""
    name: str | None = None
    """What it is called, such as an image file's name; without extension where that is enough."""


@runtime_checkable
class Source(Protocol):
    """What a stream asks of a source. One thread calls `open`, `read` and `close`."""

    reopens: bool
    """Whether it may end or fail only for now, and `open` after `close` is worth trying."""

    def open(self) -> None:
        """Begin. Raises SourceError with the reason where that cannot be done."""

    def read(self, clock: Clock) -> Captured | None:
        """Wait for the next frame; None at the end. Raises SourceError where it breaks off."""

    def interrupt(self) -> None:
        """Another thread asks `read` and `open` to return soon, because the stream stops."""

    def close(self) -> None:
        """Release everything; also after an `open` that failed."""


class Frames:
    """Any iterable of uint8 (H, W, 3) frames, such as a list, an array (N, H, W, 3) or a generator.

    A generator's errors reach whoever runs the stream.
    """

    reopens = False

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames
        self._iterator: Iterator[Frame] | None = None

    def open(self) -> None:
        """Begin to iterate."""
        self._iterator = iter(self._frames)

    def read(self, clock: Clock) -> Captured | None:
        """The next frame; making it counts as waiting for it."""
        assert self._iterator is not None
        try:
            frame = next(self._iterator)
        except StopIteration:
            return None
        return Captured(clock(), 0.0, lambda: frame)

    def interrupt(self) -> None:
        """Ends a `FrameFeed`; any other iterable is not disturbed."""
        if isinstance(self._frames, FrameFeed):
            self._frames.close()

    def close(self) -> None:
        """Let a generator run its `finally`."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._iterator = None


class FrameFeed:
    """A source for frames that a callback brings, as picamera2's and most camera SDKs' do.

        feed = FrameFeed()
        camera.post_callback = lambda request: feed.push(request.make_array("main"))
        with Stream(feed, upscale) as stream: ...

    `push` returns at once with the policy ``live`` and waits with ``file``. The array must not be
    written to afterwards: push a copy of memory that the camera uses again.
    """

    def __init__(self) -> None:
        self._frames: queue.Queue[Frame] = queue.Queue(maxsize=1)
        self._closed = threading.Event()

    def push(self, frame: Frame) -> bool:
        """Hand over one frame; False once the feed is closed, when nobody takes it any more."""
        while not self._closed.is_set():
            try:
                self._frames.put(frame, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def close(self) -> None:
        """No more frames come; the stream ends when it has used those pushed."""
        self._closed.set()

    def __iter__(self) -> Iterator[Frame]:
        is_over = False
        while True:
            try:
                yield self._frames.get(timeout=0.05)
            except queue.Empty:
                if is_over:
                    return
                is_over = self._closed.is_set()  # one more look for what was pushed before


class Folder:
    """The image files of a folder in natural order (2.png before 10.png), 8-bit gray or colour.

    Names that begin with a dot are left out, as those that macOS writes beside its files.
    """

    reopens = False

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where `folder` holds no image."""
        self._paths = sorted(
            (
                path
                for path in folder.iterdir()
                if path.suffix.lower() in image_files.FORMATS and not path.name.startswith(".")
            ),
            key=lambda path: natural_key(path.name),
        )
        if not self._paths:
            kinds = ", ".join(image_files.FORMATS)
            raise ValueError(f"{folder} holds no image file ({kinds})")
        self._stems = Counter(path.stem for path in self._paths)
        self._left: Iterator[Path] = iter(())

    def open(self) -> None:
        """Begin with the first file."""
        self._left = iter(self._paths)

    def read(self, clock: Clock) -> Captured | None:
        """Decode the next file."""
        path = next(self._left, None)
        if path is None:
            return None
        began = clock()
        image = image_files.read_image(path)
        if image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(
                f"{path} is {image.dtype} {image.shape}; a stream takes 8-bit gray or colour: "
                "enlarge images with alpha or 16 bits by the command upscale"
            )
        frame = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        is_alone = self._stems[path.stem] == 1  # else a.png and a.jpg would have one name
        name = path.stem if is_alone else path.name
        return Captured(began, clock() - began, lambda: frame, name)

    def interrupt(self) -> None:
        """Files do not keep anyone waiting."""

    def close(self) -> None:
        """Nothing is held open."""


class Camera:
    """A camera, or anything else that OpenCV's VideoCapture opens: an index or a device's path."""

    reopens = True

    def __init__(self, device: int | str) -> None:
        self._cv2 = image_files.import_cv2()
        self._device = device
        self._capture: Any = None

    def open(self) -> None:
        """Open the device, with as short a queue in its driver as it allows."""
        self._capture = self._cv2.VideoCapture(self._device)
        if not self._capture.isOpened():
            raise SourceError(
                f"OpenCV cannot open the camera {self._device!r}: is it there, does another "
                "program use it, and may this user read it?"
            )
        self._capture.set(self._cv2.CAP_PROP_BUFFERSIZE, 1)  # False where a driver has no such knob

    def read(self, clock: Clock) -> Captured | None:
        """Wait for the next frame and decode it."""
        if not self._capture.grab():
            return None
        time_in = clock()
        done, frame = self._capture.retrieve()
        if not done:
            raise SourceError(f"the camera {self._device!r} gave a frame that cannot be decoded")
        if frame.ndim == 2:
            frame = self._cv2.cvtColor(frame, self._cv2.COLOR_GRAY2BGR)
        return Captured(time_in, clock() - time_in, lambda: frame)

    def interrupt(self) -> None:
        """OpenCV waits for a camera 10 seconds at most, and cannot be interrupted."""

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts digits by their value: frame2.png before frame10.png."""
    parts = re.split(r"(\d+)", name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def find(source: Any, *, is_live: bool, color: str, timeout_s: float) -> Source:
    """The source that `source` names: see `Stream`.

    Raises:
        FileNotFoundError: a path with nothing there.
        ValueError: none of the things that a stream can read.
        ImportError: OpenCV or PyAV is missing.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        return Camera(source) if color == "bgr" else Turned(Camera(source))
    if isinstance(source, (str, os.PathLike)):
        found = _named(os.fspath(source), is_live, color, timeout_s)
        is_bgr = isinstance(found, (Camera, Folder))
        return Turned(found) if is_bgr and color == "rgb" else found
    if isinstance(source, Iterable):
        return Frames(source)
    raise ValueError(
        "a source is a camera's index, a path, an address with ://, or an iterable of frames, "
        f"not {type(source).__name__}"
    )


def _named(name: str, is_live: bool, color: str, timeout_s: float) -> Source:
    from gidrn_runtime.streams.decoded import Decoded, is_address

    if is_address(name):
        return Decoded(name, color=color, is_live=is_live, timeout_s=timeout_s)
    if name.startswith("/dev/"):
        return Camera(name)
    path = Path(name)
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file, folder or device {name}")
    return Decoded(name, color=color, is_live=is_live, timeout_s=timeout_s)


class Turned:
    """Another source's frames with the order of their channels turned around."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.reopens = source.reopens
        self.open, self.close = source.open, source.close
        self.interrupt = source.interrupt

    def read(self, clock: Clock) -> Captured | None:
        """The next frame."""
        captured = self._source.read(clock)
        if captured is None:
            return None
        return Captured(
            captured.time_in,
            captured.decode_s,
            lambda: np.ascontiguousarray(captured.frame()[..., ::-1]),
            captured.name,
        )
