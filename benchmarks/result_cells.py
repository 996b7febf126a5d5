"""What the documents' tables of measured figures are put together from: records, cells, rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks import records
from benchmarks.records import Record

TIMES = "\N{MULTIPLICATION SIGN}"

Tables = Mapping[str, Callable[[], str]]
"""What makes each table of a document, by the name in its markers."""


def results(name: str) -> list[Record]:
    """The records of a checked-in result file, without its suffix."""
    return records.read_records(records.RESULTS / f"{name}.json")


def one(found: Iterable[Record], **wanted: object) -> Record:
    """The record whose `what`, `where` or values have all of `wanted`.

    Raises ValueError where there is none, or more than one.
    """

    def of(entry: Record, name: str) -> object:
        for part in (entry.what, entry.where):
            if hasattr(part, name):
                return getattr(part, name)
        return entry.values.get(name)

    fitting = [
        entry for entry in found if all(of(entry, name) == value for name, value in wanted.items())
    ]
    if len(fitting) != 1:
        raise ValueError(f"{len(fitting)} records of {wanted}, where a table wants one")
    return fitting[0]


def models(found: Iterable[Record]) -> list[str]:
    """The networks of some records, each once, in their order."""
    return list(dict.fromkeys(entry.what.model for entry in found))


def number(entry: Record, name: str) -> float:
    """A value of a record that is a number. Raises TypeError for another."""
    value = entry.values[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} of {entry.what.model} is {value!r}, no number")
    return value


def ratio(value: float) -> str:
    """A ratio or a rate, with two decimals under ten and one above."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def side_by_side(size_hw: tuple[int, int]) -> str:
    """Height and width of an image, such as 80 by 120."""
    return TIMES.join(map(str, size_hw))


def rate(value: float) -> str:
    """Frames a second: one decimal, two under one."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


def lines(header: Sequence[str], alignment: str, rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table as README has them, unpadded: "l" and "r" say where a column stands."""
    rule = "|" + "|".join({"l": "---", "r": "---:"}[side] for side in alignment) + "|"
    text = [f"| {' | '.join(header)} |", rule]
    for row in rows:
        if len(row) != len(header) or len(row) != len(alignment):
            raise ValueError(f"a row of {len(row)} cells under {len(header)} headings: {row}")
        text.append(re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join(row)} |"))
    return "\n".join(text) + "\n"
