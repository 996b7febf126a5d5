"""Photographs to train on: finding them, their low-resolution partners, decoding, caching.

A folder holds photos as their owners keep them. Where it holds low-resolution partners too, named
as DIV2K and Flickr2K name them (`0001.png` and `X4/0001x4.png`), those of the factor at hand are
used and those of other factors passed over; a photo without a partner is shrunk by MATLAB's bicubic
resize.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gidrn.files import replacing
from gidrn.images import read_rgb
from gidrn.resize import crop_to_multiple, downscale

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

HELD_OUT_SIDE = 256
"""A photo held out for validation has sides of at least this many pixels."""

_PARTNER = re.compile(r"(?P<photo>.+)x(?P<scale>[2348])", re.IGNORECASE)
"""The stem of a low-resolution partner: the photo's stem, then its factor."""

_CACHE_FORMAT = b"gidrn-photo/1"
"""Part of each cache entry's name; changes when what an entry holds does."""


@dataclass(frozen=True)
class Photo:
    """A high-resolution photo and its low-resolution partner."""

    name: str
    high: NDArray[np.uint8]
    """(s*H, s*W, 3) RGB."""
    low: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    digest: str = ""
    """What a photo is known by, whatever its name and folder: `pixel_digest` of it before it was
    cropped for a factor. Made of `high` where it is not given."""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", pixel_digest(self.high))


def pixel_digest(high: NDArray[np.uint8]) -> str:
    """Hex digest of a photo's pixels, (H, W, 3), cropped to multiples of 4.

    Of 4 for every factor: so runs for x2, x3 and x4 hold the same photos out, and weights may pass
    from one to another.
    """
    return hashlib.sha256(np.ascontiguousarray(crop_to_multiple(high, 4)).tobytes()).hexdigest()


@dataclass(frozen=True)
class PhotoFile:
    """Where a photo lies, and its low-resolution partner where it has one."""

    high: Path
    low: Path | None = None


