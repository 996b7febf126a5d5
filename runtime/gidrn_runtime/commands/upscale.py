"""``upscale``: image files in, larger image files out."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gidrn_runtime import Upscaler, image_files
from gidrn_runtime.console import (
    FAILURES,
    MISTAKES,
    add_model_options,
    complain,
    interruptible,
    open_upscaler,
    say,
    tell,
)
from gidrn_runtime.frames import check_image, upscale_image
from gidrn_runtime.progress import Progress

HELP = "enlarge image files"
DESCRIPTION = (
    "Enlarge image files. Gray stays gray, alpha is enlarged too, 16-bit stays 16-bit. A file "
    "appears complete or not at all."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument(
        "-o",
        "--out",
        type=str,
        required=True,
        help="the file to write; its extension sets the format. Or a folder, as it must be for "
        "several photos: PHOTO.jpg then becomes PHOTO_x4.png in it",
    )
    add_model_options(parser)
    parser.add_argument(
        "--tile",
        type=parse_tile,
        default="auto",
        metavar="TILE",
        help="auto (the default): cut a photo into tiles where it does not fit in memory; never; "
        "HEIGHTxWIDTH of a tile in pixels of the photo; or plain: where the model has no tile "
        "file, take tiles that change the picture",
    )
    parser.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="MiB that enlarging a photo may take; default: most of what is free",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def run(arguments: argparse.Namespace) -> int:
    """Enlarge each photo; one that fails does not stop the others."""
    image_files.import_cv2()
    check_photos(arguments.photos)
    upscaler = open_upscaler(arguments, tiles=arguments.tile, memory_mib=arguments.memory)
    targets = plan_targets(arguments.photos, arguments.out, upscaler.scale, arguments.overwrite)
    worst = 0
    for photo, target in zip(arguments.photos, targets, strict=True):
        try:
            line = upscale_file(upscaler, photo, target)
        except (*MISTAKES, *FAILURES) as error:
            worst = max(worst, tell(error, photo))
        else:
            say(line)
    # No with-block: closing waits for the run in progress, which Ctrl-C must not do.
    upscaler.close()
    return worst


def parse_tile(text: str) -> str | tuple[int, int]:
    """ "256x512" (height x width) as numbers, other words as they are.

    Raises:
        argparse.ArgumentTypeError: it is neither a word known nor a size.
    """
    if text in ("auto", "never", "plain"):
        return text
    sides = text.lower().split("x")
    if len(sides) == 2 and all(side.isascii() and side.isdigit() and int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    raise argparse.ArgumentTypeError(
        f"it is auto, never, plain or HEIGHTxWIDTH in pixels, such as 512x512, not {text!r}"
    )


def check_photos(photos: Sequence[Path]) -> None:
    """Refuse a command line that names a missing file, before any work.

    Raises:
        FileNotFoundError: a photo is not there.
    """
    for photo in photos:
        if not photo.exists():
            raise FileNotFoundError(f"there is no file {photo}")


def plan_targets(photos: Sequence[Path], out: str, scale: int, overwrite: bool) -> list[Path]:
    """Where each photo goes; makes the folder when `out` is to be one and is not there yet.

    `out` is a folder when it is one already, ends in a slash, or several photos are given.

    Raises:
        ValueError: `out` cannot be used; two photos would get one name; a photo would be replaced.
        FileExistsError: a target is there already and `overwrite` is False.
    """
    folder = Path(out)
    if folder.is_dir() or out.endswith(("/", os.sep)) or len(photos) > 1:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{len(photos)} photos need a folder to go to; {out} is a file")
        if not folder.exists() and folder.suffix.lower() in image_files.FORMATS:
            raise ValueError(f"{len(photos)} photos need a folder to go to, not the file {out}")
        targets = [folder / f"{photo.stem}_x{scale}.png" for photo in photos]
    else:
        image_files.check_extension(folder)
        targets = [folder]
        folder = folder.parent
        if not folder.is_dir():
            why = "is not a folder" if folder.exists() else "is not there; make it first"
            raise ValueError(f"cannot write {out}: {folder} {why}")

    sources = {photo.resolve() for photo in photos}
    seen: set[Path] = set()
    for target in targets:
        if target.resolve() in sources:
            raise ValueError(f"{target} is both input and output; choose another name with -o")
        if target in seen:
            raise ValueError(f"two photos would both become {target}; enlarge them one by one")
        if target.exists() and not (overwrite and target.is_file()):
            raise FileExistsError(f"{target} is there already; --overwrite replaces files")
        seen.add(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {folder}: {error.strerror}") from error
    return targets


@contextmanager
def showing_tiles(upscaler: Upscaler) -> Iterator[None]:
    """Tell how far it is while a photo is enlarged in tiles."""
    progress: Progress | None = None

    def watch(done: int, total: int) -> None:
        nonlocal progress
        if progress is None or done == 1:  # colour and alpha are two pictures
            progress = Progress(total, "tiles", done_before=done)
        progress.show(done)

    upscaler.watch_tiles(watch)
    try:
        yield
    finally:
        upscaler.watch_tiles(None)
        if progress is not None:
            progress.clear()


def upscale_file(upscaler: Upscaler, photo: Path, target: Path) -> str:
    """Enlarge one file into another and return a line that tells sizes (height x width) and time.

    The time is that of the enlarging alone, from image in memory to image in memory.
    """
    image, profile = image_files.read_with_profile(photo)
    check_image(image)
    image_files.check_holds(target, image, upscaler.scale)
    image_files.check_writable(target)
    pictures = image_files.count_pictures(photo)
    if pictures > 1:
        complain(f"{photo} holds {pictures} pictures; the first is enlarged, the others are not")
    if profile is not None and not image_files.keeps_profile(target, image, profile):
        complain(
            f"{photo} has a colour profile that {target} does not get, so that its colours may "
            "look otherwise: .png, .jpg and .webp take that of a gray or RGB photo"
        )
    began = time.perf_counter()
    with showing_tiles(upscaler):
        high = interruptible(lambda: upscale_image(upscaler, image))
    elapsed_s = time.perf_counter() - began
    with image_files.replacing(target) as file:
        file.write(image_files.encode_image(target, high, profile))
    engine = upscaler.describe()["engine"]
    way = upscaler.tiling
    if way is not None and way.tiles > 1:
        engine = f"{engine}, in {way.tiles} tiles, {way.form}"
    sizes = [f"{array.shape[0]}x{array.shape[1]}" for array in (image, high)]
    return f"{photo} {sizes[0]} -> {target} {sizes[1]} in {elapsed_s:.2f} s ({engine})"
