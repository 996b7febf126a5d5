"""Tables and findings of `train_speed.py`, drawn from its records and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.layer_kinds import KINDS
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, Record, Value
from benchmarks.training_steps import PHASES

LEGEND = (
    "A step is the drawing of a batch, forward, loss, backward, clipping, Adam and the averaged "
    "weights. Times are medians, with the least and the greatest sample behind. Multiply-adds are "
    "those of one step's forward pass by AIM 2020's rule; the backward pass has about twice as "
    "many. The paper's columns are what its Table 6 prints for another machine and PyTorch."
)


def of_table(found: Sequence[Record], table: str) -> list[Record]:
    """The records of one table: forms, networks or kinds."""
    return [entry for entry in found if entry.values["table"] == table]


def networks_table(found: Sequence[Record]) -> str:
    """Every network in the plain and the fastest form, beside the paper."""
    entries = of_table(found, "networks")
    reference = entries[0].what.model
    by_name: dict[str, list[Record]] = {}
    for entry in entries:
        by_name.setdefault(entry.what.model, []).append(entry)
    of_reference = by_name[reference]
    paper_reference = of_reference[0].published.get("train_s_per_100_iter")
    header = ["network", "parameters", "convolutions", "multiply-adds, G"]
    for entry in of_reference:
        header += [f"{entry.values['form']}: s / 100 steps", f"/ {reference}'s"]
    gpus = sorted({str(entry.published["gpu"]) for entry in entries if entry.published})
    header += [f"the paper, {gpus[0] if gpus else 'its GPU'}: s", f"the paper: / {reference}'s"]
    rows = []
    for name, own in by_name.items():
        values = own[0].values
        row = [
            name,
            f"{values['parameters']:,}",
            str(values["convolutions"]),
            f"{_number(values['multiply_adds']) / 1e9:.1f}",
        ]
        for entry, base in zip(own, of_reference, strict=True):
            mine, whole = entry.figure("s_per_100_steps"), base.figure("s_per_100_steps")
            form = str(entry.values["form"])
            other = "" if form == base.values["form"] else f", {form}"
            row += [f"{_spread(mine)}{other}", f"{mine.p50 / whole.p50:.2f}"]
        paper = own[0].published.get("train_s_per_100_iter")
        row.append(f"{paper:.1f}" if paper else "-")
        ratio = _number(paper) / _number(paper_reference) if paper and paper_reference else None
        row.append(f"{ratio:.2f}" if ratio else "-")
        rows.append(row)
    return markdown_table(header, rows)


def forms_table(found: Sequence[Record]) -> str:
    """The reference in every form, beside the plain one."""
    entries = of_table(found, "forms")
    plain = entries[0].figure("s_per_100_steps").p50
    rows = [
        [
            str(entry.values["form"]),
            entry.what.precision,
            _spread(entry.figure("s_per_100_steps")),
            f"{plain / entry.figure('s_per_100_steps').p50:.2f}",
            f"{entry.values['first_step_s']:.1f}",
        ]
        for entry in entries
    ]
    name = entries[0].values["form"]
    header = [
        *("form", "arithmetic", "s / 100 steps", f"times as fast as {name}"),
        "first step, s (less where earlier runs left compiled code)",
    ]
    return markdown_table(header, rows)


def phases_table(found: Sequence[Record]) -> str:
    """Milliseconds and share of each phase of a step."""
    rows = []
    for entry in of_table(found, "networks"):
        times = [entry.figure(f"{phase}_ms").p50 for phase in PHASES]
        rows.append(
            [
                f"{entry.what.model}, {entry.values['form']}",
                *(_share(ms, sum(times)) for ms in times),
            ]
        )
    return markdown_table(["ms a step (share)", *PHASES], rows)


def kinds_table(found: Sequence[Record]) -> str:
    """Time of each kind of layer in a plain step, with its share of time and multiply-adds."""
    entries = of_table(found, "kinds")
    columns = []
    for entry in entries:
        times = [entry.figure(f"{kind}_ms").p50 for kind in KINDS]
        counts = [_number(entry.values[f"{kind}_multiply_adds"]) for kind in KINDS]
        cells = [
            f"{_share(ms, sum(times))[:-1]}; {n / sum(counts):.0%})"
            for ms, n in zip(times, counts, strict=True)
        ]
        columns.append([entry.what.model, *cells, f"{sum(times):.1f}"])
    first = ["ms a step (share of time; of multiply-adds)", *KINDS.values(), "sum"]
    header, *rows = (list(line) for line in zip(first, *columns, strict=True))
    return markdown_table(header, rows)


def findings(found: Sequence[Record]) -> list[str]:
    """In words: where the reference's extra time goes, and what its fastest form wins."""
    reference = found[0].what.model
    kinds = {entry.what.model: entry for entry in of_table(found, "kinds")}
    counts = {entry.what.model: entry.values for entry in of_table(found, "networks")}
    own, lines = kinds.pop(reference), []
    for name, other in kinds.items():
        pairs = {
            title: (own.figure(f"{kind}_ms"), other.figure(f"{kind}_ms"))
            for kind, title in KINDS.items()
        }
        more = {title: one.p50 - another.p50 for title, (one, another) in pairs.items()}
        apart = [title for title, pair in pairs.items() if _are_apart(*pair)]
        parts = sorted(((title, more[title]) for title in apart), key=lambda part: -abs(part[1]))
        work = _number(counts[reference]["multiply_adds"]) / _number(counts[name]["multiply_adds"])
        words = ", ".join(f"{title} {ms:+.1f}" for title, ms in parts)
        lines.append(
            f"A plain step of {reference} against one of {name}: {sum(more.values()):+.1f} ms, for "
            f"{work:.2f} times the multiply-adds and {counts[reference]['convolutions']} "
            f"convolutions against {counts[name]['convolutions']}. By kind, ms, where all samples "
            f"of one are above all of the other: {words or 'none'}."
        )
    # Of the run with the other networks: that with all forms chose the fastest, and so flatters it.
    forms = [one for one in of_table(found, "networks") if one.what.model == reference]
    plain, fastest = forms[0], forms[-1]
    plain_s, fastest_s = (entry.figure("s_per_100_steps").p50 for entry in (plain, fastest))
    times = "" if plain is fastest else f", {plain_s / fastest_s:.2f} times as fast as "
    lines.append(
        f"Fastest form of {reference} here: {fastest.values['form']}, {fastest_s:.2f} s per 100 "
        f"steps{times}{plain.values['form'] if times else ''}."
    )
    return lines


