"""Enlarge every new picture of a folder, as soon as it is completely written.

    python examples/folder_watch.py incoming enlarged

Looks into the folder once a second, which works on network drives, too. A picture counts as
completely written when its size and time have not changed for a while (--settle); one that changes
later is done again. Pictures keep their format: photo.jpg becomes photo_x4.jpg. What the second
folder has already, and newer, is left alone. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gidrn_runtime import Upscaler, image_files
from gidrn_runtime.frames import upscale_image


def settled_files(folder: Path, settle_s: float, poll_s: float) -> Iterator[Path]:
    """Picture files of `folder`, each once it has not changed for `settle_s`; never ends.

    A file that changes afterwards comes again.
    """
    seen: dict[Path, tuple[tuple[int, int], float]] = {}  # file -> (size and time, since when)
    given: dict[Path, tuple[int, int]] = {}
    while True:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in image_files.FORMATS or path.name.startswith("."):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # removed a moment ago
            state = (status.st_size, status.st_mtime_ns)
            if path not in seen or seen[path][0] != state:
                seen[path] = (state, time.monotonic())
            elif given.get(path) != state and time.monotonic() - seen[path][1] >= settle_s:
                given[path] = state
                yield path
        time.sleep(poll_s)


def enlarge_file(upscale: Upscaler, path: Path, target: Path) -> None:
    """Gray, alpha and 16 bits stay what they are; `target` appears complete or not at all."""
    image, profile = image_files.read_with_profile(path)
    high = upscale_image(upscale, image)
    with image_files.replacing(target) as file:
        file.write(image_files.encode_image(target, high, profile))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="gidrn_x4")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds without a change")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between two looks")
    options = parser.parse_args(argv)
    if options.out.resolve() == options.folder.resolve():
        parser.error("enlarged pictures would count as new ones: name another folder for them")
    options.out.mkdir(parents=True, exist_ok=True)

    with Upscaler(options.model) as upscale:
        try:
            for path in settled_files(options.folder, options.settle, options.poll):
                target = options.out / f"{path.stem}_x{upscale.scale}{path.suffix}"
                if target.exists() and target.stat().st_mtime >= path.stat().st_mtime:
                    continue
                try:
                    enlarge_file(upscale, path, target)
                    print(f"{path} -> {target}", flush=True)
                except (ValueError, OSError, MemoryError) as error:
                    # A picture that cannot be enlarged does not stop the others.
                    print(f"{path}: {error}", flush=True)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
