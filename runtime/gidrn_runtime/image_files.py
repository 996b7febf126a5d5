"""Reading image files as they are meant to be seen, and writing them whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gidrn_runtime import optional
from gidrn_runtime.frames import Image

REMEDY = 'pip install "gidrn[cpu]"'
MOST_NAME_BYTES = 255
"""Of a file's name, on the file systems that are in use."""


@dataclass(frozen=True)
class ImageFormat:
    """What a file format can hold, as OpenCV writes it."""

    alpha: bool
    sixteen_bit: bool
    max_side: int
    """Pixels; what the format itself allows."""


FORMATS: dict[str, ImageFormat] = {
    ".png": ImageFormat(alpha=True, sixteen_bit=True, max_side=2**31 - 1),
    ".tif": ImageFormat(alpha=True, sixteen_bit=True, max_side=2**31 - 1),
    ".tiff": ImageFormat(alpha=True, sixteen_bit=True, max_side=2**31 - 1),
    ".jpg": ImageFormat(alpha=False, sixteen_bit=False, max_side=65500),
    ".jpeg": ImageFormat(alpha=False, sixteen_bit=False, max_side=65500),
    ".webp": ImageFormat(alpha=True, sixteen_bit=False, max_side=16383),
    ".bmp": ImageFormat(alpha=False, sixteen_bit=False, max_side=2**31 - 1),
    ".pnm": ImageFormat(alpha=False, sixteen_bit=True, max_side=2**31 - 1),
}
"""Extension -> format, for writing; reading takes whatever OpenCV can decode."""


def import_cv2() -> Any:
    """OpenCV, which only the handling of files needs.

    Raises:
        ImportError: it is missing or does not start here, with the remedy.
    """
    return optional.load("cv2", "image files need OpenCV", REMEDY)


def read_image(path: Path) -> Image:
    """Decode an image file: gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4), bit depth as stored.

    The orientation that a camera notes in EXIF is applied, as OpenCV does it, except to images with
    alpha, which come as they are stored. Colour profiles are not applied: `read_with_profile` gives
    them beside the image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, empty, cut short or no image that OpenCV can decode.
        ImportError: OpenCV is missing.
    """
    return read_with_profile(path)[0]


