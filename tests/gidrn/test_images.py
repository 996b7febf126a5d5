"""Image files good and bad: what is read, what is refused, what is left behind."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gidrn.images import as_rgb, is_cut_short, read_image, read_rgb, write_image


def photo(height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """A colour picture with some detail, whose channels differ."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height)), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "b.bmp", "c.tiff", "写真 ü.png"])
def test_lossless_files_come_back(tmp_path: Path, name: str) -> None:
    image = photo()
    write_image(tmp_path / name, image)
    assert np.array_equal(read_image(tmp_path / name), image)
    assert np.array_equal(read_rgb(tmp_path / name), image)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jpg", "b.jpeg", "c.webp"])
def test_lossy_files_come_back_nearly(tmp_path: Path, name: str) -> None:
    image = photo()
    write_image(tmp_path / name, image)
    # Swapped channels would be off by tens of levels; compression costs a few.
    assert np.abs(read_rgb(tmp_path / name).astype(int) - image).mean() < 5


def test_red_is_first(tmp_path: Path) -> None:
    """Against OpenCV's own writing, which has blue first."""
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((2, 2, 3), (0, 0, 255), dtype=np.uint8))
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]
    write_image(path, np.full((2, 2, 3), (255, 0, 0), dtype=np.uint8))
    assert cv2.imread(str(path))[0, 0].tolist() == [0, 0, 255]  # type: ignore[index]


def test_gray_stays_one_channel_or_becomes_three(tmp_path: Path) -> None:
    gray = photo()[:, :, 0]
    write_image(tmp_path / "gray.png", gray)
    assert np.array_equal(read_image(tmp_path / "gray.png"), gray)
    rgb = read_rgb(tmp_path / "gray.png")
    assert rgb.shape == (40, 56, 3)
    assert all(np.array_equal(rgb[:, :, channel], gray) for channel in range(3))
    assert as_rgb(rgb) is rgb


def test_alpha_is_dropped_and_16_bits_become_8(tmp_path: Path) -> None:
    image = photo()
    bgra = np.dstack([image[:, :, ::-1], np.full(image.shape[:2], 7, dtype=np.uint8)])
    cv2.imwrite(str(tmp_path / "alpha.png"), bgra)
    cv2.imwrite(str(tmp_path / "deep.png"), image[:, :, ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_image(tmp_path / "alpha.png"), image)
    assert np.array_equal(read_image(tmp_path / "deep.png"), image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.995])
def test_file_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"photo{suffix}"
    write_image(path, photo(200, 300))
    data = path.read_bytes()
    assert not is_cut_short(data)
    assert not is_cut_short(data + b"bytes that a camera puts after the end")
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match="is cut short: its end is missing") as caught:
        read_rgb(path)
    assert str(path) in str(caught.value)


def test_a_jpegs_thumbnail_does_not_pass_for_its_end(tmp_path: Path) -> None:
    """A thumbnail in the header is a whole JPEG, with an end marker of its own."""
    path = tmp_path / "photo.jpg"
    write_image(path, photo(16, 16))
    thumbnail = path.read_bytes()
    write_image(path, photo(200, 300))
    data = path.read_bytes()
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = data[:2] + header + data[2:]
    assert not is_cut_short(with_thumbnail)
    assert is_cut_short(with_thumbnail[:-100])


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    write_image(path, photo(200, 300))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(ValueError, match="no image that OpenCV reads, or a damaged one"):
        read_image(path)


def test_empty_missing_folder_and_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"empty\.png is empty: copy it again"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(FileNotFoundError, match=r"no image .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError, match="is a folder, not an image"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match=r"text\.png is no image that OpenCV reads"):
        read_image(tmp_path / "text.png")


NOT_IMAGES = [
    np.zeros((4, 4, 3)),
    np.zeros((4, 4, 5), dtype=np.uint8),
    np.zeros((4, 4, 3), dtype=np.uint16),
    np.zeros((0, 4, 3), dtype=np.uint8),
    np.zeros(4, dtype=np.uint8),
]


@pytest.mark.parametrize("array", NOT_IMAGES)
def test_other_arrays_are_not_written(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"an image is uint8 of shape \(H, W, 3\) or \(H, W\)"):
        write_image(tmp_path / "x.png", array)
    assert not list(tmp_path.iterdir())


def test_unwritable_targets_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.abc has a suffix that OpenCV does not write"):
        write_image(tmp_path / "x.abc", photo())
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_image(tmp_path / "none" / "x.png", photo())
    assert not list(tmp_path.iterdir())
