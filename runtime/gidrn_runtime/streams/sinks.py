"""Where enlarged frames go: a function, a folder, a window, or any object with `write`."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from gidrn_runtime import image_files
from gidrn_runtime.upscaler import Frame


@dataclass(frozen=True, eq=False)
class Shown:
    """An enlarged frame as it leaves the stream. Times are seconds of the stream's clock."""

    frame: Frame
    """uint8 (s*H, s*W, 3) in the upscaler's colour order; the receiver owns it."""
    number: int
    """Its place among the frames that came in, from 0; gaps are frames dropped or failed."""
    time_in: float
    time_out: float
    made_by: str
    """What enlarged it: the model, or the ladder's rung."""
    name: str | None = None
    """The source's name for it, such as an image file's without extension."""

    @property
    def age_ms(self) -> float:
        """From the source's hands into the sink's."""
        return 1000 * (self.time_out - self.time_in)


class Sink(Protocol):
    """What a stream asks of a sink; `Stream.run` calls it in its caller's thread."""

    def put(self, shown: Shown) -> bool | None:
        """Take one frame. False, and nothing else, asks the stream to stop."""

    def close(self) -> None:
        """The stream is over; called once, also after an error."""


class Writer:
    """A sink from a function of the frame, or from an object with `write(frame)` and `close()`."""

    def __init__(self, write: Callable[[Frame], Any], close: Callable[[], None]) -> None:
        self._write = write
        self.close = close

    def put(self, shown: Shown) -> bool | None:
        """Pass the frame on."""
        return False if self._write(shown.frame) is False else None


class FolderSink:
    """Writes each frame as an image file: 000012.png, or photo_x4.png where the source has names.

    A file appears complete or not at all.
    """

    def __init__(
        self, folder: Path, extension: str = ".png", ending: str = "", overwrite: bool = False
    ) -> None:
        """Makes `folder`. `ending` follows a source's name, as in ``_x4``.

        Raises:
            ValueError: images are not written with this extension; or `folder` is a file.
            OSError: the folder cannot be made.
        """
        image_files.import_cv2()
        image_files.check_extension(Path(f"image{extension}"))
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; frames go to a folder, as image files")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._extension = folder, extension
        self._ending, self._overwrite = ending, overwrite

    def put(self, shown: Shown) -> None:
        """Write one file. Raises FileExistsError where it is there and may not be replaced."""
        stem = f"{shown.number:06d}" if shown.name is None else f"{shown.name}{self._ending}"
        path = self._folder / f"{stem}{self._extension}"
        if path.exists() and not self._overwrite:
            raise FileExistsError(
                f"{path} is there already; overwrite=True (--overwrite) replaces files"
            )
        data = image_files.encode_image(path, shown.frame)
        with image_files.replacing(path) as file:
            file.write(data)

    def close(self) -> None:
        """Nothing is held open."""


class RawSink:
    """Writes the bytes of each frame, and nothing between them, to a binary file such as a pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size: tuple[int, ...] | None = None

    def put(self, shown: Shown) -> None:
        """Write one frame. Raises ValueError where it has another size than the first one."""
        size = shown.frame.shape
        self._size = self._size or size
        if size != self._size:
            raise ValueError(
                f"raw frames are of one size, but after {self._size} came {size}; write to a "
                "folder instead"
            )
        write_whole(self._file, shown.frame.tobytes())

    def close(self) -> None:
        """Write what is still held back; whose file it is closes it."""
        self._file.flush()


def write_whole(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`: a file without a buffer, as stdout is under PYTHONUNBUFFERED, takes a
    part of it where a stop or a full disk comes in between.

    Raises OSError: the file takes no more.
    """
    if not isinstance(file, io.RawIOBase):
        file.write(data)
        return
    left = memoryview(data)
    while left:
        taken = file.write(left)
        if taken is None:
            raise BlockingIOError("frames are written to files that wait; this one is non-blocking")
        left = left[taken:]


class WindowSink:
    """Shows frames in a window of OpenCV's; q, Escape or closing the window stops the stream.

    Frames are BGR. Run it in the main thread: macOS opens windows nowhere else.
    """

    def __init__(self, title: str = "G-IDRN") -> None:
        """Raises ImportError where this OpenCV cannot open windows."""
        self._cv2 = image_files.import_cv2()
        self._title = title
        try:
            self._cv2.namedWindow(title, self._cv2.WINDOW_NORMAL)
        except self._cv2.error as error:
            raise ImportError(
                "this OpenCV opens no windows: pip uninstall opencv-python-headless, "
                "pip install opencv-python, and a desktop to show them on"
            ) from error

    def put(self, shown: Shown) -> bool:
        """Draw one frame."""
        self._cv2.imshow(self._title, shown.frame)
        key = self._cv2.waitKey(1) & 0xFF
        seen = self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) >= 1
        return seen and key not in (ord("q"), 27)

    def close(self) -> None:
        """Close the window."""
        self._cv2.destroyWindow(self._title)


def find(sink: Any) -> Sink:
    """The sink that `sink` is or means: see `Stream.run`.

    Raises:
        ValueError: none of the things that a stream can write to.
    """
    if callable(getattr(sink, "put", None)) and callable(getattr(sink, "close", None)):
        found: Sink = sink
        return found
    if callable(getattr(sink, "write", None)):
        return Writer(sink.write, getattr(sink, "close", _nothing))
    if callable(sink):
        return Writer(sink, _nothing)
    raise ValueError(
        "a sink is a function of a frame, an object with write(frame), or one of "
        f"gidrn_runtime.streams.sinks, not {type(sink).__name__}"
    )


def _nothing() -> None:
    pass
