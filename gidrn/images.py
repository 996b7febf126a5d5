"""Image files to arrays and back: uint8 RGB (H, W, 3), or gray (H, W).

Decoding is OpenCV's, which turns a photo by its EXIF orientation and uses libjpeg-turbo, whose
pixels the published benchmark figures were made with.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gidrn.files import replacing

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"


def is_cut_short(data: bytes) -> bool:
    """Whether the bytes are a JPEG, PNG, BMP or WebP file whose end is missing.

    Some decoders fill what is missing with gray and say nothing, so the containers are asked.
    """
    if data.startswith(_JPEG_START):
        # Thumbnails have an end marker of their own, but before the last scan of the photo.
        return data.find(_JPEG_END, data.rfind(_JPEG_SCAN)) < 0
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    if data[:2] == b"BM":
        return len(data) < int.from_bytes(data[2:6], "little")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as RGB (H, W, 3), or (H, W) where the file holds one channel.

    Alpha is dropped and 16 bits become 8. Raises FileNotFoundError, and ValueError for a file that
    is empty, cut short, or no image that OpenCV reads.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not an image")
    if not path.is_file():
        raise FileNotFoundError(f"no image {path}")
    data = path.read_bytes()  # cv2.imread cannot open every path on Windows; bytes always decode
    if not data:
        raise ValueError(f"{path} is empty: copy it again")
    if is_cut_short(data):
        raise ValueError(f"{path} is cut short: its end is missing; copy it again")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:  # more pixels than OpenCV takes
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not decoded: {reason}") from error
    if decoded is None:
        raise ValueError(f"{path} is no image that OpenCV reads, or a damaged one")
    image = np.asarray(decoded, dtype=np.uint8)
    if image.ndim == 2:
        return image
    return np.ascontiguousarray(image[:, :, 2::-1])  # OpenCV has blue first


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) gray to (H, W, 3) with three equal channels; (H, W, 3) as it is."""
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as RGB (H, W, 3); gray becomes three equal channels.

    Raises as `read_image` does.
    """
    return as_rgb(read_image(path))


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write RGB (H, W, 3) or gray (H, W) in the format of the path's suffix, whole or not at all.

    Raises ValueError for another kind of array and a suffix that OpenCV does not write, and OSError
    where the file cannot be written.
    """
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not is_image or 0 in image.shape:
        raise ValueError(
            f"an image is uint8 of shape (H, W, 3) or (H, W), not {image.dtype} {image.shape}"
        )
    try:
        done, encoded = cv2.imencode(
            path.suffix, image if image.ndim == 2 else np.ascontiguousarray(image[:, :, ::-1])
        )
    except cv2.error as error:
        raise ValueError(
            f"{path.name} has a suffix that OpenCV does not write: use .png, .jpg or .webp"
        ) from error
    if not done:
        height, width = image.shape[:2]
        raise ValueError(f"{path} cannot hold an image of {width}x{height} pixels")
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
