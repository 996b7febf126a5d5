"""Peak memory and time of the two forms of the attention, over frame sizes.

The exact form holds every pixel against every pooled point, the curve reads each pixel off a table;
see `export/rewrites/attention.py`. Memory is measured as `peak_memory` says, each model and size in
a process of its own; time in this process, the two forms in turns.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks import arguments, exported_models, low_images, peak_memory, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from benchmarks.turns import PAUSE_SECONDS
from export import to_onnx
from export.rewrites.attention import Attention
from gidrn import command_line
from gidrn_runtime import Upscaler

PROTOCOL = (
    "uint8 frame to uint8 frame, the forms of the attention in turns; one warm-up run of each size"
)


def main(
    model: str = "gidrn",
    scale: int = 4,
    sizes: str = "80x120,270x480,540x960",
    threads: int | None = None,
    runs: int = 5,
    out: Path | None = None,
) -> None:
    """Measure peak memory and time of the exact attention and of the curve.

    Args:
        model: a network of the zoo.
        scale: 2, 3 or 4.
        sizes: HEIGHTxWIDTH of the frames, with commas between.
        threads: CPU threads; all cores by default.
        runs: timed runs of each form and size.
        out: the JSON file to write; benchmarks/results/local/memory_... by default.
    """
    sizes_hw = [to_onnx.parse_size(size) for size in command_line.words(sizes)]
    if runs < 1 or not sizes_hw:
        raise ValueError("--runs is at least 1, and --sizes has at least one size")
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights are named in the record
        opened = {how: Upscaler(file, "ort-cpu", threads=threads) for how, file in files.items()}
    for size_hw in sizes_hw:
        frame = low_images.smooth_noise(size_hw, seed=0)
        samples: dict[Attention, list[float]] = {how: [] for how in opened}
        frames = {}
        for turn in range(runs + 1):
            for how in (list(opened), list(reversed(opened)))[turn % 2]:
                upscale = opened[how]
                time.sleep(PAUSE_SECONDS)
                began = time.perf_counter_ns()
                frames[how] = upscale(frame)
                if turn > 0:
                    samples[how].append((time.perf_counter_ns() - began) / 1e6)
        differ = np.abs(frames["curve"].astype(np.int16) - frames["exact"].astype(np.int16))
        for how, file in files.items():
            memory = peak_memory.peak_memory(
                file, engine="ort-cpu", threads=threads, sizes_hw=[size_hw]
            )
            found.append(
                records.record(
                    What(model, scale, "ort-cpu", size_hw=size_hw, weights=weights, input="noise"),
                    How(PROTOCOL, "time.perf_counter_ns", "in and out", 1, runs),
                    figures=[Figure.of("end_to_end_ms", samples[how])],
                    values={
                        "attention": how,
                        "peak_memory_mib": memory.peak_mib,
                        "memory_baseline_mib": memory.baseline_mib,
                        "memory_method": peak_memory.METHOD,
                        "max_levels_between_forms": int(differ.max()),
                    },
                    where=records.here(threads),
                )
            )
    for upscale in opened.values():
        upscale.close()
    records.write_records(path, found)
    rows = [
        [
            f"{entry.what.size_hw[0]}x{entry.what.size_hw[1]}" if entry.what.size_hw else "",
            str(entry.values["attention"]),
            f"{entry.figures[0].p50:.1f}",
            f"{entry.values['peak_memory_mib']:.0f} ({entry.values['memory_baseline_mib']:.0f})",
            str(entry.values["max_levels_between_forms"]),
        ]
        for entry in found
    ]
    header = ["input", "attention", "end to end p50, ms", "peak MiB (baseline)"]
    print(markdown_table([*header, "levels between the forms"], rows))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    command_line.run(main)
