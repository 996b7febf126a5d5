"""Two result files of one benchmark, before and after a change: ratios, and which are beyond noise.

A record of the one file and the record of the other that measured the same thing make a pair: same
network, factor, engine, precision, size, batch, input, threads and form. Of each time and each
memory figure that both have, the ratio new / old is given with its interval (`median_ratios`):
samples on the same images are paired image by image, others compared as two sets. A verdict is
given only where the whole interval lies on one side of 1, and further off than `--least`.

Ratios that a benchmark formed within its own run (`time_over_gidrn`) are not compared: they move
when the reference does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import median_ratios, records
from benchmarks.markdown_table import markdown_table
from benchmarks.median_ratios import Interval
from benchmarks.records import Figure, Record
from gidrn import command_line

FORMS = (
    *(
        "age_budget_ms",
        "attention",
        "blend",
        "budget_mib",
        "camera_fps",
        "export",
        "form",
        "halo",
        "manner",
        "merged_groups",
        "name",
    ),
    *("part", "pool_sizes", "rounds", "row", "seed", "side", "table", "tiles"),
)
"""Values of a record that say what was measured; others are outcomes."""

WORDS = {
    **dict.fromkeys(("_ms", ": ms", ": us", "_s"), ("faster", "slower")),
    "_mib": ("smaller", "larger"),
}
"""What a ratio below and above 1 means, by the end of a figure's name."""

OF_THE_MACHINE = ("memory_baseline_mib",)
"""Figures of what was there before the measurement."""

SERIES = ("rss_mib",)
"""Figures that are one path over time: their samples depend on each other, and tell no noise."""

SAME = "no difference beyond noise"
FEW = "too few samples"
SINGLE = "one number each"
UNPAIRED = "unpaired"

MISSED = ("slower", "larger", UNPAIRED, FEW)
"""What `--fail-on` takes."""

BUSIER = 1.0
"""A difference of the load averages that is told."""


@dataclass(frozen=True)
class Key:
    """What a record measured; two records with the same are a pair."""

    model: str
    scale: int
    engine: str
    precision: str
    batch: int
    forms: tuple[tuple[str, Any], ...]
    size_hw: tuple[int, int] | None
    input: str
    threads: int | None

    @classmethod
    def of(cls, entry: Record) -> Key:
        """A record's key."""
        what = entry.what
        forms = tuple((name, entry.values[name]) for name in FORMS if name in entry.values)
        return cls(
            what.model,
            what.scale,
            what.engine,
            what.precision,
            what.batch,
            forms,
            what.size_hw,
            what.input,
            entry.where.threads,
        )

    @property
    def elsewhere(self) -> tuple[Any, ...]:
        """What stays the same where size, input and threads may differ."""
        return (self.model, self.scale, self.engine, self.precision, self.batch, self.forms)

    def __str__(self) -> str:
        size = f" {self.size_hw[0]}x{self.size_hw[1]}" if self.size_hw else f" {self.input}"
        forms = "".join(f", {value}" for _, value in self.forms)
        batch = f", batch {self.batch}" if self.batch != 1 else ""
        threads = f", {self.threads} threads" if self.threads is not None else ""
        network = f"{self.model} x{self.scale} {self.engine} {self.precision}"
        return f"{network}{size}{batch}{forms}{threads}"


@dataclass(frozen=True)
class Row:
    """One figure of one pair."""

    key: Key
    figure: str
    old: float
    new: float
    """Medians, or the single numbers."""
    interval: Interval | None
    samples: str
    """How many, and whether in pairs."""
    verdict: str

    @property
    def ratio(self) -> float:
        """New over old."""
        return self.interval.ratio if self.interval else self.new / self.old


def by_key(found: Iterable[Record], source: Path) -> dict[Key, Record]:
    """Records by what they measured. Raises ValueError where two measured the same."""
    keyed: dict[Key, Record] = {}
    for entry in found:
        key = Key.of(entry)
        if key in keyed:
            raise ValueError(f"{source} has two records of {key}: there is no telling which is it")
        keyed[key] = entry
    return keyed


def pairs(
    old: Mapping[Key, Record], new: Mapping[Key, Record], *, anyway: bool
) -> list[tuple[Key, Record, Record]]:
    """Records of the same thing; with `anyway` also of another size, input or number of threads.

    Those are paired only where each side has one of them.
    """
    found = [(key, entry, new[key]) for key, entry in old.items() if key in new]
    if not anyway:
        return found
    rest_old, rest_new = (
        [key for key in one if key not in other] for one, other in ((old, new), (new, old))
    )
    for key in rest_old:
        ours = [other for other in rest_old if other.elsewhere == key.elsewhere]
        theirs = [other for other in rest_new if other.elsewhere == key.elsewhere]
        if len(ours) == len(theirs) == 1:
            found.append((key, old[key], new[theirs[0]]))
    return found


