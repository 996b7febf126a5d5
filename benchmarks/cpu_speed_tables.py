"""The tables of measured figures in docs/cpu-speed.md; `generated_tables.py` writes them."""

from __future__ import annotations

import functools

from benchmarks import published
from benchmarks.records import Record
from benchmarks.result_cells import Tables, lines, number, one, results, side_by_side

PROFILES = {
    (80, 120): "cpu_profile_{threads}_x4_amd-epyc",
    (270, 480): "cpu_profile_480x270_{threads}_x4_amd-epyc",
}
"""What `cpu_profile.py` measured, by the input's size."""

THREADS = {1: "1_thread", 2: "2_threads"}

SMALL_SHARE = 0.005
"""Operators that take less of a run than this stand together."""

ENGINES = {"torch-cpu": "PyTorch"}


def _profile(size_hw: tuple[int, int], threads: int, table: str) -> list[Record]:
    """The records of one table of a profile."""
    name = PROFILES[size_hw].format(threads=THREADS[threads])
    return [entry for entry in results(name) if entry.values["table"] == table]


def profile(threads: int) -> str:
    """Networks on engines: time, and rate beside that of the matrix product in the same run."""
    by_size = {hw: _profile(hw, threads, "engines") for hw in PROFILES}
    rows = []
    for pair in [entry.what for entry in by_size[80, 120]]:
        row = [published.METHODS[pair.model], ENGINES.get(pair.engine, pair.engine)]
        for found in by_size.values():
            timed = one(found, model=pair.model, engine=pair.engine)
            row += [
                f"{timed.figure('network_only_ms').p50:,.0f}",
                f"{number(timed, 'g_multiply_adds_per_s'):.1f}",
                f"{number(timed, 'share_of_product'):.0%}",
            ]
        rows.append(row)
    header = ["network", "engine"]
    for size_hw in by_size:
        header += [f"{side_by_side(size_hw)}, p50 ms", "G/s", "of the product's"]
    return lines(header, "ll" + "rrr" * len(by_size), rows)


def operators() -> str:
    """G-IDRN's operators on ONNX Runtime, one thread; their share at every size."""
    by_size = {hw: one(_profile(hw, 1, "operators"), model="gidrn") for hw in PROFILES}
    shares = {hw: _shares(entry) for hw, entry in by_size.items()}
    whole = by_size[80, 120]
    rows, rest = [], list[str]()
    for kind in shares[80, 120]:
        if max(share.get(kind, 0.0) for share in shares.values()) < SMALL_SHARE:
            rest.append(kind)
            continue
        row = [kind, f"{number(whole, f'{kind}: calls'):.0f}", f"{_ms(whole, kind):.1f}"]
        row += [f"{share.get(kind, 0.0):.1%}" for share in shares.values()]
        if f"{kind}: g_multiply_adds_per_s" in whole.values:
            rate = number(whole, f"{kind}: g_multiply_adds_per_s")
            product = number(whole, "product_g_multiply_adds_per_s")
            row += [f"{rate:.1f}", f"{rate / product:.0%}"]
        else:
            row += ["", ""]
        row += [f"{number(whole, f'{kind}: mib'):.0f}", f"{number(whole, f'{kind}: gb_per_s'):.0f}"]
        rows.append(row)
    calls = sum(number(whole, f"{kind}: calls") for kind in rest)
    rows.append(
        [
            *(f"{len(rest)} others", f"{calls:.0f}"),
            f"{sum(_ms(whole, kind) for kind in rest):.1f}",
            *(f"{sum(share.get(kind, 0.0) for kind in rest):.1%}" for share in shares.values()),
            *("", "", f"{sum(number(whole, f'{kind}: mib') for kind in rest):.0f}", ""),
        ]
    )
    header = ["operator", "calls", f"{side_by_side((80, 120))}, ms"]
    header += [f"{side_by_side(size_hw)}, share" for size_hw in by_size]
    header += ["G/s", "of the product's", "MiB", "GB/s"]
    return lines(header, "lrr" + "r" * len(by_size) + "rrrr", rows)


def _ms(entry: Record, kind: str) -> float:
    return entry.figure(f"{kind}: ms").p50


def _shares(entry: Record) -> dict[str, float]:
    """Of a run's time, by operator, the largest first."""
    ms = {figure.name.removesuffix(": ms"): figure.p50 for figure in entry.figures}
    whole = sum(ms.values())
    return {kind: ms[kind] / whole for kind in sorted(ms, key=ms.__getitem__, reverse=True)}


def kernels() -> str:
    """The native engine's kernels on rows in the caches."""
    entry = one(_profile((80, 120), 1, "kernels"), model="gidrn")
    rows = []
    for figure in entry.figures:
        name = figure.name.removesuffix(": us")
        rate = entry.values.get(f"{name}: g_multiply_adds_per_s")
        rows.append([name, f"{min(figure.samples):.1f}", "" if rate is None else f"{rate:.1f}"])
    return lines(["kernel", "microseconds", "G multiply-adds a second"], "lrr", rows)


def memory() -> str:
    """Peak memory by size, engine and form of the attention."""
    rows = []
    for entry in results("memory_gidrn_x2_amd-epyc"):
        assert entry.what.size_hw is not None
        rows.append(
            [
                *(
                    side_by_side(entry.what.size_hw),
                    entry.what.engine,
                    str(entry.values["attention"]),
                ),
                f"{number(entry, 'peak_memory_mib'):,.0f}",
            ]
        )
    return lines(["input", "engine", "attention", "peak MiB"], "lllr", rows)


TABLES: Tables = {
    "memory": memory,
    "profile_1_thread": functools.partial(profile, 1),
    "profile_2_threads": functools.partial(profile, 2),
    "operators": operators,
    "native_kernels": kernels,
}
