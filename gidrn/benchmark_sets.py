"""The five benchmark sets of the paper's tables, in the folder shapes that people keep them in.

Each set holds high-resolution images; low-resolution ones are made from them (`gidrn.resize`), so
that every figure has one known origin.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gidrn.zoo import unknown

IMAGE_COUNTS = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "Manga109": 109}
"""The sets, and how many images each has."""

_FOLDER_NAMES = {"B100": ("B100", "BSD100", "BSDS100")}

_LAYOUTS = (  # folder under the data root, pattern of the high-resolution images in it
    ("{name}/HR", "*"),
    ("{name}", "*"),
    ("{name}/image_SRF_{scale}", "*_HR.*"),  # cut to a multiple of the factor: its own alone
    ("benchmark/{name}/HR", "*"),
)

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def data_root(given: Path | None) -> Path:
    """The folder that holds the sets: the one given, else that of the variable GIDRN_DATA.

    Raises ValueError where there is neither, and FileNotFoundError where there is no such folder.
    """
    named = os.environ.get("GIDRN_DATA")
    if given is None and not named:
        raise ValueError("where the images are is not said: give --data-root or set GIDRN_DATA")
    root = Path(named or "") if given is None else given
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder {root}")
    return root


def canonical(name: str) -> str:
    """The set's name as the tables have it, whatever the case. Raises ValueError for others."""
    for known in IMAGE_COUNTS:
        if name.lower() in {known.lower(), *(n.lower() for n in _FOLDER_NAMES.get(known, ()))}:
            return known
    raise unknown("benchmark set", name, IMAGE_COUNTS)


def parse_names(text: str) -> tuple[str, ...]:
    """ "Set5,B100" to the sets' names. Raises ValueError for unknown ones, and for none."""
    names = tuple(canonical(part.strip()) for part in text.split(",") if part.strip())
    if not names:
        raise ValueError(f"no benchmark set is named: there are {', '.join(IMAGE_COUNTS)}")
    return tuple(dict.fromkeys(names))


def find_images(name: str, root: Path, scale: int) -> list[Path]:
    """High-resolution images of a set under `root` to test `scale` with, sorted by name.

    Raises FileNotFoundError that lists the folders looked for, and ValueError for a set with
    another number of images than its name promises: a mean over it would not be the tables'.
    """
    name = canonical(name)
    looked_for = []
    for folder_name in _FOLDER_NAMES.get(name, (name,)):
        for layout, pattern in _LAYOUTS:
            folder = root / layout.format(name=folder_name, scale=scale)
            looked_for.append(str(folder / pattern))
            found = _images(folder.glob(pattern)) if folder.is_dir() else []
            if not found:
                continue
            if len(found) != IMAGE_COUNTS[name]:
                raise ValueError(
                    f"{folder} holds {len(found)} images, and {name} has {IMAGE_COUNTS[name]}: "
                    "complete it, or take out what does not belong"
                )
            return found
    raise FileNotFoundError(f"no images of {name}: looked for {', '.join(looked_for)}")


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in _SUFFIXES and path.is_file())
