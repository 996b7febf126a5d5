"""The records that a report draws on: those of this replay, and checked-in ones in their stead.

A checked-in record stands in where this replay has none, and always with its stamp. Figures that
depend on the machine (times, memory) are taken only of the same kind of machine: the same CPU's
name, vector extensions, number of cores and GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import published, records
from benchmarks.records import Record
from benchmarks.replay_parts import LEFT, Parts, quality_name

CHECKED_IN: dict[str, tuple[str, ...]] = {
    "counts": ("complexity.json",),
    "quality": ("quality.json", "quality_official.json"),
    "speed": ("fps_B100_*.json", "fps_rivals_B100_*.json"),
    "engines": ("cpu_engines_x4_*.json",),
    "memory": ("memory_gidrn_x4_*.json",),
    "train_speed": ("train_speed_x4_*.json",),
    "ablations_table1": ("ablations_table1_*.json",),
    "ablations_table2": ("ablations_table2_*.json",),
    "ablations_table3": ("ablations_table3_*.json",),
}
"""Files of `benchmarks/results` by the kind of part that they stand in for."""

OF_THE_MACHINE = {"speed", "engines", "memory", "train_speed"}
"""Kinds whose figures are the machine's."""

URBAN = "Urban100"
"""The set of Figures 1, 2, 10 and 12."""

OWN_SETS = ("Urban100", "Manga109")
"""Sets that their owners do not let others pass on: who has them brings them."""


@dataclass(frozen=True)
class Found:
    """A record, and where it comes from."""

    record: Record
    source: str
    """"" for this replay's own; else the file, machine, commit and date."""


@dataclass(frozen=True)
class Evidence:
    """All that a report may say."""

    by_kind: Mapping[str, Sequence[Found]]
    """This replay's own first."""
    absent: Mapping[str, str]
    """Parts and sets that are not here, with the reason."""
    titles: Mapping[str, str]
    """Of the parts that this machine could do."""
    by_part: Mapping[str, Sequence[Record]]
    """This replay's own by part."""

    def of(self, kind: str) -> Sequence[Found]:
        """Every record of a kind."""
        return self.by_kind.get(kind, ())

    def first(self, kind: str, wanted: Callable[[Record], bool]) -> Found | None:
        """The first record of a kind that is wanted: this replay's own before others."""
        return next((one for one in self.of(kind) if wanted(one.record)), None)

    def quality(self, model: str, scale: int, dataset: str) -> Found | None:
        """The score of a network on a set."""
        return self.first(
            "quality",
            lambda r: (r.what.model, r.what.scale, r.what.input) == (model, scale, dataset),
        )

    def counts(self, model: str, scale: int) -> Found | None:
        """Parameters and multiply-adds of a network."""
        return self.first("counts", lambda r: (r.what.model, r.what.scale) == (model, scale))

    def why_no_quality(self, model: str, scale: int, dataset: str) -> str:
        """The reason for a score that is missing."""
        if model not in published.METHODS:
            return "the network is not in the zoo"
        reason = self.absent.get(quality_name(model, scale, dataset), "")
        if dataset in self.absent and "no weights" not in reason:
            who = "published only: " if dataset in OWN_SETS else ""
            return who + self.absent[dataset]
        return _without_numbers(reason) or "not measured"

    def why_not(self, part: str) -> str:
        """The reason for a part that is missing."""
        return _without_numbers(self.absent.get(part, "not measured"))


def _without_numbers(reason: str) -> str:
    """The reason as many rows may share it: a part's own forecast stands in the list of parts."""
    return LEFT if reason.startswith(LEFT) and ";" not in reason else reason


def gather(
    by_part: Mapping[str, Sequence[Record]],
    parts: Parts,
    absent: Mapping[str, str],
    results: Path,
) -> Evidence:
    """This replay's records by kind, and the checked-in ones under `results` behind them."""
    by_kind: dict[str, list[Found]] = {}
    for part in parts.here:
        for entry in by_part.get(part.name, ()):
            by_kind.setdefault(part.kind, []).append(Found(entry, ""))
    reasons, others = dict(absent), dict[str, list[str]]()
    here = records.here()
    for kind, patterns in CHECKED_IN.items():
        for path in sorted(file for pattern in patterns for file in results.glob(pattern)):
            found = records.read_records(path)
            if kind in OF_THE_MACHINE and not all(same_machine(r.where, here) for r in found):
                others.setdefault(kind, []).append(path.name)
                continue
            by_kind.setdefault(kind, []).extend(Found(r, stamp(path, r)) for r in found)
    for kind, names in others.items():
        if kind in reasons:
            start = LEFT if reasons[kind].startswith(LEFT) else reasons[kind]
            reasons[kind] = f"{start}; {', '.join(names)}: of another kind of machine"
    titles = {part.name: part.title for part in parts.here}
    return Evidence(by_kind, reasons, titles, by_part)


def same_machine(one: records.Where, other: records.Where) -> bool:
    """Whether times of the two may stand for each other."""
    return (one.cpu, set(one.arithmetic), one.cores, one.gpu) == (
        *(other.cpu, set(other.arithmetic), other.cores, other.gpu),
    )


def stamp(path: Path, entry: Record) -> str:
    """Where a checked-in record comes from, in words."""
    cores = "1 core" if entry.where.cores == 1 else f"{entry.where.cores} cores"
    vectors = ", AVX-512" if "avx512f" in entry.where.arithmetic else ""
    return (
        f"record {path.name}: {entry.where.cpu}, {cores}{vectors}, {entry.commit.in_words}, "
        f"{entry.when[:10]}"
    )
