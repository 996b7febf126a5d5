"""The forms of the grouped convolutions beside each other: the same picture, other kernels.

Every form is exported as it would ship, opened by the runtime, and run in turns with the others, a
uint8 frame in and out. `export/to_onnx.py --merge-groups auto` chooses by the same measurement.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from benchmarks import exported_models, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from export import to_onnx
from export.group_forms import ROUNDS, WARM_UP, rest_s
from export.proof import Dtype
from export.to_onnx import Labels
from gidrn import command_line

PROTOCOL = (
    "forms of one network in turns, the order moving on by one a round; uint8 frame in host memory "
    "to uint8 frame in host memory; batch 1; the engine's own number of threads; "
    "{rest_ms:.0f} ms of rest before each run"
)


def measure(
    model: str, scale: int, engine: str, dtype: Dtype, sizes_hw: list[tuple[int, int]]
) -> list[Record]:
    """A record of every form at every size."""
    network, weights, _ = exported_models.with_weights(model, scale, None)
    labels = Labels(model, scale, "random", "", "global", dtype=dtype)
    protocol = PROTOCOL.format(rest_ms=1000 * rest_s(engine))
    found: list[Record] = []
    for size_hw in sizes_hw:
        where = records.here(None)
        with torch.inference_mode():
            choice, taken = to_onnx.choose_groups(network, labels, engine, size_hw=size_hw)
        found += [
            records.record(
                What(
                    *(model, scale, choice.engine),
                    precision=dtype,
                    size_hw=size_hw,
                    weights=weights,
                    input="noise",
                ),
                How(protocol, "time.perf_counter_ns", "in and out", WARM_UP, ROUNDS),
                figures=[Figure.of("end_to_end_ms", ms)],
                values={
                    "merged_groups": form,
                    "time_over_plain": choice.over_plain[form],
                    "chosen": form == choice.merged,
                    "engine_version": choice.engine_version,
                    "device": choice.device,
                },
                where=where,
            )
            for form, ms in taken.items()
        ]
    return found


def main(
    model: str = "gidrn",
    scale: int = 4,
    engine: str = "ort-cpu",
    dtype: Dtype = "fp32",
    sizes: str = "80x120,270x480",
    out: Path | None = None,
) -> None:
    """Time the forms that a network's grouped convolutions can take in its file.

    Args:
        model: a network of the zoo with grouped convolutions.
        scale: 2, 3 or 4.
        engine: an engine of gidrn_runtime that is here.
        dtype: what the files compute in.
        sizes: HEIGHTxWIDTH of the inputs, with commas between.
        out: the JSON file to write; benchmarks/results/local/group_forms_... by default.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    sizes_hw = [to_onnx.parse_size(size) for size in command_line.words(sizes)]
    name = f"group_forms_{model}_x{scale}_{engine}_{records.cpu_slug()}.json"
    path = out or records.RESULTS / "local" / name
    records.check_writable(path)
    found = measure(model, scale, engine, dtype, sizes_hw)
    records.write_records(path, found)
    rows = []
    for entry in found:
        assert entry.what.size_hw is not None
        height, width = entry.what.size_hw
        figure, values = entry.figures[0], entry.values
        rows.append(
            [
                *(f"{height}x{width}", str(values["merged_groups"])),
                *(f"{figure.p50:.1f}", f"{figure.p90:.1f}", f"{values['time_over_plain']:.2f}"),
                "yes" if values["chosen"] else "",
            ]
        )
    header = ["input", "groups as one", "p50, ms", "p90, ms", "time / plain's", "chosen"]
    print(markdown_table(header, rows))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    command_line.run(main)
