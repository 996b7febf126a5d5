"""README's tables of measured figures, written from the result files and nothing else.

A table stands between `<!-- table NAME: benchmarks/readme_tables.py -->` and `<!-- end NAME -->`;
`TABLES` says what makes it. `--check` is part of `make lint`: it needs a second and no PyTorch.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tyro

from benchmarks import published, records
from benchmarks.records import Record
from gidrn_runtime.image_files import replacing

README = records.PROJECT / "README.md"

COMMAND = "python benchmarks/readme_tables.py"

BETWEEN = re.compile(
    r"(?P<head><!-- table (?P<name>\S+): benchmarks/readme_tables\.py -->\n)"
    r".*?"
    r"(?P<foot><!-- end (?P=name) -->\n)",
    re.DOTALL,
)

TIMES = "\N{MULTIPLICATION SIGN}"

WITHOUT = {"none": "no ANRB", "infinite": "all pixels"}
"""Table 2's rows that are not a number of points."""


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


def cpu_engines() -> str:
    """Networks on engines of the CPU at two sizes and numbers of threads, beside Table 6."""
    sizes = {
        f"80{TIMES}120": results("cpu_engines_x4_amd-epyc"),
        f"270{TIMES}480": results("cpu_engines_480x270_x4_amd-epyc"),
    }
    paper = {row.method: row.inference_s for row in published.table6()}
    rows = []
    named: set[str] = set()
    for pair in [entry.what for entry in sizes[f"80{TIMES}120"] if entry.where.threads == 1]:
        method = published.METHODS[pair.model]
        row = [method, pair.engine]
        for found in sizes.values():
            for threads in (1, 2):
                timed = one(found, model=pair.model, engine=pair.engine, threads=threads)
                row += [
                    f"{timed.figure('end_to_end_ms').p50:.0f}",
                    ratio(number(timed, "time_over_reference")),
                ]
        # the paper has one engine: its ratio stands once a network
        row.append("" if method in named else ratio(paper[method] / paper["G-IDRN"]))
        named.add(method)
        rows.append(row)
    header = ["network", "engine"]
    for size in sizes:
        for threads_in_words in ("1 thread", "2 threads"):
            header += [f"{size}, {threads_in_words}, ms", "/ native's"]
    return lines([*header, "the paper, / G-IDRN's"], "ll" + "r" * 9, rows)


def fps() -> str:
    """Networks on ONNX Runtime over B100's images, one and two threads, beside Table 6."""
    found = results("fps_B100_x4_amd-epyc")
    paper = {row.method: row.inference_s for row in published.table6()}
    rows = []
    for model in models(found):
        method = published.METHODS[model]
        row = [method]
        for threads in (1, 2):
            timed = one(found, model=model, threads=threads)
            p50 = timed.figure("end_to_end_ms").p50
            row += [f"{p50:.0f}", rate(1000 / p50), ratio(timed.figure("time_over_gidrn").p50)]
        row.append(f"{number(timed, 'peak_memory_mib'):.0f}")
        row += [f"{paper[method]:.4f}", ratio(paper[method] / paper["G-IDRN"])]
        rows.append(row)
    header = ["network"]
    for threads_in_words in ("1 thread", "2 threads"):
        header += [f"{threads_in_words}, p50 ms", "FPS", "time / G-IDRN's"]
    header += ["peak MiB", "the paper, s", "the paper, time / G-IDRN's"]
    return lines(header, "l" + "r" * 9, rows)


def quality() -> str:
    """PSNR and SSIM of bicubic and of the shipped weights, beside Table 4."""
    found = results("quality")
    paper = {(row.method, row.scale): row.scores for row in published.table4()}
    rows = []
    for scale in (2, 3, 4):
        for dataset in ("Set5", "Set14", "B100"):
            cells = [f"{TIMES}{scale} {dataset}"]
            for model in ("bicubic", "gidrn"):
                entry = one(found, model=model, scale=scale, input=dataset)
                cells.append(f"{number(entry, 'psnr_db'):.3f} / {number(entry, 'ssim'):.4f}")
            score = paper["G-IDRN", scale][dataset]
            rows.append([*cells, f"{score.psnr_db:.2f} / {score.ssim:.4f}"])
    header = ["factor, set", "bicubic, here", "G-IDRN with the shipped weights, here"]
    return lines([*header, "G-IDRN, the paper"], "llll", rows)


