"""Photos as their owners keep them: found, paired, decoded once, held out by their pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn import photos as photos_module
from gidrn.images import read_rgb
from gidrn.photos import Photo, PhotoFile, find_pairs, find_photos, hold_out, load_photos
from gidrn.resize import downscale


def _write(path: Path, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_bad_and_small_files_are_named_or_refused(tmp_path: Path) -> None:
    _write(tmp_path / "good.png", 40, 50, 0)
    _write(tmp_path / "small.png", 8, 50, 1)
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("not looked at")
    files = find_pairs([tmp_path], 4)
    assert [file.high.name for file in files] == ["empty.png", "good.png", "small.png"]
    photos, faults = load_photos(files, 4, least_side=16)
    assert [photo.name for photo in photos] == ["good.png"]
    assert photos[0].high.shape == (40, 48, 3)
    assert photos[0].low.shape == (10, 12, 3)
    assert ["empty.png" in fault or "small.png" in fault for fault in faults] == [True, True]
    with pytest.raises(ValueError, match="2 of 3 files"):
        load_photos(files, 4, least_side=16, strict=True)


@pytest.mark.parametrize(("make", "message"), [(False, "no data folder"), (True, "no images")])
def test_folders_without_photos_are_refused(tmp_path: Path, make: bool, message: str) -> None:
    folder = tmp_path / "photos"
    if make:
        folder.mkdir()
    with pytest.raises((ValueError, OSError), match=message):
        find_photos([folder])


def test_the_same_photos_are_held_out_whatever_their_order_and_names() -> None:
    rng = np.random.default_rng(0)
    photos = [
        Photo(
            f"{n}",
            rng.integers(0, 256, (256, 260, 3), dtype=np.uint8),
            np.zeros((1, 1, 3), np.uint8),
        )
        for n in range(6)
    ]
    training, apart = hold_out(photos, 2)
    again = hold_out([Photo("other", p.high, p.low) for p in reversed(photos)], 2)[1]
    assert len(training) == 4
    assert not {id(photo) for photo in training} & {id(photo) for photo in apart}
    assert [p.high.tobytes() for p in apart] == [p.high.tobytes() for p in again]
    copies = [Photo(f"copy of {p.name}", p.high.copy(), p.low.copy()) for p in photos]
    twice = hold_out([*photos, *copies], 2)
    assert [len(part) for part in twice] == [4, 2]
    with pytest.raises(ValueError, match="least one left"):
        hold_out(photos, 6)


def test_photos_held_out_are_the_same_for_every_factor(tmp_path: Path) -> None:
    for seed in range(5):
        _write(tmp_path / f"{seed}.png", 259 + seed, 263, seed)  # 259 = 2*129+1 = 3*86+1 = 4*64+3
    apart = []
    for scale in (2, 3, 4):
        photos, _ = load_photos(find_pairs([tmp_path], scale), scale, least_side=16)
        apart.append([photo.name for photo in hold_out(photos, 2)[1]])
        assert all(photo.digest for photo in photos)
    assert apart[0] == apart[1] == apart[2]


def div2k(root: Path, *, scales: tuple[int, ...], kind: str = "bicubic") -> None:
    """Photos and partners as DIV2K's archives unpack; partners darker than our own would be."""
    (root / "DIV2K_train_HR").mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        _write(root / "DIV2K_train_HR" / f"{number:04}.png", 25, 38, number)
        high = read_rgb(root / "DIV2K_train_HR" / f"{number:04}.png")
        for scale in scales:
            folder = root / f"DIV2K_train_LR_{kind}" / f"X{scale}"
            folder.mkdir(parents=True, exist_ok=True)
            height, width = high.shape[0] // scale, high.shape[1] // scale
            low = downscale(high[: height * scale, : width * scale], scale) // 2
            cv2.imwrite(str(folder / f"{number:04}x{scale}.png"), low[:, :, ::-1])


