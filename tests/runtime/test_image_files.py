"""Reading: orientation, depth, damage. Writing: whole or not at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn_runtime import image_files
from tests.runtime.icc_profiles import icc_profile, reads_profiles


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF block with nothing but the orientation (tag 0x0112, 1 to 8) into a JPEG."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (6, lambda stored: np.rot90(stored, -1)),
        (8, np.rot90),
    ],
)
def test_a_phone_photo_is_upright(
    tmp_path: Path, orientation: int, turn: object, gray: bool
) -> None:
    stored = np.zeros((16, 32) if gray else (16, 32, 3), np.uint8)
    stored[:8, :16] = 255  # one bright corner
    jpeg = cv2.imencode(".jpg", stored)[1].tobytes()
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_exif_orientation(jpeg, orientation))
    image = image_files.read_image(path)
    assert callable(turn)
    upright = turn(stored)
    assert image.shape == upright.shape
    # JPEG rings a little at the corner's edges.
    assert np.abs(image.astype(int) - upright).max() < 64


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("extension", list(image_files.FORMATS))
def test_formats_hold_what_the_table_says(
    tmp_path: Path, extension: str, shape: tuple[int, ...], dtype: type
) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    if shape[2:] == (4,):
        image[..., 3] |= 1  # WebP drops the colour of what is fully transparent
    path = tmp_path / f"image{extension.upper()}"
    holds = image_files.FORMATS[extension]
    if (dtype is np.uint16 and not holds.sixteen_bit) or (shape[2:] == (4,) and not holds.alpha):
        with pytest.raises(ValueError, match=r"cannot hold .*; use \.png"):
            image_files.check_holds(path, image)
        return
    image_files.check_holds(path, image)
    path.write_bytes(image_files.encode_image(path, image))
    back = image_files.read_image(path)
    assert back.dtype == dtype
    if extension in (".jpg", ".jpeg"):
        assert back.shape == shape
    elif extension == ".webp" and len(shape) == 2:  # WebP knows no gray
        np.testing.assert_array_equal(back, np.dstack([image] * 3))
    else:
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    ("name", "side", "scale", "fits"),
    [
        ("a.jpg", 16375, 4, True),
        ("a.jpg", 16376, 4, False),
        ("a.webp", 4095, 4, True),
        ("a.webp", 4096, 4, False),
        ("a.png", 20000, 4, True),
    ],
)
def test_the_largest_side_is_known_before_the_work(
    name: str, side: int, scale: int, fits: bool
) -> None:
    image = np.zeros((1, side), np.uint8)
    if fits:
        image_files.check_holds(Path(name), image, scale)
    else:
        with pytest.raises(ValueError, match=f"a side of {side * scale} pixels"):
            image_files.check_holds(Path(name), image, scale)


@pytest.mark.parametrize("name", ["picture", "picture.", "picture.gif", "picture.txt", ".png"])
def test_unknown_extensions_are_answered_with_the_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"written as \.png, \.tif"):
        image_files.check_extension(Path(name))


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated_images_are_refused_in_silence(
    tmp_path: Path, extension: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(extension, image)[1].tobytes()
    path = tmp_path / f"cut{extension}"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=r"cut\..* is damaged, cut short or no image"):
        image_files.read_image(path)
    assert capfd.readouterr().err == ""


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image[::8, ::8])[1].tobytes()
    block = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path = tmp_path / "camera.jpg"
    path.write_bytes(jpeg[:2] + block + jpeg[2:] + b"trailing bytes")
    assert image_files.read_image(path).shape == (64, 64, 3)
    path.write_bytes(jpeg[:2] + block + jpeg[2:-100])
    with pytest.raises(ValueError, match="cut short"):
        image_files.read_image(path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello " * 100)
    for name, error, words in (
        ("none.png", FileNotFoundError, "there is no file"),
        ("empty.png", ValueError, r"is empty \(0 bytes\)"),
        ("text.png", ValueError, "no image that OpenCV can decode"),
        (".", ValueError, "is a folder"),
    ):
        with pytest.raises(error, match=words):
            image_files.read_image(tmp_path / name)


def test_what_others_write_to_stderr_meanwhile_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with image_files._codec_messages_dropped():
        os.write(2, b"libpng warning: iCCP: known incorrect sRGB profile\n")
        os.write(2, b"camera: the lens is dirty\n")
        os.write(2, b"[ WARN:0@0.04] global loadsave.cpp:268 findDecoder\n")
    assert capfd.readouterr().err == "camera: the lens is dirty\n"


def test_encoding_leaves_stderr_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the whole process's, and a stream encodes most of the time."""

    def refuse(*_: int) -> None:
        raise AssertionError("stderr is led elsewhere")

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup2", refuse)
        assert image_files.encode_image(Path("a.png"), np.zeros((3, 4, 3), np.uint8))


@pytest.mark.parametrize("name", ["写真" * 40 + ".png", "a" * 251 + ".png"])
def test_a_name_as_long_as_names_may_be(tmp_path: Path, name: str) -> None:
    with image_files.replacing(tmp_path / name) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == [name]


def test_the_umask_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the whole process's: what other threads write meanwhile would be open to everybody."""

    def refuse(_: int) -> int:
        raise AssertionError("the umask was set")

    monkeypatch.setattr(os, "umask", refuse)
    with image_files.replacing(tmp_path / "out.png") as file:
        file.write(b"new")
    assert (tmp_path / "out.png").read_bytes() == b"new"


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    with image_files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # not the 0600 of a temporary file


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_file_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")

    def write() -> None:
        with image_files.replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == ["out.png"]
    assert path.read_bytes() == b"old"


@reads_profiles
@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize(
    ("channels", "shape"), [(b"RGB ", (5, 7, 3)), (b"GRAY", (5, 7)), (b"RGB ", (5, 7, 4))]
)
def test_a_colour_profile_is_kept(ending: str, channels: bytes, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 90, np.uint8)
    path = Path("photo").with_suffix(ending)
    given = icc_profile(channels)
    assert image_files.keeps_profile(path, image, given)
    assert image_files.colour_profile(image_files.encode_image(path, image)) is None
    found = image_files.colour_profile(image_files.encode_image(path, image, given))
    assert found == given


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a.tif", icc_profile(b"RGB ")),
        ("a.bmp", icc_profile(b"RGB ")),
        ("a.png", icc_profile(b"CMYK")),
        ("a.png", icc_profile(b"RGB ")[:-1]),  # with which OpenCV writes half a PNG
    ],
    ids=["TIFF", "BMP", "CMYK", "damaged"],
)
def test_a_profile_that_does_not_fit_is_left_out(name: str, given: bytes) -> None:
    image = np.full((5, 7, 3), 90, np.uint8)
    path = Path(name)
    assert not image_files.keeps_profile(path, image, given)
    assert image_files.encode_image(path, image, given) == image_files.encode_image(path, image)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_has_no_profile(content: bytes) -> None:
    assert image_files.colour_profile(content) is None
