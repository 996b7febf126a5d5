"""Where a CPU's time goes: networks on engines, operators on ONNX Runtime, kernels of our own.

For each size and number of threads all pairs of network and engine are timed in turns, tensor to
tensor; the rate of PyTorch's matrix product in the same run says how near each comes to what the
machine gives. ONNX Runtime's time is then told apart by operators, with the bytes that these move,
and the native engine's by its kernels alone.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks import (
    contenders,
    cpu_engines,
    exported_models,
    layer_kinds,
    low_images,
    native_kernels,
    operator_times,
    records,
    turns,
)
from benchmarks.contenders import TORCH, OfTorch
from benchmarks.cpu_speed_tables import SMALL_SHARE
from benchmarks.fps import numbers
from benchmarks.markdown_table import markdown_table
from benchmarks.ncnn_network import NcnnNetwork, why_absent
from benchmarks.operator_times import KindTime
from benchmarks.records import Figure, How, Record, Value, What
from export.to_onnx import parse_size
from gidrn import command_line
from gidrn_runtime import engines
from gidrn_runtime.errors import EngineUnavailable

RUNS_ON = {"native", "ort-cpu", "openvino", "torch-cpu", "ncnn"}
"""What a network can be run on here: engines of the runtime, PyTorch, and ncnn."""
PROFILED = "ort-cpu"
WAITING = "OMP_WAIT_POLICY"
"""How OpenMP's threads wait, in the environment."""

RunTensor = Callable[[NDArray[np.float32]], object]


def totals(
    networks: Mapping[str, tuple[nn.Module, str]],
    wanted: Sequence[str],
    scale: int,
    size_hw: tuple[int, int],
    threads: int,
    runs: int,
    weights_root: Path | None,
) -> list[Record]:
    """One record a network and engine, timed in turns; what cannot be run is told and left out."""
    where = records.here(threads)
    low = low_images.of_size(size_hw, 1, runs)
    tensor = turns.prepared(low)[0].tensor
    multiply_adds = {
        name: sum(layer_kinds.multiply_adds(copy.deepcopy(network).to("meta"), size_hw).values())
        for name, (network, _) in networks.items()
    }
    with ExitStack() as stack:
        stack.enter_context(contenders.torch_settings(threads))
        opened: dict[tuple[str, str], RunTensor] = {}
        for name, (network, _) in networks.items():
            for engine in wanted:
                try:
                    opened[name, engine] = _opened(
                        *(network, name, scale, engine, size_hw, threads, weights_root, stack)
                    )
                except (ValueError, EngineUnavailable) as error:
                    print(f"{name} on {engine} left out: {error}", file=sys.stderr)
        if not opened:
            raise ValueError(f"none of {', '.join(wanted)} runs a network here")
        rate = cpu_engines.product_rate(threads)
        timed = {
            " ".join(pair): turns.FramesOnly(lambda _frames, run=run: run(tensor))  # type: ignore[misc]
            for pair, run in opened.items()
        }
        samples = turns.in_turns(timed, low, seconds=turns.EVERY_PICTURE)
        rate = max(rate, cpu_engines.product_rate(threads))  # before and after: the less disturbed
    found = []
    for name, engine in opened:
        taken = samples[f"{name} {engine}"]
        g_per_s = multiply_adds[name] / statistics.median(taken.end_to_end_ms) / 1e6
        found.append(
            records.record(
                What(
                    *(name, scale, engine),
                    size_hw=size_hw,
                    weights=networks[name][1],
                    input=low.label,
                ),
                How(
                    turns.protocol(1, turns.PAUSE_SECONDS),
                    clock=turns.CLOCK,
                    copies="float32 tensor in host memory to float32 tensor in host memory",
                    warm_up=taken.warm_up,
                    samples=len(taken.images),
                ),
                figures=[Figure.of("network_only_ms", taken.end_to_end_ms)],
                values={
                    "table": "engines",
                    "multiply_adds_g": round(multiply_adds[name] / 1e9, 3),
                    "g_multiply_adds_per_s": round(g_per_s, 2),
                    "product_g_multiply_adds_per_s": round(rate, 2),
                    "share_of_product": round(g_per_s / rate, 3),
                    WAITING: os.environ.get(WAITING),
                },
                where=where,
            )
        )
    return found