def report(found: Sequence[Record]) -> str:
    """All tables of a run, as Markdown."""
    first = found[0]
    reference, where = first.what.model, first.where
    patch = first.what.size_hw[0] if first.what.size_hw else 0
    device = where.gpu if first.what.engine == "torch-cuda" else where.cpu
    place = (
        f"x{first.what.scale}, batch {first.what.batch}, patches of {patch}; "
        f"{first.what.engine} on {device}, {where.threads} threads on {where.cores} CPUs; "
        f"PyTorch {where.versions.get('torch')}; {first.commit.in_words}"
    )
    arithmetic = of_table(found, "kinds")[0].what.precision
    sections = [
        f"### Training speed: {place}\n\n{networks_table(found)}",
        f"### Forms of {reference}\n\n{forms_table(found)}",
        f"### Phases of a step\n\n{phases_table(found)}",
        f"### Kinds of layer, eager, {arithmetic}, under the profiler\n\n{kinds_table(found)}",
        "\n".join(f"- {line}" for line in findings(found)),
        LEGEND,
    ]
    return "\n\n".join(sections)


def _are_apart(one: Figure, another: Figure) -> bool:
    """Whether all samples of one are above all of the other."""
    return min(one.samples) > max(another.samples) or min(another.samples) > max(one.samples)


def _spread(figure: Figure) -> str:
    return f"{figure.p50:.2f} ({min(figure.samples):.2f} to {max(figure.samples):.2f})"


def _share(ms: float, whole: float) -> str:
    return f"{ms:.1f} ({ms / whole:.0%})"


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