def differences(old: Record, new: Record) -> list[str]:
    """Why two records of one thing cannot be compared, in words; [] where they can."""
    looked_at = {
        "CPU": (old.where.cpu, new.where.cpu),
        "vector extensions": (" ".join(old.where.arithmetic), " ".join(new.where.arithmetic)),
        "cores": (old.where.cores, new.where.cores),
        "GPU": (old.where.gpu, new.where.gpu),
        "threads": (old.where.threads, new.where.threads),
        "size": (old.what.size_hw, new.what.size_hw),
        "input": (old.what.input, new.what.input),
        "clock": (old.how.clock, new.how.clock),
        "copies inside the clock": (old.how.copies, new.how.copies),
        "protocol": (old.how.protocol, new.how.protocol),
    }
    return [
        f"{name}: {before!r} before, {after!r} now"
        for name, (before, after) in looked_at.items()
        if before != after
    ]


def notes(old: Record, new: Record) -> list[str]:
    """What differs and does not stand in the way: versions, the machine's load, weights."""
    told = [
        f"{package} {old.where.versions.get(package)} before, {version} now"
        for package, version in sorted(new.where.versions.items())
        if package != "gidrn" and old.where.versions.get(package) != version
    ]
    if old.where.python != new.where.python:
        told.append(f"Python {old.where.python} before, {new.where.python} now")
    if old.where.os != new.where.os:
        told.append(f"{old.where.os} before, {new.where.os} now")
    before, after = old.where.load, new.where.load
    if before is not None and after is not None and abs(after - before) >= BUSIER:
        told.append(
            f"load average {before:.1f} before, {after:.1f} now: one run was disturbed more"
        )
    return told


def unit(name: str) -> str | None:
    """The end of WORDS that a figure has; None for what is not compared."""
    if name.startswith("time_over_") or name.endswith("_per_s") or name in OF_THE_MACHINE:
        return None
    if name.startswith("s_per_"):
        return "_s"
    return next((ending for ending in WORDS if name.endswith(ending)), None)


def compare_figure(
    key: Key, old: Figure, new: Figure, confidence: float, least: float
) -> Row | None:
    """The row of a figure; None for one that has no verdict, such as PSNR, or is not above 0."""
    ending = unit(old.name)
    if ending is None or min(*old.samples, *new.samples) <= 0:
        return None
    if old.name in SERIES:
        return Row(key, old.name, old.p50, new.p50, None, "a series", SINGLE)
    if shared := sorted({*old.labels} & {*new.labels}):
        before, after = ([_at(figure, label) for label in shared] for figure in (old, new))
        interval = median_ratios.of_pairs(before, after, confidence)
        samples = f"{len(shared)} pairs"
    else:
        interval = median_ratios.of_samples(old.samples, new.samples, confidence)
        samples = f"{len(old.samples)} and {len(new.samples)}"
        before, after = list(old.samples), list(new.samples)
    return Row(
        key,
        old.name,
        statistics.median(before),
        statistics.median(after),
        interval,
        samples,
        verdict(interval, WORDS[ending], least),
    )


def _at(figure: Figure, label: str) -> float:
    """The median of the samples that were taken on one thing."""
    return statistics.median(
        sample for sample, of in zip(figure.samples, figure.labels, strict=True) if of == label
    )


def verdict(interval: Interval | None, words: tuple[str, str], least: float) -> str:
    """A word only where the whole interval is beyond 1, and its ratio by `least` or more."""
    if interval is None:
        return FEW
    if interval.most < 1 and interval.ratio <= 1 / (1 + least):
        return words[0]
    if interval.least > 1 and interval.ratio >= 1 + least:
        return words[1]
    return SAME


def compare(
    matched: Sequence[tuple[Key, Record, Record]], confidence: float, least: float
) -> list[Row]:
    """The rows of all pairs: figures with samples, then single numbers."""
    rows = []
    for key, old, new in matched:
        named = {figure.name: figure for figure in new.figures}
        for figure in old.figures:
            if figure.name in named:
                row = compare_figure(key, figure, named[figure.name], confidence, least)
                rows += [row] if row else []
        for name, before in old.values.items():
            after = new.values.get(name)
            if (
                name not in FORMS
                and unit(name)
                and isinstance(before, int | float)
                and isinstance(after, int | float)
                and min(before, after) > 0
            ):
                rows.append(Row(key, name, before, after, None, "1 and 1", SINGLE))
    return rows


