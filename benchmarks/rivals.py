"""All networks in one table, from what the other benchmarks measured; nothing is measured here.

`complexity.py` gives parameters and multiply-adds, `quality.py` PSNR, `fps.py` the ONNX file's
proof and its time. What none of them has measured stays "-".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import arguments, published, records
from benchmarks.complexity import PAPER_SIZE_HW
from benchmarks.markdown_table import markdown_table
from benchmarks.quality import ANOTHER_RUN
from benchmarks.records import Record
from gidrn import command_line, matlab, official, zoo
from gidrn.files import replacing

DATASETS = ("Set5", "Set14", "B100")

HEADER = (
    *("network", "scale", "parameters, K (paper)", "multiply-adds, G", "weights"),
    *(f"{dataset}, dB (paper)" for dataset in DATASETS),
    *("ONNX proof, levels", "B100, ms", "time / gidrn's"),
)

LEGEND = (
    "Parameters and multiply-adds (AIM 2020's rule, a 256x256 input) counted here; in brackets "
    "what the paper's Table 4 prints. Weights: those that ship, the authors' own file, or whether "
    "the authors' files can be loaded although none was at hand. PSNR on Y, measured here with "
    "these weights; a network of the luma alone is measured by the pipeline of the others. ONNX "
    "proof: the largest difference of the exported file from PyTorch, in 8-bit levels, with these "
    "weights or random ones. Times: ONNX Runtime's CPU provider, a B100 frame end to end, median; "
    "the last column pairs frames with gidrn's in the same run."
)


QUALITY = ",".join(str(records.RESULTS / f"quality{of}.json") for of in ("", "_official"))


def one(
    found: Iterable[Record], name: str, scale: int, dataset: str | None = None
) -> Record | None:
    """The record of a network and a factor, on a data set where one is named; None without."""
    for entry in found:
        if (entry.what.model, entry.what.scale) == (name, scale) and dataset in (
            None,
            entry.what.input,
        ):
            return entry
    return None


def number(entry: Record, name: str) -> float:
    """A value of a record that is a number. Raises TypeError for another."""
    value = entry.values[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} of {entry.what.model} is {value!r}, no number")
    return value


def in_brackets(measured: str, printed: float | None, digits: int) -> str:
    """ "580 (579)": what is measured, and what the paper prints for it."""
    return measured if printed is None else f"{measured} ({printed:.{digits}f})"


def weights_in_words(name: str, scored: Record | None) -> str:
    """Whose weights the row's quality is of, or whether the authors' could be loaded."""
    if zoo.needs_no_weights(name):
        return "none needed"
    if scored is not None:
        verdict = str(scored.values.get("verdict", ""))
        ours = not scored.what.weights.startswith("file ") or ANOTHER_RUN in verdict
        return scored.what.weights if ours else "the authors'"
    return "authors' files load" if name in {*official.RULES, *matlab.LAYOUTS} else "-"


def row(
    name: str,
    scale: int,
    complexity: Sequence[Record],
    quality: Sequence[Record],
    speed: Sequence[Record],
) -> list[str]:
    """The cells of a network at one factor, by HEADER."""
    printed = {(entry.method, entry.scale): entry for entry in published.table4()}.get(
        (published.METHODS[name], scale)
    )
    counts, timed = one(complexity, name, scale), one(speed, name, scale)
    parameters = adds = "-"
    if counts is not None:
        printed_k = None if printed is None else printed.params_k
        parameters = in_brackets(f"{number(counts, 'parameters') / 1e3:,.1f}", printed_k, 0)
        adds = f"{number(counts, 'multiply_adds') / 1e9:,.2f}"
    scores = [one(quality, name, scale, dataset) for dataset in DATASETS]
    cells = []
    for dataset, scored in zip(DATASETS, scores, strict=True):
        paper = None if printed is None else printed.scores.get(dataset)
        measured = "-" if scored is None else f"{number(scored, 'psnr_db'):.2f}"
        cells.append(in_brackets(measured, None if paper is None else paper.psnr_db, 2))
    levels = time = ratio = "-"
    if timed is not None:
        if "proof_levels" in timed.values:
            levels = f"{number(timed, 'proof_levels'):.2g}"
        time = f"{timed.figure('end_to_end_ms').p50:,.1f}"
        ratio = next(
            (f"{fig.p50:.2f}" for fig in timed.figures if fig.name == "time_over_gidrn"), "-"
        )
    best = next((scored for scored in scores if scored is not None), None)
    return [
        *(name, f"x{scale}", parameters, adds, weights_in_words(name, best), *cells),
        *(levels, time, ratio),
    ]


def report(
    scales: Sequence[int],
    complexity: Sequence[Record],
    quality: Sequence[Record],
    speed: Sequence[Record],
) -> str:
    """The table of every network of the zoo with its legend, as Markdown."""
    rows = [
        row(name, scale, complexity, quality, speed) for name in zoo.NETWORKS for scale in scales
    ]
    parts = [markdown_table(HEADER, rows), LEGEND]
    if speed:
        where = speed[0].where
        parts.append(
            f"Timed on {where.threads} threads of {where.cpu}, {speed[0].commit.in_words}."
        )
    return "\n\n".join(parts) + "\n"


def check_alike(complexity: Sequence[Record], speed: Sequence[Record]) -> None:
    """Raise ValueError where records are not what the table's legend says of all of them."""
    for entry in complexity:
        if entry.what.size_hw != PAPER_SIZE_HW:
            raise ValueError(
                f"{entry.what.model} was counted at {entry.what.size_hw}: the table wants "
                f"{PAPER_SIZE_HW}, which complexity.py counts at without --size"
            )
    for entry in speed:
        what = entry.what
        found = (what.engine, what.precision, what.input.startswith("B100"), what.batch)
        if found != ("ort-cpu", "fp32", True, 1):
            raise ValueError(
                f"{what.model} was timed on {what.engine}, {what.precision}, {what.input}, batch "
                f"{what.batch}: the table wants ort-cpu, fp32, B100, batch 1"
            )
    machines = {(entry.where.cpu, entry.where.threads) for entry in speed}
    if len(machines) > 1:
        raise ValueError(f"times of several machines or numbers of threads: {machines}")


def read(files: str) -> list[Record]:
    """The records of files with commas between, in their order."""
    paths = [Path(file) for file in command_line.words(files)]
    return [entry for path in paths for entry in records.read_records(path)]


def main(
    complexity: str = str(records.RESULTS / "complexity.json"),
    quality: str = QUALITY,
    speed: str = "",
    scale: str = "2,3,4",
    out: Path | None = None,
) -> None:
    """Put all networks into one table: size, quality, proof and time.

    Args:
        complexity: results of complexity.py, with commas between.
        quality: results of quality.py, with commas between.
        speed: results of fps.py, with commas between; without it, no proof and no times.
        scale: factors, with commas between.
        out: the Markdown file to write; without it, the table is printed alone.
    """
    counts, times = read(complexity), read(speed)
    check_alike(counts, times)
    text = report(arguments.scales(scale), counts, read(quality), times)
    if out is not None:
        records.check_writable(out)
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    command_line.run(main)
