"""A replay's report as one HTML file that loads nothing: no network, no other file, no font.

The page forbids itself by its Content-Security-Policy to load anything but what it holds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks import noise, records, report_figures, report_tables
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Record, State
from benchmarks.report_evidence import Evidence
from benchmarks.report_section import Section
from gidrn.files import replacing

TEMPLATE = "report.html.jinja"

TIMES = ("end_to_end_ms", "device_ms", "s_per_100_steps")
"""Figures that noise disturbs."""

FINDING = ("title", "place", "statements", "arithmetic", "verdict", "treatment")
"""Fields of `audit.findings()`, where that module is here."""


class Measured(Protocol):
    """What a report says of a part: see `replay.Done`."""

    @property
    def part(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def pulses_ms(self) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Page:
    """A report, and what it says in short."""

    html: str
    summary: str
    """A Markdown table: each table's and figure's state."""


def write(path: Path, evidence: Evidence, done: Iterable[Measured], folder: Path) -> Page:
    """Make the report of a replay whose pictures lie under `folder`, and write it."""
    page = make(evidence, list(done), folder)
    with replacing(path) as temporary:
        temporary.write_text(page.html, encoding="utf-8")
    return page


def make(evidence: Evidence, done: Sequence[Measured], folder: Path) -> Page:
    """The page. Raises FileNotFoundError where a part's picture has gone."""
    paper = [*report_tables.all_tables(evidence), *report_figures.all_figures(evidence, folder)]
    choosing = report_figures.for_choosing(evidence)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    here = records.here()
    html = environment.get_template(TEMPLATE).render(
        paper=paper,
        choosing=choosing,
        findings=findings(),
        here=here,
        commit=records.commit_of(records.PROJECT).in_words,
        when=(here.state.when if here.state else "")[:16].replace("T", " "),
        stamps=stamps(evidence.by_part, done, evidence.titles),
        warnings=warnings(evidence.by_part, done, evidence.titles),
        left={name: why for name, why in evidence.absent.items() if why.startswith("left for")},
        failed={name: why for name, why in evidence.absent.items() if why.startswith("failed")},
        titles=evidence.titles,
        pulse_numbers=noise.PULSE_NUMBERS,
        minutes=sum(one.seconds for one in done) / 60,
    )
    return Page(html, summary(paper))


def summary(paper: Sequence[Section]) -> str:
    """Each table's and figure's state as a Markdown table."""
    rows = []
    for section in paper:
        tally = section.tally
        pictures = str(len(section.pictures)) if section.pictures else ""
        rows.append(
            [
                section.name,
                *(str(tally[verdict]) for verdict in ("agree", "differ", "cannot")),
                str(section.recorded) if section.recorded else "",
                pictures,
            ]
        )
    header = ["the paper's", "agree", "differ", "cannot", "of a record", "pictures"]
    return markdown_table(header, rows)


def findings() -> list[dict[str, Any]]:
    """The paper's contradictions as `audit.py` finds them; none where that module is not here."""
    if importlib.util.find_spec("benchmarks.audit") is None:
        return []
    audit = importlib.import_module("benchmarks.audit")
    return [{name: getattr(one, name) for name in FINDING} for one in audit.findings()]


def stamps(
    by_part: Mapping[str, Sequence[Record]], done: Sequence[Measured], titles: Mapping[str, str]
) -> list[dict[str, str]]:
    """When and in what state of the machine each part was measured."""
    found = []
    for one in done:
        entries = by_part.get(one.part, ())
        if not entries:
            continue
        first, last = entries[0], entries[-1]
        before, after = first.where.state, last.after
        spreads = [
            noise.estimate(figure.samples).noise
            for entry in entries
            for figure in entry.figures
            if figure.name in TIMES
        ]
        found.append(
            {
                "part": titles.get(one.part, one.part),
                "when": first.when[:16].replace("T", " "),
                "seconds": f"{one.seconds:.0f}",
                "commit": first.commit.in_words.removeprefix("commit "),
                "threads": "" if first.where.threads is None else str(first.where.threads),
                "before": _state(before),
                "after": _state(after),
                "pulse": f"{one.pulses_ms[0]:.2f} / {one.pulses_ms[1]:.2f}",
                "noise": f"{max(spreads):.0%}" if spreads else "",
                "disturbed": "; ".join(noise.disturbances_of(entries)),
            }
        )
    return found


def _state(state: State | None) -> str:
    """A machine's state in a cell; what it does not tell is left out."""
    if state is None:
        return "not told"
    mhz = state.cpu_mhz
    parts = [
        None if state.load is None else f"load {state.load:.1f}",
        None if mhz is None else f"{' to '.join(dict.fromkeys(f'{m:.0f}' for m in mhz))} MHz",
        state.governor,
        state.power,
        None if state.temperature_c is None else f"{state.temperature_c:.0f} °C",
        state.gpu,
    ]
    return ", ".join(part for part in parts if part)


def warnings(
    by_part: Mapping[str, Sequence[Record]], done: Sequence[Measured], titles: Mapping[str, str]
) -> list[str]:
    """What makes the whole report's times doubtful; [] for a steady machine."""
    found = []
    pulses = [pulse for one in done for pulse in one.pulses_ms]
    if pulses and max(pulses) / min(pulses) - 1 > noise.MOST_PULSE_SPREAD:
        found.append(
            f"The same {noise.PULSE_NUMBERS:,} sines took from {min(pulses):.2f} to "
            f"{max(pulses):.2f} ms over the replay: something else used this machine, or its "
            "clocks changed. Times of different parts are not to be compared; ratios within a "
            "part, measured in turns, may be."
        )
    timed = {part: entries for part, entries in by_part.items() if _has_times(entries)}
    disturbed = [
        f"{titles.get(part, part)} ({'; '.join(reasons)})"
        for part, entries in timed.items()
        if (reasons := noise.disturbances_of(entries))
    ]
    if disturbed:
        found.append(
            f"The machine was not at rest during {len(disturbed)} of the {len(timed)} parts that "
            f"measure time: {' · '.join(disturbed)}."
        )
    return found


def _has_times(entries: Sequence[Record]) -> bool:
    return any(figure.name in TIMES for entry in entries for figure in entry.figures)
