"""Peak memory and time of the two forms of the attention on engines of the CPU, over frame sizes.

The exact form holds every pixel against every pooled point, the curve reads each pixel off a table;
see `export/rewrites/attention.py`. Memory is measured as `peak_memory` says, each form, engine and
size in a process of its own; time in this process, all forms and engines in turns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks import arguments, contenders, exported_models, low_images, peak_memory, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, Value, What
from benchmarks.turns import PAUSE_SECONDS
from export import to_onnx
from export.rewrites.attention import Attention
from gidrn import command_line
from gidrn_runtime import engines

PROTOCOL = (
    "uint8 frame to uint8 frame, the forms of the attention on each engine in turns; "
    "one warm-up run of each size"
)


def main(
    model: str = "gidrn",
    scale: int = 4,
    engine: str = "ort-cpu",
    sizes: str = "80x120,270x480,540x960",
    threads: int | None = None,
    runs: int = 5,
    out: Path | None = None,
) -> None:
    """Measure peak memory and time of the exact attention and of the curve.

    Args:
        model: a network of the zoo.
        scale: 2, 3 or 4.
        engine: engines of the CPU, several; native takes G-IDRN alone.
        sizes: HEIGHTxWIDTH of the frames, with commas between.
        threads: CPU threads; all cores by default.
        runs: timed runs of each form, engine and size; 0 times nothing, so that this process holds
            no model while memory is measured.
        out: the JSON file to write; benchmarks/results/local/memory_... by default.
    """
    sizes_hw = [to_onnx.parse_size(size) for size in command_line.words(sizes)]
    if runs < 0 or not sizes_hw:
        raise ValueError("--runs is at least 0, and --sizes has at least one size")
    wanted = list(command_line.words(engine))
    if not wanted or not set(wanted) <= set(engines.ON_CPU):
        raise ValueError(f"--engine wants some of {', '.join(engines.ON_CPU)}, not {engine!r}")
    threads = arguments.cpu_threads(threads)
    path = out or records.RESULTS / "local" / f"memory_{model}_x{scale}_{records.cpu_slug()}.json"
    records.check_writable(path)
    network, weights, sha256 = exported_models.with_weights(model, scale, None)
    labels = exported_models.labels_of(model, scale, weights, sha256)
    exported_models.CACHE.mkdir(parents=True, exist_ok=True)
    files: dict[Attention, Path] = {}
    for how in get_args(Attention):
        files[how] = exported_models.CACHE / f"memory_{model}_x{scale}_{how}.onnx"
        to_onnx.export(network, files[how], labels, how=how)
    found: list[Record] = []
    for size_hw in sizes_hw:
        where = records.here(threads)
        samples, largest = _in_turns(files, wanted, threads, size_hw, runs) if runs else ({}, {})
        for name in wanted:
            for how, file in files.items():
                memory = peak_memory.peak_memory(
                    file, engine=name, threads=threads, sizes_hw=[size_hw]
                )
                values: dict[str, Value] = {
                    "attention": how,
                    "peak_memory_mib": memory.peak_mib,
                    "memory_baseline_mib": memory.baseline_mib,
                    "memory_method": peak_memory.METHOD,
                }
                figures = []
                if runs:
                    figures.append(Figure.of("end_to_end_ms", samples[how, name]))
                    values["max_levels_between_forms"] = largest[name]
                found.append(
                    records.record(
                        What(model, scale, name, size_hw=size_hw, weights=weights, input="noise"),
                        How(PROTOCOL, "time.perf_counter_ns", "in and out", 1, runs)
                        if runs
                        else How("memory alone"),
                        figures=figures,
                        values=values,
                        where=where,
                    )
                )
                records.write_records(path, found)
    rows = [
        [
            f"{entry.what.size_hw[0]}x{entry.what.size_hw[1]}" if entry.what.size_hw else "",
            *(entry.what.engine, str(entry.values["attention"])),
            f"{entry.figures[0].p50:.1f}" if entry.figures else "",
            f"{entry.values['peak_memory_mib']:.0f} ({entry.values['memory_baseline_mib']:.0f})",
            str(entry.values.get("max_levels_between_forms", "")),
        ]
        for entry in found
    ]
    header = ["input", "engine", "attention", "end to end p50, ms", "peak MiB (baseline)"]
    print(markdown_table([*header, "levels between the forms"], rows))
    print(f"\nwritten to {path}")


def _in_turns(
    files: Mapping[Attention, Path],
    wanted: Sequence[str],
    threads: int,
    size_hw: tuple[int, int],
    runs: int,
) -> tuple[dict[tuple[Attention, str], list[float]], dict[str, int]]:
    """Milliseconds of each form on each engine, and by engine the levels between its forms."""
    frame = low_images.smooth_noise(size_hw, seed=0)
    samples = {(how, name): list[float]() for how in files for name in wanted}
    frames = {}
    with ExitStack() as stack:
        opened = {
            pair: stack.enter_context(contenders.open_file(files[pair[0]], pair[1], threads))
            for pair in samples
        }
        for turn in range(runs + 1):
            for pair in (list(opened), list(reversed(opened)))[turn % 2]:
                time.sleep(PAUSE_SECONDS)
                began = time.perf_counter_ns()
                frames[pair] = opened[pair](frame)
                if turn > 0:
                    samples[pair].append((time.perf_counter_ns() - began) / 1e6)
    largest = {}
    for name in wanted:
        curve, exact = (frames[how, name].astype(np.int16) for how in ("curve", "exact"))
        largest[name] = int(np.abs(curve - exact).max())
    return samples, largest


if __name__ == "__main__":
    command_line.run(main)