def read_with_profile(path: Path) -> tuple[Image, bytes | None]:
    """`read_image`, and the file's `colour_profile`; raises as `read_image` does."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the images in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return decode_with_profile(path.read_bytes(), path)


def decode_with_profile(content: bytes, path: Path) -> tuple[Image, bytes | None]:
    """`read_with_profile` for a file whose content is at hand; `path` is its name in messages.

    Raises:
        ValueError: it is empty, cut short or no image that OpenCV can decode.
        ImportError: OpenCV is missing.
    """
    data = np.frombuffer(content, np.uint8)
    if data.size == 0:
        raise ValueError(f"{path} is empty (0 bytes); copy or download it again")
    cv2 = import_cv2()
    with _codec_messages_dropped():
        try:
            image = profile = None
            if not _is_cut_jpeg(content):  # which OpenCV 4 completes with gray
                # The only flag that keeps alpha.
                image, profile = _decode(data, cv2.IMREAD_UNCHANGED)
            if image is not None and (image.ndim == 2 or image.shape[2] != 4):
                # Same pixels, but turned the way EXIF says, which UNCHANGED never does.
                image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error as error:
            raise ValueError(f"{path}: OpenCV cannot decode this image: {error.err}") from error
    if image is None:
        raise ValueError(
            f"{path} ({data.size} bytes) is damaged, cut short or no image that OpenCV can decode; "
            "convert it to PNG or JPEG"
        )
    return image, profile


def _decode(data: np.ndarray, flag: int) -> tuple[Any, bytes | None]:
    """An encoded image, and its colour profile; None for what is not there."""
    cv2 = import_cv2()
    if not hasattr(cv2, "IMAGE_METADATA_ICCP"):
        return cv2.imdecode(data, flag), None
    image, kinds, found = cv2.imdecodeWithMetadata(data, flag)
    by_kind = {int(kind): np.asarray(one).tobytes() for kind, one in zip(kinds, found, strict=True)}
    return image, by_kind.get(int(cv2.IMAGE_METADATA_ICCP)) or None


def count_pictures(path: Path) -> int:
    """How many pictures the file holds: frames of an animation, pages of a TIFF. 1 where OpenCV
    cannot tell, as before 4.11 for animations."""
    cv2 = import_cv2()
    with _codec_messages_dropped():
        try:
            return max(1, int(cv2.imcount(str(path))))
        except cv2.error:
            return 1


def colour_profile(content: bytes) -> bytes | None:
    """The ICC profile of an image file with this content: what its numbers mean as colours.

    None where it has none, which says sRGB, and where OpenCV does not read it: 5.0 does in PNG,
    JPEG and WebP, and not in TIFF.
    """
    cv2 = import_cv2()
    with _codec_messages_dropped():
        try:
            return _decode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)[1]
        except cv2.error:
            return None


def keeps_profile(path: Path, image: Image, profile: bytes) -> bool:
    """Whether the file `path` can hold this profile of this image.

    A profile is for one kind of channels (ICC.1:2022, 7.2.8): that of a CMYK photo says nothing of
    the BGR that it is decoded to. OpenCV writes none into TIFF, and half a PNG with one that libpng
    refuses; so a single pixel is tried.
    """
    channels = b"GRAY" if image.ndim == 2 else b"RGB "
    if profile[16:20] != channels or not hasattr(import_cv2(), "IMAGE_METADATA_ICCP"):
        return False
    pixel = np.zeros((1, 1, *image.shape[2:]), image.dtype)
    with _codec_messages_dropped():
        done, data = _encode_with_profile(path, pixel, profile)
    return done and colour_profile(data.tobytes()) == profile


def _encode_with_profile(path: Path, image: Image, profile: bytes) -> tuple[bool, Any]:
    cv2 = import_cv2()
    kinds, chunks = [cv2.IMAGE_METADATA_ICCP], [np.frombuffer(profile, np.uint8)]
    done, data = cv2.imencodeWithMetadata(path.suffix.lower(), image, kinds, chunks)
    return bool(done), data


def check_extension(path: Path) -> ImageFormat:
    """The format that `path` names by its extension.

    Raises:
        ValueError: the extension is missing or not one of `FORMATS`.
    """
    extension = path.suffix.lower()
    if extension not in FORMATS:
        came = f"{extension!r}" if extension else "no extension"
        raise ValueError(f"{path} has {came}; images are written as {', '.join(FORMATS)}")
    return FORMATS[extension]


def check_holds(path: Path, image: Image, scale: int = 1) -> None:
    """Check that the format of `path` can hold `image` enlarged by `scale`, before the work.

    Raises:
        ValueError: it cannot hold 16 bits, alpha or so large a side; the message names what can.
    """
    holds = check_extension(path)
    lacking = ""
    if image.dtype != np.uint8 and not holds.sixteen_bit:
        lacking = "16-bit values"
    elif image.ndim == 3 and image.shape[2] == 4 and not holds.alpha:
        lacking = "transparency"
    elif scale * max(image.shape[:2]) > holds.max_side:
        lacking = f"a side of {scale * max(image.shape[:2])} pixels"
    if lacking:
        raise ValueError(
            f"{path}: the format {path.suffix.lower()} cannot hold {lacking}; use .png"
        )


def encode_image(path: Path, image: Image, profile: bytes | None = None) -> bytes:
    """`image`, gray, BGR or BGRA, encoded in the format that `path` names.

    JPEG at OpenCV's quality 95; the other formats without loss. `profile` goes in where
    `keeps_profile`.

    Raises:
        ValueError: OpenCV cannot encode it.
        ImportError: OpenCV is missing.
    """
    cv2 = import_cv2()
    try:
        if profile is not None and keeps_profile(path, image, profile):
            done, data = _encode_with_profile(path, image, profile)
        else:
            done, data = cv2.imencode(path.suffix.lower(), image)
    except cv2.error as error:
        raise ValueError(f"{path}: OpenCV cannot encode this image: {error.err}") from error
    if not done:
        raise ValueError(f"{path}: OpenCV cannot encode {image.dtype} {image.shape}")
    encoded: bytes = data.tobytes()
    return encoded


def check_writable(path: Path) -> None:
    """Check before long work that a file `path` can be written, and leave nothing there.

    Raises:
        OSError: the folder does not take it; the message begins with `path`.
    """
    try:
        _check_regular(path)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _not_written(path, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` when the block ends well and vanishes when it does not.

    It is written under a temporary name in the same folder, so that `path` is at every moment
    either what it was or complete.

    Raises:
        OSError: the folder or the disk does not take it; the message begins with `path`.
    """
    try:
        _check_regular(path)
        temporary = path.with_name(f"{temporary_start(path)}{secrets.token_hex(4)}.part")
        file = open(temporary, "xb")  # with the permissions that the system gives any new file
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a full disk may speak up only here
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(path, error) from error


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")


def _not_written(path: Path, error: OSError) -> OSError:
    return OSError(f"cannot write {path}: {error.strerror or error}")


def temporary_start(path: Path) -> str:
    """How the names of `replacing`'s temporary files for `path` begin; they end in ``.part``."""
    name = path.name
    while len(os.fsencode(name)) > MOST_NAME_BYTES - len("..01234567.part"):
        name = name[:-1]
    return f".{name}."


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether `data` is a JPEG without its end-of-image marker.

    Segments before the pixels are stepped over, since a thumbnail in EXIF has such a marker too
    (ITU-T T.81, annex B).
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    position = 2
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1 : position + 2]
        if marker == b"\xda":  # start of scan: the pixels follow
            return b"\xff\xd9" not in data[position:]
        if marker == b"\xff":  # a fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


_STDERR = threading.Lock()
"""Held while the process's stderr points elsewhere: two at once would restore it wrongly."""


_CODEC_MESSAGE = re.compile(
    rb"\s*$|libpng |OpenCV TIFF|TIFF|\[ *(WARN|ERROR|INFO|DEBUG|FATAL)[:@]|Corrupt JPEG|"
    rb"Premature end of JPEG|Invalid SOS|Inconsistent progression|Warning: unknown JFIF|"
    rb"Unsupported marker|Unknown Adobe"
)
"""How the lines begin that OpenCV, libpng, libjpeg and libtiff print."""


@contextmanager
def _codec_messages_dropped() -> Iterator[None]:
    """What OpenCV's codecs print to stderr while the block runs is not seen.

    They print there of their own accord (libpng even with OpenCV's log off), and the caller tells
    the failure anyway. stderr is the whole process's: what other threads write meanwhile, as to a
    program's log, comes there when the block ends.
    """
    with _STDERR, ExitStack() as stack:
        try:
            saved = os.dup(2)
            stack.callback(os.close, saved)
            caught = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        except OSError:  # no stderr at all, e.g. a service; or no place for temporary files
            yield
            return
        try:
            os.dup2(caught.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if not _CODEC_MESSAGE.match(line):
                    with suppress(OSError):  # as for any who writes to a closed terminal
                        os.write(saved, line)
