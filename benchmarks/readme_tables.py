"""README's tables of measured figures; `generated_tables.py` writes them."""

from __future__ import annotations

from benchmarks import published
from benchmarks.result_cells import (
    TIMES,
    Tables,
    lines,
    models,
    number,
    one,
    rate,
    ratio,
    results,
    side_by_side,
)

WITHOUT = {"none": "no ANRB", "infinite": "all pixels"}
"""Table 2's rows that are not a number of points."""


def cpu_engines() -> str:
    """Networks on engines of the CPU at two sizes and numbers of threads, beside Table 6.

    RCAN and EDSR were timed in a run of their own at the small size alone.
    """
    names = {
        f"80{TIMES}120": ("cpu_engines_x4_amd-epyc", "cpu_engines_slow_x4_amd-epyc"),
        f"270{TIMES}480": ("cpu_engines_480x270_x4_amd-epyc",),
    }
    sizes = {size: [results(name) for name in of_size] for size, of_size in names.items()}
    paper = {row.method: row.inference_s for row in published.table6()}
    rows = []
    named: set[str] = set()
    pairs = [(run, entry.what) for run, found in enumerate(sizes[f"80{TIMES}120"])
             for entry in found if entry.where.threads == 1]  # fmt: skip
    for run, pair in pairs:
        if run > 0 and pair.model == "gidrn":
            continue  # the reference of that run
        method = published.METHODS[pair.model]
        row = [method, pair.engine]
        for of_size in sizes.values():
            for threads in (1, 2):
                if run >= len(of_size):
                    row += ["", ""]
                    continue
                timed = one(of_size[run], model=pair.model, engine=pair.engine, threads=threads)
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
                    *(side_by_side(size_hw), WITHOUT.get(printed.samples, printed.samples)),
                    *(cell(part, how, printed.samples, size_hw)
                      for part in ("whole", "anrb") for how in ("exact", "curve")),
                    paper,
                ]
            )  # fmt: skip
    header = ["input", "S", f"G-IDRN {TIMES}2, exact, MiB", "curve, MiB"]
    header += ["ANRB alone, exact, MiB", "curve, MiB", "the paper, MB"]
    return lines(header, "llrrrrr", rows)


TABLES: Tables = {
    "cpu_engines": cpu_engines,
    "fps": fps,
    "quality": quality,
    "export": export,
    "sampling_memory": sampling_memory,
    "train_speed": train_speed,
}
