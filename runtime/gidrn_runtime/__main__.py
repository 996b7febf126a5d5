"""``python -m gidrn_runtime``: enlarge image files, and see what works here.

Exit code 0: done. 1: the machine failed (disk, memory, engine; or the doctor found nothing that
works). 2: something in the request is wrong. 130: interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import gidrn_runtime
from gidrn_runtime import EngineError, EngineUnavailable, Upscaler, doctor, image_files
from gidrn_runtime.frames import check_image, upscale_image

MISTAKES = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    EngineUnavailable,
    ImportError,
)
"""Errors that the user can mend in his request or his installation: exit code 2."""
FAILURES = (OSError, MemoryError, EngineError)
"""Errors of the machine: exit code 1. Any other exception is a defect and shows its traceback."""
INTERRUPTED = 130

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see python -m gidrn_runtime --help")
        raise SystemExit(2)


def build_parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m gidrn_runtime",
        description="Enlarge images with G-IDRN super-resolution models; no PyTorch needed.",
    )
    parser.add_argument("--version", action="version", version=gidrn_runtime.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    upscale = commands.add_parser(
        "upscale",
        help="enlarge image files",
        description="Enlarge image files. Gray stays gray, alpha is enlarged too, 16-bit stays "
        "16-bit. A file appears complete or not at all.",
    )
    upscale.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    upscale.add_argument(
        "-o",
        "--out",
        type=str,
        required=True,
        help="the file to write; its extension sets the format. Or a folder, as it must be for "
        "several photos: PHOTO.jpg then becomes PHOTO_x4.png in it",
    )
    upscale.add_argument(
        "--model",
        default="gidrn_x4",
        help="a shipped model (see the command models), an .onnx file or a TensorRT .plan; "
        "default: %(default)s",
    )
    upscale.add_argument("--engine", default="auto", help="default: the fastest available")
    upscale.add_argument("--threads", type=int, help="CPU threads; default: the engine's choice")
    upscale.add_argument("--overwrite", action="store_true", help="replace files that are there")
    upscale.set_defaults(run=run_upscale)

    check = commands.add_parser("doctor", help="what works here, what does not, and why")
    check.add_argument("--json", action="store_true", help="the same for programs")
    check.set_defaults(run=run_doctor)

    listing = commands.add_parser("models", help="list the shipped models")
    listing.set_defaults(run=run_models)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name need not be valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except (*MISTAKES, *FAILURES) as error:
        return tell(error)


def run_upscale(arguments: argparse.Namespace) -> int:
    """Enlarge each photo; one that fails does not stop the others."""
    image_files.import_cv2()
    check_photos(arguments.photos)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        upscaler = Upscaler(arguments.model, arguments.engine, threads=arguments.threads)
    for warning in caught:
        complain(f"warning: {warning.message}")

    targets = plan_targets(arguments.photos, arguments.out, upscaler.scale, arguments.overwrite)
    worst = 0
    for photo, target in zip(arguments.photos, targets, strict=True):
        try:
            say(upscale_file(upscaler, photo, target))
        except (*MISTAKES, *FAILURES) as error:
            worst = max(worst, tell(error, photo))
    # No with-block: closing waits for the run in progress, which Ctrl-C must not do.
    upscaler.close()
    return worst


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 when some shipped model runs here."""
    facts = doctor.examine()
    say(json.dumps(facts, indent=2) if arguments.json else doctor.report(facts))
    return 0 if facts["ok"] else 1


def run_models(arguments: argparse.Namespace) -> int:
    """Print one line a model."""
    shipped = doctor.list_models()
    for model in shipped:
        say(doctor.describe_model(model))
    if not shipped:
        complain("no model is shipped with this installation")
    return 0 if shipped else 1


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
            raise ValueError(f"cannot write {out}: {folder} is not a folder")

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


def upscale_file(upscaler: Upscaler, photo: Path, target: Path) -> str:
    """Enlarge one file into another and return a line that tells sizes (height x width) and time.

    The time is that of the enlarging alone, from image in memory to image in memory.
    """
    image = image_files.read_image(photo)
    check_image(image)
    image_files.check_holds(target, image, upscaler.scale)
    with image_files.replacing(target) as file:
        began = time.perf_counter()
        high = interruptible(lambda: upscale_image(upscaler, image))
        elapsed_s = time.perf_counter() - began
        file.write(image_files.encode_image(target, high))
    engine = upscaler.describe()["engine"]
    sizes = [f"{array.shape[0]}x{array.shape[1]}" for array in (image, high)]
    return f"{photo} {sizes[0]} -> {target} {sizes[1]} in {elapsed_s:.2f} s ({engine})"


def interruptible(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, so that Ctrl-C is felt at once.

    A large image keeps an engine in native code for minutes, and Python delivers Ctrl-C to the main
    thread only between its own instructions. The thread dies with the process.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed over to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)  # with a time limit, since Windows does not interrupt an endless wait
    if errors:
        raise errors[0]
    return results[0]


def tell(error: BaseException, photo: Path | None = None) -> int:
    """Print an expected error as one line, with the photo's name in it; return its exit code."""
    message = str(error) or type(error).__name__
    complain(message if photo is None or str(photo) in message else f"{photo}: {message}")
    return 2 if isinstance(error, MISTAKES) else 1


def complain(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"gidrn_runtime: {' '.join(message.split())}\n")


def say(text: str) -> None:
    """Text on stdout, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:
        # An engine may still be at work in its thread; an orderly exit would pull the floor away
        # under it and could end in a crash instead of this code.
        os._exit(code)
    sys.exit(code)