def _opened(
    network: nn.Module,
    name: str,
    scale: int,
    engine: str,
    size_hw: tuple[int, int],
    threads: int,
    weights_root: Path | None,
    stack: ExitStack,
) -> RunTensor:
    """A network opened on an engine. Raises ValueError or EngineUnavailable where it cannot be."""
    if engine == "torch-cpu":
        return OfTorch(network, TORCH["torch-fp32"], "cpu").run_tensor
    if engine == "ncnn":
        if why := why_absent():
            raise EngineUnavailable(why)
        return NcnnNetwork(network, f"{name}_x{scale}", size_hw, threads).run_tensor
    if reason := engines.status(engine).reason:
        raise EngineUnavailable(reason)
    path = exported_models.exported(name, scale, weights_root=weights_root).path
    if refusal := engines.engine_class(engine).refusal(path):
        raise ValueError(refusal)
    return stack.enter_context(contenders.open_file(path, engine, threads)).run_tensor


def operators(
    names: Iterable[str],
    scale: int,
    size_hw: tuple[int, int],
    threads: int,
    runs: int,
    weights_root: Path | None,
    rate: float,
) -> list[Record]:
    """One record a network, its operators on ONNX Runtime by kind."""
    found = []
    for name in names:
        file = exported_models.exported(name, scale, weights_root=weights_root)
        where = records.here(threads)
        kinds = operator_times.profiled(file.path, size_hw, threads, runs)
        values: dict[str, Value] = {"table": "operators", "product_g_multiply_adds_per_s": rate}
        for kind in kinds:
            values[f"{kind.kind}: calls"] = kind.calls
            values[f"{kind.kind}: mib"] = round(kind.bytes / 2**20, 2)
            values[f"{kind.kind}: gb_per_s"] = round(kind.gb_per_s, 2)
            if kind.g_per_s is not None:
                values[f"{kind.kind}: multiply_adds_g"] = round(kind.multiply_adds / 1e9, 3)
                values[f"{kind.kind}: g_multiply_adds_per_s"] = round(kind.g_per_s, 2)
        found.append(
            records.record(
                What(
                    *(name, scale, PROFILED),
                    size_hw=size_hw,
                    weights=file.weights,
                    input=low_images.of_size(size_hw, 1, 1).label,
                ),
                How(operator_times.PROTOCOL, clock="the profiler's", warm_up=2, samples=runs),
                figures=[Figure.of(f"{kind.kind}: ms", kind.ms) for kind in kinds],
                values=values,
                where=where,
            )
        )
        print(f"\n{name}, {_size(size_hw)}, {threads} thread(s), operators on {PROFILED}:\n")
        print(operator_table(kinds, rate))
    return found


def operator_table(kinds: Sequence[KindTime], rate: float) -> str:
    """The operators of a network as Markdown, small ones together."""
    whole = sum(kind.p50_ms for kind in kinds)
    shown = [kind for kind in kinds if kind.p50_ms >= SMALL_SHARE * whole]
    rest = [kind for kind in kinds if kind.p50_ms < SMALL_SHARE * whole]
    rows = [
        [
            *(kind.kind, str(kind.calls), f"{kind.p50_ms:.2f}", f"{kind.p50_ms / whole:.1%}"),
            "" if kind.g_per_s is None else f"{kind.g_per_s:.1f}",
            "" if kind.g_per_s is None else f"{kind.g_per_s / rate:.0%}",
            *(f"{kind.bytes / 2**20:.1f}", f"{kind.gb_per_s:.1f}"),
        ]
        for kind in shown
    ]
    if rest:
        ms, moved = sum(kind.p50_ms for kind in rest), sum(kind.bytes for kind in rest)
        rows.append(
            [
                *(f"{len(rest)} others", str(sum(kind.calls for kind in rest)), f"{ms:.2f}"),
                *(f"{ms / whole:.1%}", "", "", f"{moved / 2**20:.1f}", f"{moved / ms / 1e6:.1f}"),
            ]
        )
    header = ["operator", "calls", "ms", "share", "G multiply-adds/s", "of the product's"]
    return markdown_table([*header, "MiB moved", "GB/s"], rows)


