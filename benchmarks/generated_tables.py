"""The documents' tables of measured figures, written from the result files and nothing else.

A table stands between `<!-- table NAME: benchmarks/generated_tables.py -->` and
`<!-- end NAME -->`; `DOCUMENTS` says what makes it. `--check` is part of `make lint`: it needs a
second and no PyTorch.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

import tyro

from benchmarks import cpu_speed_tables, readme_tables, records
from benchmarks.result_cells import Tables
from gidrn_runtime.image_files import replacing

DOCUMENTS: dict[str, Tables] = {
    "README.md": readme_tables.TABLES,
    "docs/cpu-speed.md": cpu_speed_tables.TABLES,
}
"""The tables of each document, by its path in the project."""

COMMAND = "python benchmarks/generated_tables.py"

BETWEEN = re.compile(
    r"(?P<head><!-- table (?P<name>\S+): benchmarks/generated_tables\.py -->\n)"
    r".*?"
    r"(?P<foot><!-- end (?P=name) -->\n)",
    re.DOTALL,
)


def generated(text: str, tables: Tables) -> str:
    """`text` with every marked table made anew.

    Raises ValueError for a marker of a name that is not in `tables`, for a table that has no
    marker or several, and for one that is not closed.
    """
    opened = re.findall(r"<!-- table (\S+):", text)
    for name in opened:
        if name not in tables:
            raise ValueError(f"no table is called {name!r}: there are {', '.join(tables)}")
    for name in tables:
        if opened.count(name) != 1:
            raise ValueError(f"{opened.count(name)} markers of the table {name}, not one")
    closed = [match["name"] for match in BETWEEN.finditer(text)]
    for name in opened:
        if name not in closed:
            raise ValueError(f"the table {name} has no line <!-- end {name} --> behind it")

    def anew(match: re.Match[str]) -> str:
        return match["head"] + tables[match["name"]]() + match["foot"]

    return BETWEEN.sub(anew, text)


def difference(now: str, meant: str, name: str) -> str:
    """The lines that differ, with their numbers, as a unified diff."""
    return "".join(
        difflib.unified_diff(
            now.splitlines(keepends=True),
            meant.splitlines(keepends=True),
            name,
            f"{name}, from benchmarks/results",
            n=0,
        )
    )


def main(check: bool = False, root: Path = records.PROJECT) -> int:
    """Write the documents' tables from the checked-in results.

    Args:
        check: write nothing; exit with 1 and show the lines that differ, if any do.
        root: the folder of the documents.
    """
    stale = 0
    for name, tables in DOCUMENTS.items():
        path = root / name
        now = path.read_text(encoding="utf-8")
        meant = generated(now, tables)
        if now == meant:
            print(f"{len(tables)} tables of {name} are those of the results")
            continue
        print(difference(now, meant, name), end="")
        if check:
            print(f"tables of {name} are not those of the results: run {COMMAND}")
            stale = 1
            continue
        with replacing(path) as temporary:
            temporary.write(meant.encode())
        print(f"written to {path}")
    return stale


if __name__ == "__main__":
    # without gidrn.command_line, which brings PyTorch along
    try:
        code = tyro.cli(main)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
