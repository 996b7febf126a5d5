"""Choose for me: which model, engine, precision, tiles and threads hold a frame rate here.

Every engine that takes a shipped model of the factor is timed on two small frames, for several
numbers of threads, all in turns. A straight line through the two times, a part that is fixed and a
part a pixel, gives the time of a whole frame; what is recommended is then run at its true size,
where that is a matter of seconds, and the figures say which is measured and which is forecast.

Where nothing holds the rate, it says what comes nearest: the rate that is reached, the largest
input that holds it, the same output from a smaller input by a larger factor, a lower factor
finished bicubically, and the rungs of a `Stream`'s quality ladder.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import records, turns
from benchmarks.fps import numbers
from benchmarks.markdown_table import markdown_table
from benchmarks.nearest_ways import SHARE, Nearest, at_true_size, nearest
from benchmarks.records import How, Record, What, Where
from benchmarks.timed_options import (
    Option,
    factor_of,
    size_text,
    timed_options,
)
from gidrn import command_line
from gidrn_runtime import console, models, processor
from gidrn_runtime.errors import EngineError, EngineUnavailable


def recommend(options: Iterable[Option], fps: float) -> Option | None:
    """Of those that hold the rate the one with the fewest threads, and of these the fastest."""
    able = [option for option in options if option.seconds <= SHARE / fps]
    return min(able, key=lambda o: (o.threads or processor.usable_cores(), o.seconds), default=None)


def fastest(options: Iterable[Option]) -> Option:
    """The one with the shortest time at the true size, or a pixel where none can have it."""
    return min(options, key=lambda option: (option.seconds, option.line.a_pixel_s))


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, … and all."""
    return sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})


def shipped_of(scale: int) -> list[str]:
    """Names of the shipped models of a factor. Raises ValueError where there is none."""
    factors_of = {name: factor_of(name) for name in models.shipped()}
    names = [name for name, factor in factors_of.items() if factor == scale]
    if not names:
        factors = ", ".join(map(str, sorted(set(factors_of.values())))) or "none"
        raise ValueError(f"no shipped model enlarges by {scale}; factors that ship: {factors}")
    return names


def table(options: Sequence[Option], fps: float) -> str:
    """The options as Markdown, the fastest first."""
    rows = [
        [
            *(option.model, option.engine, option.precision),
            "-" if option.threads is None else str(option.threads),
            "whole" if option.tile_hw is None else f"tiles {size_text(option.tile_hw)}",
            "-" if option.memory_mib is None else str(option.memory_mib),
            "does not fit" if option.unfit else f"{1000 * option.seconds:.1f}",
            "-" if option.unfit else f"{1 / option.seconds:.3g}",
            "yes" if option.seconds <= SHARE / fps else "no",
        ]
        for option in sorted(options, key=lambda one: one.seconds)
    ]
    header = ["model", "engine", "precision", "threads", "frame", "MiB, forecast"]
    return markdown_table([*header, "ms, forecast", "frames/s", f"holds {fps:g}/s"], rows)


def _nearest_text(one: Nearest) -> str:
    how = "measured" if one.measured else "forecast"
    return (
        f"- {one.kind}: {size_text(one.size_hw)} in, {one.what}: {one.fps:.3g} frames/s "
        f"({1000 * one.seconds:.1f} ms, {how})"
    )


def main(
    *,
    input: str = "1280x720",  # noqa: A002 - the option's name
    fps: float = 30.0,
    scale: int = 2,
    threads: str | None = None,
    memory_mib: int | None = None,
    out: Path | None = None,
) -> int:
    """Recommend model, engine, precision, tiles and threads for a camera, or say what is nearest.

    Args:
        input: WIDTHxHEIGHT of the frames that come in.
        fps: Frames a second to hold.
        scale: The factor: one that a shipped model has.
        threads: CPU threads to try, several; by default 1, 2, 4, … and all cores.
        memory_mib: What a run may take; by default most of what is free.
        out: The JSON file to write; benchmarks/results/local/choose_... by default.

    Returns:
        0 where the rate can be held, 3 where it cannot.
    """
    try:
        size_hw = console.frame_size_hw(input)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--input: {error}") from error
    if not 0 < fps < math.inf:
        raise ValueError(f"--fps is above 0, not {fps}")
    names = shipped_of(scale)
    counts = thread_counts(processor.usable_cores())
    if threads is not None:
        counts = list(numbers(threads, "--threads"))
    name = f"choose_{input}_x{scale}_{records.cpu_slug()}.json"
    path = out or records.RESULTS / "local" / name
    records.check_writable(path)
    where = records.here()
    try:
        options, found = timed_options(names, size_hw, counts, memory_mib, print)
        text, others = answer(options, size_hw, scale, fps, memory_mib)
    except (EngineUnavailable, EngineError) as error:
        raise ValueError(str(error)) from error
    records.write_records(path, [*found, *_answer_records(others, scale, fps, where)])
    print(f"\n{table(options, fps)}\n\n{text}\n\nwritten to {path}")
    return 0 if others[0].seconds <= SHARE / fps else 3


