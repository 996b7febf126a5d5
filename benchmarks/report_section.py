"""What a report is made of: sections with rows, each with a verdict, plots and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["agree", "differ", "cannot"]


@dataclass(frozen=True)
class Row:
    """One figure here and in the paper."""

    cells: tuple[str, ...]
    """One for each of the section's headings."""
    verdict: Verdict
    why: str = ""
    source: str = ""
    """"" for what this replay measured; else the record's stamp."""


@dataclass(frozen=True)
class PictureSet:
    """One photo's part by several methods; two of them at once under a slider."""

    title: str
    images: Sequence[tuple[str, str]]
    """Caption and data URI of each, the truth last."""
    left: int = 0
    """Which is left of the slider at first."""
    right: int = -1
    """Which is right of it, counted as Python's lists count."""
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A table or figure of the paper, or a comparison of ours."""

    name: str
    """Such as "Table 4"."""
    claim: str
    """What the paper shows there, in a line."""
    header: tuple[str, ...] = ()
    """Columns; those that begin with "paper" hold published figures."""
    rows: Sequence[Row] = ()
    plots: Sequence[str] = ()
    """SVG."""
    pictures: Sequence[PictureSet] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = field(default_factory=tuple)
    """What makes its figures doubtful."""

    @property
    def slug(self) -> str:
        """Its anchor on the page."""
        return self.name.lower().replace(" ", "-").replace(",", "")

    @property
    def has_rivals(self) -> bool:
        """Whether its plots tell G-IDRN from others and the paper's figures by their marks."""
        return any('class="ours' in plot for plot in self.plots)

    @property
    def shown(self) -> list[Row]:
        """Rows with a figure from here."""
        return [row for row in self.rows if row.verdict != "cannot"]

    @property
    def cannot(self) -> list[tuple[str, list[Row]]]:
        """Rows without, by their reason."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.verdict == "cannot":
                found.setdefault(row.why, []).append(row)
        return list(found.items())

    @property
    def tally(self) -> dict[Verdict, int]:
        """How many rows have each verdict."""
        counted = Counter(row.verdict for row in self.rows)
        return {verdict: counted[verdict] for verdict in ("agree", "differ", "cannot")}

    @property
    def sources(self) -> list[str]:
        """The stamps of the checked-in records that its rows are of, each once."""
        return list(dict.fromkeys(row.source for row in self.shown if row.source))

    @property
    def recorded(self) -> int:
        """Rows whose figures are of checked-in records."""
        return sum(bool(row.source) for row in self.shown)