@pytest.mark.parametrize("split", [False, True])
def test_partners_are_taken_as_div2k_names_them(tmp_path: Path, split: bool) -> None:
    div2k(tmp_path, scales=(2, 4))
    folders = sorted(tmp_path.iterdir()) if split else [tmp_path]
    files = find_pairs(folders, 4)
    assert [(f.high.name, f.low.name if f.low else "") for f in files] == [
        ("0001.png", "0001x4.png"),
        ("0002.png", "0002x4.png"),
    ]
    photos, faults = load_photos(files, 4, least_side=16)
    assert not faults
    for photo in photos:
        np.testing.assert_array_equal(photo.low, downscale(photo.high, 4) // 2)
    # No partner of this factor: those of others are not taken for photos.
    unpaired = find_pairs([tmp_path], 3)
    assert [(file.high.name, file.low) for file in unpaired] == [
        ("0001.png", None),
        ("0002.png", None),
    ]


def test_a_name_that_ends_in_a_factor_is_a_photo_where_no_photo_is_its_partner(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "matrix4.png", 20, 20, 0)
    assert find_pairs([tmp_path], 4) == [PhotoFile(tmp_path / "matrix4.png")]


def test_two_partners_or_two_photos_are_refused(tmp_path: Path) -> None:
    div2k(tmp_path / "a", scales=(4,))
    div2k(tmp_path / "a", scales=(4,), kind="unknown")
    with pytest.raises(ValueError, match="has two x4 partners"):
        find_pairs([tmp_path], 4)
    div2k(tmp_path / "b", scales=(4,))
    div2k(tmp_path / "c", scales=(4,))
    assert len(find_pairs([tmp_path / "b", tmp_path / "c"], 4)) == 4
    for folder in (tmp_path / "flat" / "b", tmp_path / "flat" / "c"):
        folder.mkdir(parents=True)
        _write(folder / "1.png", 20, 20, 0)
    _write(tmp_path / "flat" / "1x4.png", 5, 5, 0)
    with pytest.raises(ValueError, match="could be the partner of"):
        find_pairs([tmp_path / "flat"], 4)


def test_a_partner_of_another_size_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "1.png", 25, 38, 0)
    _write(tmp_path / "1x4.png", 6, 8, 0)
    photos, faults = load_photos(find_pairs([tmp_path], 4), 4, least_side=4)
    assert not photos
    assert "1x4.png is 8x6" in faults[0]
    assert "must be 9x6" in faults[0]


def test_a_cache_spares_decoding_and_notices_changes_and_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    _write(photos / "1.png", 25, 38, 0)
    files = find_pairs([photos], 3)
    first, _ = load_photos(files, 3, least_side=4, cache=cache)
    decoded = []

    def watch(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        decoded.append(path)
        return read_rgb(path)

    monkeypatch.setattr(photos_module, "read_rgb", watch)
    (photos / "1.png").rename(photos / "renamed.png")
    again, _ = load_photos(find_pairs([photos], 3), 3, least_side=4, cache=cache)
    assert not decoded
    assert again[0].name == "renamed.png"
    np.testing.assert_array_equal(again[0].high, first[0].high)
    np.testing.assert_array_equal(again[0].low, first[0].low)
    assert again[0].digest == first[0].digest

    [entry] = cache.iterdir()
    whole = entry.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"no archive"):
        entry.write_bytes(damage)
        mended, _ = load_photos(find_pairs([photos], 3), 3, least_side=4, cache=cache)
        np.testing.assert_array_equal(mended[0].high, first[0].high)
        assert len(entry.read_bytes()) == len(whole)
    assert len(decoded) == 3

    _write(photos / "renamed.png", 25, 38, 1)
    changed, _ = load_photos(find_pairs([photos], 3), 3, least_side=4, cache=cache)
    assert changed[0].digest != first[0].digest
    load_photos(find_pairs([photos], 2), 2, least_side=4, cache=cache)
    assert len(list(cache.iterdir())) == 3


def test_a_photo_that_vanishes_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "1.png", 25, 38, 0)
    _write(tmp_path / "2.png", 25, 38, 1)
    files = find_pairs([tmp_path], 2)
    (tmp_path / "2.png").unlink()
    for cache in (None, tmp_path / "cache"):
        photos, faults = load_photos(files, 2, least_side=4, cache=cache)
        assert [photo.name for photo in photos] == ["1.png"]
        assert faults == [f"{tmp_path / '2.png'} is no longer there"]


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "1.png", 25, 38, 0)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        load_photos(find_pairs([tmp_path], 2), 2, least_side=4, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
