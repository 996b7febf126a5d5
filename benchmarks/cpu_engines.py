"""G-IDRN on the native engine beside its rivals on ONNX Runtime: networks and engines in turns.

All pairs of network and engine take part in one comparison a size and number of threads, so that
their ratios are of runs close in time. In the same run the rate of PyTorch's matrix product, the
most that this CPU gives to multiply-adds in FP32, is measured: G-IDRN's multiply-adds at that rate
are its floor, which Winograd's fewer multiplications may pass below.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import contenders, exported_models, fps, low_images, records, turns
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Record, What
from benchmarks.turns import Samples
from export.to_onnx import parse_size
from gidrn import command_line

REFERENCE = ("gidrn", "native")
"""The pair that the others are compared with."""

PRODUCT_SIDE = 768
"""Of the square matrices whose product gives the rate."""
PRODUCT_RUNS = 15


@dataclass(frozen=True)
class Pair:
    """A network on an engine."""

    model: str
    engine: str

    @property
    def name(self) -> str:
        return f"{self.model} {self.engine}"


def parse_pairs(text: str) -> list[Pair]:
    """ "gidrn:native,imdn:ort-cpu" as pairs. Raises ValueError for another form."""
    pairs = []
    for word in command_line.words(text):
        model, _, engine = word.partition(":")
        if not model or not engine:
            raise ValueError(f"--pairs wants NETWORK:ENGINE, such as gidrn:native, not {word!r}")
        if contenders.choose(engine, "cpu").on_gpu:
            raise ValueError(f"{engine} is no engine of the CPU")
        pairs.append(Pair(model, engine))
    if Pair(*REFERENCE) not in pairs:
        raise ValueError(f"--pairs wants {':'.join(REFERENCE)} among them: it is the reference")
    return pairs


def compare(
    pairs: list[Pair],
    scale: int,
    size_hw: tuple[int, int],
    threads: int,
    runs: int,
    weights_root: Path | None,
) -> list[Record]:
    """One record a pair, all timed in turns on generated pictures of one size."""
    commit = records.commit_of(records.PROJECT)
    where = records.here(threads)
    files = {
        model: exported_models.exported(model, scale, weights_root=weights_root)
        for model in {pair.model for pair in pairs}
    }
    low = low_images.of_size(size_hw, 1, runs)
    with ExitStack() as stack:
        opened: dict[str, contenders.Runnable] = {}
        for pair in pairs:
            upscale = contenders.open_file(files[pair.model].path, pair.engine, threads)
            opened[pair.name] = contenders.OfRuntime(stack.enter_context(upscale))
        rate = product_rate(threads)
        samples = turns.in_turns(opened, low, seconds=turns.EVERY_PICTURE)
    reference = samples[Pair(*REFERENCE).name]
    return [
        records.record(
            What(
                *(pair.model, scale, pair.engine),
                size_hw=size_hw,
                weights=files[pair.model].weights,
                input=low.label,
            ),
            samples[pair.name].how(),
            figures=samples[pair.name].figures(),
            values={
                "time_over_reference": round(ratio(samples[pair.name], reference), 4),
                "reference": Pair(*REFERENCE).name,
                "product_g_multiply_adds_per_s": round(rate, 2),
                "product": f"PyTorch, float32, {PRODUCT_SIDE} cubed, best of {PRODUCT_RUNS}",
            },
            where=where,
            commit=commit,
        )
        for pair in pairs
    ]


def product_rate(threads: int) -> float:
    """Multiply-adds a second, in G, of PyTorch's FP32 matrix product: the best of some runs."""
    with contenders.torch_settings(threads):
        a, b = (torch.rand(PRODUCT_SIDE, PRODUCT_SIDE) for _ in range(2))
        best = float("inf")
        for _ in range(PRODUCT_RUNS):
            began = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - began)
    return PRODUCT_SIDE**3 / best / 1e9


def ratio(samples: Samples, reference: Samples) -> float:
    """Median over the pictures of time over the reference's."""
    pairs = zip(samples.end_to_end_ms, reference.end_to_end_ms, strict=True)
    return statistics.median(ms / theirs for ms, theirs in pairs)


def table(found: list[Record]) -> str:
    """The records as Markdown."""
    rows = [
        [
            *(one.what.model, one.what.engine),
            "x".join(str(side) for side in one.what.size_hw or ()),
            str(one.where.threads),
            *(f"{one.figure('end_to_end_ms').p50:.1f}", f"{one.figure('end_to_end_ms').p90:.1f}"),
            f"{one.figure('network_only_ms').p50:.1f}",
            f"{one.values['time_over_reference']:.2f}",
            f"{one.values['product_g_multiply_adds_per_s']:.1f}",
            str(one.how.samples),
        ]
        for one in found
    ]
    header = ["network", "engine", "input", "threads", "p50, ms", "p90, ms", "network alone, ms"]
    over = f"time / {' '.join(REFERENCE)}'s"
    return markdown_table([*header, over, "matrix product, G/s", "samples"], rows)


def main(
    *,
    pairs: str = "gidrn:native,gidrn:ort-cpu,imdn:ort-cpu,rfdn_l:ort-cpu",
    scale: int = 4,
    sizes: str = "80x120",
    threads: str = "1,2",
    runs: int = 15,
    weights_root: Path | None = None,
    out: Path | None = None,
) -> int:
    """Time networks on engines of the CPU, in turns.

    Args:
        pairs: NETWORK:ENGINE, several.
        scale: 2, 3 or 4.
        sizes: HEIGHTxWIDTH of the inputs, several.
        threads: CPU threads of an engine, several.
        runs: Pictures a size, each of them a turn of every pair.
        weights_root: Folder of weights; by default GIDRN_WEIGHTS; without it, what ships or random
            ones, whose speed is the same.
        out: The JSON file to write; benchmarks/results/local/cpu_engines_... by default.
    """
    wanted = parse_pairs(pairs)
    if runs < 1:
        raise ValueError(f"--runs is at least 1, not {runs}")
    path = out or records.RESULTS / "local" / f"cpu_engines_x{scale}_{records.cpu_slug()}.json"
    records.check_writable(path)
    found: list[Record] = []
    for size in command_line.words(sizes):
        for count in fps.numbers(threads, "--threads"):
            found += compare(wanted, scale, parse_size(size), count, runs, weights_root)
            records.write_records(path, found)
    print(table(found))
    print(f"\nwritten to {path}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