def export() -> str:
    """Our ONNX files of G-IDRN beside PyTorch's own export."""
    rows = []
    for entry in results("export_gidrn_x4_amd-epyc"):
        made = str(entry.values["export"])
        ours = made.startswith("ours")
        rows.append(
            [
                *(made if ours else f"`{made}`", f"{number(entry, 'nodes'):,.0f}"),
                *("any" if ours else "one", f"{entry.figure('network_only_ms').p50:.0f}"),
                f"{number(entry, 'levels_from_torch'):.4f}",
            ]
        )
    header = ["export", "nodes", "sizes", "2 threads, p50 ms"]
    return lines([*header, "largest difference from PyTorch, levels"], "lrlrr", rows)


def train_speed() -> str:
    """Training steps of the networks in two forms, beside Table 6."""
    found = [entry for entry in results("train_speed_x4_amd-epyc")
             if entry.values["table"] == "networks"]  # fmt: skip
    paper = {row.method: row.train_s_per_100_iter or 0.0 for row in published.table6()}
    forms = {"eager": "eager FP32", "compile+bf16": "compiled, bf16"}
    rows = []
    for model in models(found):
        row = [published.METHODS[model]]
        for form in forms:
            mine, whole = (
                one(found, model=name, form=form).figure("s_per_100_steps").p50
                for name in (model, "gidrn")
            )
            row += [f"{mine:.0f}", f"{mine / whole:.2f}"]
        row += [f"{paper[row[0]]:.1f}", f"{paper[row[0]] / paper['G-IDRN']:.2f}"]
        rows.append(row)
    header = ["network"]
    for form_in_words in forms.values():
        header += [form_in_words, "/ G-IDRN's"]
    return lines([*header, "the paper, GTX 1080 Ti", "the paper, / G-IDRN's"], "lrrrrrr", rows)


def sampling_memory() -> str:
    """Memory by what ANRB samples, exact and as a curve, beside Table 2."""
    found = results("sampling_memory_gidrn_x2_amd-epyc")

    def cell(part: str, how: str, row: str, size_hw: tuple[int, int]) -> str:
        if row == "none" and (part, how) != ("whole", "exact"):
            return ""
        entry = one(
            found, row=row, part=part, size_hw=size_hw, attention="none" if row == "none" else how
        )
        if not entry.figures:
            return f"not run: {number(entry, 'counted_mib') / 1024:,.0f} GiB"
        return f"{entry.figure('taken_mib').p50:,.0f}"

    rows = []
    for size_hw in sorted({entry.what.size_hw for entry in found if entry.what.size_hw}):
        for printed in published.table2():
            if all((entry.values["row"], entry.what.size_hw) != (printed.samples, size_hw)
                   for entry in found):  # fmt: skip
                continue  # the large size is that of the row without sampling alone
            square = size_hw[0] == size_hw[1]
            paper = f"{printed.memory_mb[size_hw[0]]:,}" if square else "more than 11 GB"
            rows.append(
                [
                    *(TIMES.join(map(str, size_hw)), WITHOUT.get(printed.samples, printed.samples)),
                    *(cell(part, how, printed.samples, size_hw)
                      for part in ("whole", "anrb") for how in ("exact", "curve")),
                    paper,
                ]
            )  # fmt: skip
    header = ["input", "S", f"G-IDRN {TIMES}2, exact, MiB", "curve, MiB"]
    header += ["ANRB alone, exact, MiB", "curve, MiB", "the paper, MB"]
    return lines(header, "llrrrrr", rows)


TABLES: dict[str, Callable[[], str]] = {
    "cpu_engines": cpu_engines,
    "fps": fps,
    "quality": quality,
    "export": export,
    "sampling_memory": sampling_memory,
    "train_speed": train_speed,
}
"""README's generated tables by the name in their markers."""


def generated(text: str, tables: dict[str, Callable[[], str]]) -> str:
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


def difference(now: str, meant: str) -> str:
    """The lines that differ, with their numbers, as a unified diff."""
    return "".join(
        difflib.unified_diff(
            now.splitlines(keepends=True),
            meant.splitlines(keepends=True),
            "README.md",
            "README.md, from benchmarks/results",
            n=0,
        )
    )


def main(check: bool = False, readme: Path = README) -> int:
    """Write README's tables from the checked-in results.

    Args:
        check: write nothing; exit with 1 and show the lines that differ, if any do.
        readme: the file.
    """
    now = readme.read_text(encoding="utf-8")
    meant = generated(now, TABLES)
    if now == meant:
        print(f"{len(TABLES)} tables of {readme.name} are those of the results")
        return 0
    print(difference(now, meant), end="")
    if check:
        print(f"tables of {readme.name} are not those of the results: run {COMMAND}")
        return 1
    with replacing(readme) as temporary:
        temporary.write(meant.encode())
    print(f"written to {readme}")
    return 0


if __name__ == "__main__":
    # without gidrn.command_line, which brings PyTorch along
    try:
        code = tyro.cli(main)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