def refusal(old: Mapping[Key, Record], new: Mapping[Key, Record]) -> str:
    """Why no record of the one file is of what one of the other is of."""
    apart = []
    for field in ("model", "scale", "engine", "precision", "batch", "forms", "size_hw", "input",
                  "threads"):  # fmt: skip
        ours, theirs = ({getattr(key, field) for key in keys} for keys in (old, new))
        if not ours & theirs:
            apart.append(f"{field}: {_listed(ours)} before, {_listed(theirs)} now")
    return "; ".join(apart) or "no combination is in both"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(sorted(str(value) for value in values))


def report(rows: Sequence[Row], confidence: float) -> str:
    """The rows as a Markdown table, and what a common shift of all of them suggests."""
    cells = [
        [
            str(row.key),
            row.figure,
            f"{row.old:.4g}",
            f"{row.new:.4g}",
            f"{row.ratio:.3f}",
            f"{row.interval.least:.3f} to {row.interval.most:.3f}" if row.interval else "-",
            row.samples,
            row.verdict,
        ]
        for row in rows
    ]
    header = ["what", "figure", "old", "new", "new / old", f"{confidence:.0%} interval", "samples"]
    parts = [markdown_table([*header, "verdict"], cells)]
    timed = [row for row in rows if row.verdict in ("faster", "slower")]
    same_way = len({row.verdict for row in timed}) == 1
    if len({row.key for row in timed}) >= 3 and same_way and all(
        row.verdict in ("faster", "slower") for row in rows if row.interval and unit(row.figure)
        not in (None, "_mib")
    ):  # fmt: skip
        parts.append(
            f"All times are {timed[0].verdict}: a machine that is disturbed, or another clock of "
            "its CPU, does that too. Measure both again, one after the other."
        )
    return "\n\n".join(parts)


def main(
    old: Annotated[Path, tyro.conf.Positional],
    new: Annotated[Path, tyro.conf.Positional],
    confidence: float = 0.99,
    least: float = 0.02,
    anyway: bool = False,
    fail_on: str = "",
) -> int:
    """Compare two result files of one benchmark.

    Args:
        old: the result file from before.
        new: the one from now.
        confidence: that the interval of a ratio holds it, by the noise of the samples.
        least: how far from 1 a ratio must be for a verdict, such as 0.02 for 2 percent.
        anyway: compare what another machine, protocol, size or number of threads gave, and say so.
        fail_on: exit with 1 for slower, larger, unpaired or "too few samples", commas between.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"--confidence is from 0.5 to below 1, not {confidence}")
    if not 0 <= least < 1:
        raise ValueError(f"--least is a share from 0 to below 1, such as 0.02, not {least}")
    failing = command_line.words(fail_on)
    if unknown := [word for word in failing if word not in MISSED]:
        raise ValueError(f"--fail-on takes {', '.join(MISSED)}, not {', '.join(unknown)}")
    before, after = (by_key(records.read_records(path), path) for path in (old, new))
    matched = pairs(before, after, anyway=anyway)
    if not matched:
        raise ValueError(f"nothing in {new} is of what {old} measured: {refusal(before, after)}")
    told = list(dict.fromkeys(why for _, *both in matched for why in differences(*both)))
    if told and not anyway:
        raise ValueError(
            f"{old} and {new} cannot be compared ({'; '.join(told)}); measure both in the same way "
            "on the same machine, or compare them --anyway"
        )
    rows = compare(matched, confidence, least)
    if not rows:
        raise ValueError(f"{old} has no time and no memory that {new} has, too")
    print(report(rows, confidence))
    told += [note for _, *both in matched for note in notes(*both)]
    for line in dict.fromkeys(told):
        print(f"\nnote: {line}")
    paired = {id(entry) for _, *both in matched for entry in both}
    alone = [
        f"only in {path}: {key}"
        for path, keyed in ((old, before), (new, after))
        for key, entry in keyed.items()
        if id(entry) not in paired
    ]
    if alone:
        print("\n" + "\n".join(alone))
    found = {row.verdict for row in rows} | ({UNPAIRED} if alone else set())
    if missed := [word for word in failing if word in found]:
        print(f"\nfails on {', '.join(missed)}")
        return 1
    return 0


if __name__ == "__main__":
    command_line.run(main)