def find_photos(folders: Sequence[Path]) -> list[Path]:
    """Every image file under `folders`, sorted. Raises for a missing folder or one without any."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no data folder {folder}")
        here = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        if not here:
            raise ValueError(f"no images under {folder}: wanted {', '.join(sorted(SUFFIXES))}")
        found += here
    return sorted(set(found))


def find_pairs(folders: Sequence[Path], scale: int) -> list[PhotoFile]:
    """Every photo under `folders`, sorted, with its partner for `scale` where there is one.

    A partner belongs to the photo of its name that lies nearest in the folders' tree. Raises as
    `find_photos` does, and ValueError where a photo has two partners for `scale` or a partner could
    belong to two photos.
    """
    paths = find_photos(folders)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_stem[path.stem.lower()].append(path)
    partners: dict[Path, Path] = {}
    lows: set[Path] = set()
    for path in paths:
        match = _PARTNER.fullmatch(path.stem)
        photos = by_stem.get(match["photo"].lower(), []) if match else []
        if match is None or not photos:
            continue
        lows.add(path)
        if int(match["scale"]) != scale:
            continue
        high = _nearest(path, photos)
        if high in partners:
            raise ValueError(
                f"{high} has two x{scale} partners, {partners[high]} and {path}: "
                "give the folder of the one that is meant"
            )
        partners[high] = path
    return [PhotoFile(path, partners.get(path)) for path in paths if path not in lows]


def _nearest(low: Path, photos: Sequence[Path]) -> Path:
    """The photo that shares the most folders with its partner."""

    def shared(photo: Path) -> int:
        return len(Path(os.path.commonpath([low.absolute(), photo.absolute()])).parts)

    ranked = sorted(photos, key=shared, reverse=True)
    if len(ranked) > 1 and shared(ranked[0]) == shared(ranked[1]):
        raise ValueError(
            f"{low} could be the partner of {ranked[0]} and of {ranked[1]}: "
            "give data sets that number their photos alike one folder each above both"
        )
    return ranked[0]


def read_photo(file: PhotoFile, scale: int) -> Photo:
    """Decode a photo, cropped to a multiple of `scale`, and its partner or make one.

    Raises as `read_rgb` does, and ValueError for a partner whose size is not the photo's divided by
    `scale` and rounded down.
    """
    whole = read_rgb(file.high)
    high = np.ascontiguousarray(crop_to_multiple(whole, scale))
    if file.low is None:
        return Photo(file.high.name, high, downscale(high, scale), pixel_digest(whole))
    low = read_rgb(file.low)
    wanted = (high.shape[0] // scale, high.shape[1] // scale)
    if low.shape[:2] != wanted:
        raise ValueError(
            f"{file.low} is {low.shape[1]}x{low.shape[0]}; as the x{scale} partner of "
            f"{file.high} it must be {wanted[1]}x{wanted[0]}"
        )
    return Photo(file.high.name, high, low, pixel_digest(whole))


def read_cached(file: PhotoFile, scale: int, cache: Path) -> Photo:
    """As `read_photo`, but from `cache` where the same files were read before.

    An entry is named for the contents of the files, so it cannot be out of date; a damaged entry is
    made again.
    """
    content = hashlib.sha256(_CACHE_FORMAT + bytes([scale]) + file.high.read_bytes())
    content.update(b"matlab" if file.low is None else b"pair" + file.low.read_bytes())
    entry = cache / f"{content.hexdigest()}.npz"
    try:
        with np.load(entry) as kept:
            return Photo(file.high.name, kept["high"], kept["low"], str(kept["digest"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        photo = read_photo(file, scale)
    data = io.BytesIO()
    np.savez(data, high=photo.high, low=photo.low, digest=np.array(photo.digest))
    with replacing(entry) as temporary:
        temporary.write_bytes(data.getbuffer())
    return photo


def load_photos(
    files: Sequence[PhotoFile],
    scale: int,
    *,
    least_side: int,
    strict: bool = False,
    cache: Path | None = None,
) -> tuple[list[Photo], list[str]]:
    """Decode photos and their partners in parallel, with a progress bar.

    A file that is no image, or whose sides are under `least_side` pixels, is left out and named in
    the second result; with `strict` it raises ValueError instead. With `cache`, a folder, decoded
    photos are kept there (uncompressed: 3 bytes a pixel) and taken from there the next time; an
    OSError of writing there, such as a full disk, is raised.
    """
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)

    def one(file: PhotoFile) -> Photo | str:
        try:
            if cache is None:
                photo = read_photo(file, scale)
            else:
                photo = read_cached(file, scale, cache)
        except ValueError as error:
            return str(error)
        except FileNotFoundError:
            return f"{file.high} is no longer there"
        if min(photo.high.shape[:2]) < least_side:
            height, width = photo.high.shape[:2]
            return f"{file.high} is {width}x{height}; a crop needs {least_side} pixels a side"
        return photo

    with ThreadPoolExecutor() as pool:
        results = list(tqdm(pool.map(one, files), total=len(files), desc="photos", unit=""))
    photos = [result for result in results if isinstance(result, Photo)]
    faults = [result for result in results if isinstance(result, str)]
    if faults and strict:
        raise ValueError(f"{len(faults)} of {len(files)} files cannot be used: " + faults[0])
    return photos, faults


def hold_out(photos: Sequence[Photo], count: int) -> tuple[list[Photo], list[Photo]]:
    """Split into photos to train on and `count` to validate on.

    Choice and order depend on the photos' pixels alone, not on names or order, so that runs on the
    same photos keep the same ones apart and draw the same crops; of photos with equal pixels one is
    taken. Raises ValueError where nothing would be left to train on.
    """
    by_digest = {photo.digest: photo for photo in sorted(photos, key=lambda photo: photo.name)}
    photos = [by_digest[digest] for digest in sorted(by_digest)]
    fit = [photo for photo in photos if min(photo.high.shape[:2]) >= HELD_OUT_SIDE]
    apart = fit[:count]
    if len(apart) < count or len(apart) == len(photos):
        raise ValueError(
            f"{count} photos of at least {HELD_OUT_SIDE} pixels a side are to be held out, and at "
            f"least one left to train on; there are {len(fit)} such photos among {len(photos)}"
        )
    chosen = {id(photo) for photo in apart}
    return [photo for photo in photos if id(photo) not in chosen], apart