def answer(
    options: Sequence[Option],
    size_hw: tuple[int, int],
    scale: int,
    fps: float,
    memory_mib: int | None,
) -> tuple[str, list[Nearest]]:
    """The verdict in words, and what it rests on: first the recommended or fastest option at the
    true size, then what comes nearest, where that does not hold the rate."""
    limit = SHARE / fps
    wish = f"{size_text(size_hw)} by {scale} at {fps:g} frames/s"
    able = list(options)
    while (option := recommend(able, fps)) is not None:
        result = at_true_size(option, size_hw, memory_mib)
        if result.seconds <= limit:
            return f"{wish}: yes. {_advice(option, result)}", [result]
        able.remove(option)  # the line promised too much: the next one
    best = fastest(options)
    result = at_true_size(best, size_hw, memory_mib)
    if result.seconds <= limit:  # the line was too careful
        return f"{wish}: yes. {_advice(best, result)}", [result]
    others = sorted(
        nearest(best, size_hw, scale, fps, memory_mib), key=lambda one: one.seconds > limit
    )
    how = "measured" if result.measured else "forecast"
    reached = (
        f"does not fit: {best.unfit}"
        if best.unfit
        else f"reaches {result.fps:.3g} frames/s ({how}), {result.seconds / limit:.1f} times too "
        f"slow: enlarging may take {1000 * limit:.1f} ms of a frame"
    )
    holding = [one for one in others if one.seconds <= limit]
    lines = [f"{wish}: it cannot be had here. The fastest, {best.name}, {reached}."]
    lines += ["What holds the rate:", *map(_nearest_text, holding)]
    lines += [] if holding else ["- nothing that was tried"]
    rest = [one for one in others if one.seconds > limit]
    lines += ["What does not:", *map(_nearest_text, rest)] if rest else []
    return "\n".join(lines), [result, *others]


def _advice(option: Option, result: Nearest) -> str:
    """The recommendation as a line of code and its figures."""
    how = "measured" if result.measured else "forecast"
    count = "" if option.threads is None else f", threads={option.threads}"
    frame = "whole" if option.tile_hw is None else f"in tiles of {size_text(option.tile_hw)}"
    taken = "" if option.memory_mib is None else f", about {option.memory_mib} MiB"
    return (
        f'Take Upscaler("{option.model}", engine="{option.engine}"{count}): {option.precision}, '
        f"frames {frame}, {1000 * result.seconds:.1f} ms a frame, {result.fps:.3g} frames/s "
        f"({how}){taken}."
    )


def _answer_records(
    others: Sequence[Nearest], scale: int, fps: float, where: Where
) -> list[Record]:
    """One record a way that was looked at; the first is the recommended or fastest one."""
    best = others[0]
    return [
        records.record(
            What(
                *(one.model.rpartition("_x")[0] or one.model, factor_of(one.model) or scale),
                one.engine,
                size_hw=one.size_hw,
                weights="none" if one.engine == "opencv" else "shipped",
                input="generated pictures",
            ),
            How("median of some runs" if one.measured else "forecast", clock=turns.CLOCK),
            values={
                "kind": "recommended" if one is best and _holds(one, fps) else one.kind,
                "what": one.what,
                "ms": round(1000 * one.seconds, 2) if math.isfinite(one.seconds) else None,
                "measured": one.measured,
                "fps_wanted": fps,
                "holds": _holds(one, fps),
            },
            where=dataclasses.replace(where, threads=one.threads),
        )
        for one in others
    ]


def _holds(one: Nearest, fps: float) -> bool:
    return one.seconds <= SHARE / fps


if __name__ == "__main__":
    command_line.run(main)
