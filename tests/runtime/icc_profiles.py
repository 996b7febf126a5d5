"""Colour profiles for tests."""

from __future__ import annotations

import struct

import cv2
import pytest

reads_profiles = pytest.mark.skipif(
    not hasattr(cv2, "IMAGE_METADATA_ICCP"), reason="this OpenCV reads no colour profiles"
)


def icc_profile(channels: bytes) -> bytes:
    """An ICC profile with one tag (ICC.1:2022, 7.2 and 7.3).

    Its length is a multiple of four, as libpng wants. `channels`: b"RGB ", b"GRAY" or b"CMYK".
    """
    text = b"text" + bytes(4) + bytes(range(32, 128))
    size = 128 + 16 + len(text)
    return (
        struct.pack(">I4xI4s4s4s", size, 0x04000000, b"mntr", channels, b"XYZ ")
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # D50
        + bytes(48)
        + struct.pack(">I4sII", 1, b"cprt", 144, len(text))
        + text
    )