def totals_table(found: Iterable[Record]) -> str:
    """Networks on engines as Markdown."""
    rows = [
        [
            *(one.what.model, one.what.engine, _size(one.what.size_hw or (0, 0))),
            *(str(one.where.threads), f"{one.figure('network_only_ms').p50:.1f}"),
            f"{one.figure('network_only_ms').p90:.1f}",
            *(str(one.values["multiply_adds_g"]), str(one.values["g_multiply_adds_per_s"])),
            f"{one.values['share_of_product']:.0%}",
        ]
        for one in found
    ]
    header = ["network", "engine", "input", "threads", "p50, ms", "p90, ms", "G multiply-adds"]
    return markdown_table([*header, "G/s", "of the matrix product's"], rows)


def kernels() -> Record | None:
    """The native engine's kernels; None, with the reason told, where they cannot be timed."""
    import hatch_build

    try:
        where = records.here(1)
        instructions, found = native_kernels.measure()
    except (EngineUnavailable, hatch_build.NoCompilerError) as error:
        print(f"native's kernels left out: {error}", file=sys.stderr)
        return None
    rows = [
        [one.name, f"{min(one.us):.1f}", "" if one.g_per_s is None else f"{one.g_per_s:.1f}"]
        for one in found
    ]
    print(f"\nnative's kernels, {instructions}, one core:\n")
    print(markdown_table(["kernel", "microseconds, best", "G multiply-adds/s"], rows))
    values: dict[str, Value] = {"table": "kernels", "instructions": instructions}
    for one in found:
        if one.g_per_s is not None:
            values[f"{one.name}: g_multiply_adds_per_s"] = round(one.g_per_s, 2)
    return records.record(
        What("gidrn", 4, "native", input="made-up rows"),
        How(native_kernels.PROTOCOL, clock="std::chrono::steady_clock", samples=len(found[0].us)),
        figures=[Figure.of(f"{one.name}: us", one.us) for one in found],
        values=values,
        where=where,
    )


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"


def main(
    *,
    models: str = "gidrn,imdn,rfdn_l",
    engine: str = "native,ort-cpu,openvino,ncnn,torch-cpu",
    scale: int = 4,
    sizes: str = "80x120",
    threads: str = "1,2",
    runs: int = 15,
    weights_root: Path | None = None,
    out: Path | None = None,
) -> int:
    """Profile networks on the CPU: totals by engine, operators on ONNX Runtime, native's kernels.

    Args:
        models: Networks of the zoo, several.
        engine: native, ort-cpu, openvino, ncnn and torch-cpu, several; one that is not here is told
            and left out.
        scale: 2, 3 or 4.
        sizes: HEIGHTxWIDTH of the inputs, several.
        threads: CPU threads, several.
        runs: Timed runs of each pair, and of each profile.
        weights_root: Folder of weights; by default GIDRN_WEIGHTS; without it, what ships or random
            ones, whose speed is the same.
        out: The JSON file to write; benchmarks/results/local/cpu_profile_... by default.
    """
    wanted = list(command_line.words(engine))
    for name in wanted:
        if name not in RUNS_ON:
            raise ValueError(f"--engine wants {', '.join(sorted(RUNS_ON))}, not {name!r}")
    if runs < 1:
        raise ValueError(f"--runs is at least 1, not {runs}")
    path = out or records.RESULTS / "local" / f"cpu_profile_x{scale}_{records.cpu_slug()}.json"
    records.check_writable(path)
    networks = {}
    for name in command_line.words(models):
        network, weights, _ = exported_models.with_weights(name, scale, weights_root)
        networks[name] = network.eval(), weights
    found: list[Record] = []
    for size in command_line.words(sizes):
        size_hw = parse_size(size)
        for count in numbers(threads, "--threads"):
            some = totals(networks, wanted, scale, size_hw, count, runs, weights_root)
            print(f"\n{totals_table(some)}")
            found += some
            if PROFILED in wanted:
                rate = float(str(some[0].values["product_g_multiply_adds_per_s"]))
                found += operators(networks, scale, size_hw, count, runs, weights_root, rate)
            records.write_records(path, found)
    if "native" in wanted and (record := kernels()) is not None:
        records.write_records(path, [*found, record])
    print(f"\nwritten to {path}")
    return 0


def sleeping_threads() -> None:
    """Start this script anew with OpenMP's threads asleep while they wait, unless that is so.

    PyTorch and ncnn bring an OpenMP each, whose threads spin between runs and take the cores from
    whoever is next: ncnn then needed up to twenty times as long on two threads. OpenMP reads the
    variable when it is loaded.
    """
    if WAITING not in os.environ:
        os.environ[WAITING] = "passive"
        os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    sleeping_threads()
    command_line.run(main)
