"""Ways of enlarging, each timed on two small frames: what a frame of the true size will take."""

from __future__ import annotations

import dataclasses
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import low_images, records, turns
from benchmarks.low_images import smooth_noise
from benchmarks.records import Figure, How, Record, Value, What, Where
from gidrn_runtime import Upscaler, engine_choice, engines, memory, models
from gidrn_runtime.errors import EngineUnavailable, FrameTooLargeError

SMALL_S = 0.05
"""What the smaller of the two timed frames takes, about; the larger has four times its pixels."""

RUNS = 5
"""Of each frame, after a warm-up; the median counts."""

LEAST_SIDE = 16
"""Of an input that is worth a mention."""

Enlarge = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Line:
    """Seconds a frame over its pixels."""

    fixed_s: float
    a_pixel_s: float

    @classmethod
    def through(cls, small: tuple[int, float], large: tuple[int, float]) -> Line:
        """Through two pairs of pixels and seconds; neither part is below 0."""
        (pixels, seconds), (more, longer) = small, large
        slope = (longer - seconds) / (more - pixels) if more > pixels else 0.0
        slope = min(max(slope, 0.0), longer / more) or longer / more
        return cls(max(0.0, longer - slope * more), slope)

    def seconds(self, pixels: float) -> float:
        """Of a frame with so many pixels."""
        return self.fixed_s + self.a_pixel_s * pixels

    def pixels(self, seconds: float) -> float:
        """That a frame may have; 0 where even the fixed part is too long."""
        return max(0.0, seconds - self.fixed_s) / self.a_pixel_s


@dataclass(frozen=True)
class Option:
    """One way of enlarging, timed."""

    model: str
    engine: str
    precision: str
    threads: int | None
    line: Line
    tile_hw: tuple[int, int] | None = None
    """Tiles that a frame of the true size is cut into; None where it is run whole."""
    tile_engine: str = ""
    """That runs them."""
    work_pixels: int = 0
    """Pixels that the network sees for such a frame, those of tiles' halos and rounds included."""
    memory_mib: int | None = None
    """That a frame run whole takes, by the runtime's forecast; None where it has none, or where the
    frame is cut into tiles that fit what is free."""
    unfit: str = ""
    """Why a frame of the true size cannot be enlarged; empty where it can."""

    @property
    def seconds(self) -> float:
        """Forecast of a frame of the true size."""
        return math.inf if self.unfit else self.line.seconds(self.work_pixels)

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.model} on {self.engine}, {threads_text(self.threads)}"


def fitting_size(size_hw: tuple[int, int], pixels: float) -> tuple[int, int] | None:
    """The largest size of about this shape, sides even, with at most so many pixels.

    None where a side would be below `LEAST_SIDE`.
    """
    part = min(1.0, math.sqrt(pixels / (size_hw[0] * size_hw[1])))
    height, width = (int(side * part) // 2 * 2 for side in size_hw)
    return None if min(height, width) < LEAST_SIDE else (height, width)


def factor_of(model: str) -> int:
    """That a shipped model's name ends with; 0 for another name."""
    factor = model.rpartition("_x")[2]
    return int(factor) if factor.isdecimal() else 0


def timed_options(
    names: Sequence[str],
    size_hw: tuple[int, int],
    threads: Sequence[int],
    memory_mib: int | None,
    tell: Callable[[str], None],
) -> tuple[list[Option], list[Record]]:
    """Every engine here with each of the models and numbers of threads, timed in turns.

    Raises EngineUnavailable where no engine here takes one of them.
    """
    where = records.here()
    with ExitStack() as stack:
        opened: dict[str, tuple[str, int | None, Upscaler]] = {}
        for name in names:
            for engine in [one for one in engines.that_open(models.find(name)) if _is_here(one)]:
                counts = threads if engine in engines.ON_CPU else (None,)
                for count in counts:
                    tell(f"opening {name} on {engine}, {threads_text(count)}")
                    upscale = opened_one(name, engine, count, memory_mib)
                    stack.enter_context(upscale)
                    opened[f"{name} {engine} {count}"] = (name, count, upscale)
        if not opened:
            raise EngineUnavailable(
                f"no engine for {', '.join(names)} is available here; see python -m gidrn_runtime "
                "doctor"
            )
        first = next(iter(opened.values()))[2]
        small_hw = engine_choice.timed_size(size_hw, _seconds_a_pixel(first, size_hw), SMALL_S)
        large_hw = fitting_size(size_hw, 4 * small_hw[0] * small_hw[1]) or size_hw
        times: dict[str, list[tuple[tuple[int, int], list[float]]]] = {one: [] for one in opened}
        for timed_hw in dict.fromkeys((small_hw, large_hw)):
            tell(f"timing frames of {size_text(timed_hw)}")
            runs = {key: turns.FramesOnly(upscale) for key, (_, _, upscale) in opened.items()}
            low = low_images.of_size(timed_hw, 1, RUNS)
            for key, samples in turns.in_turns(runs, low, seconds=turns.EVERY_PICTURE).items():
                times[key].append((timed_hw, samples.end_to_end_ms))
        found = [
            option_of(name, count, upscale, size_hw, times[key])
            for key, (name, count, upscale) in opened.items()
        ]
        found = [by_tile_engine(option, found) for option in found]
    return found, [
        _record(option, size_hw, times[key], where)
        for option, key in zip(found, opened, strict=True)
    ]


def opened_one(name: str, engine: str, threads: int | None, memory_mib: int | None) -> Upscaler:
    """A shipped model on an engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights: tests have such models
        return Upscaler(name, engine, threads=threads, memory_mib=memory_mib)


def _is_here(engine: str) -> bool:
    return engines.status(engine).available


def _seconds_a_pixel(upscale: Enlarge, size_hw: tuple[int, int]) -> float:
    height, width = engine_choice.timed_size(size_hw, math.inf)
    frame = smooth_noise((height, width), 0)
    return turns.warm_up(lambda: upscale(frame))[-1] / 1000 / (height * width)


def option_of(
    name: str,
    threads: int | None,
    upscale: Upscaler,
    size_hw: tuple[int, int],
    times: list[tuple[tuple[int, int], list[float]]],
) -> Option:
    points = [(h * w, statistics.median(ms) / 1000) for (h, w), ms in times]
    facts: dict[str, Any] = upscale.describe()
    pixels = size_hw[0] * size_hw[1]
    made = Option(
        *(name, upscale.engine, facts["precision"], threads),
        Line.through(points[0], points[-1]),
        work_pixels=pixels,
    )
    a_pixel = memory.bytes_per_pixel(facts["metadata"], upscale.engine, tile=False)
    whole = None if a_pixel is None else (memory.FIXED_BYTES + a_pixel * pixels) >> 20
    try:
        every = upscale.tiles_for(*size_hw)
    except FrameTooLargeError as error:
        return dataclasses.replace(made, unfit=str(error), memory_mib=whole)
    if every is None:
        return dataclasses.replace(made, memory_mib=whole)
    tile_hw, _ = _sides(every[0].rows.core, every[0].columns.core)
    seen = sum(_sides(tile.rows.window, tile.columns.window)[1] for tile in every)
    rounds = facts["tiles"]["rounds"] or 0  # over all tiles, before the last that makes the picture
    return dataclasses.replace(
        made,
        tile_hw=tile_hw,
        tile_engine=facts["tiles"]["tile_engine"] or upscale.engine,
        work_pixels=seen * (1 + rounds),
    )


def _sides(rows: slice, columns: slice) -> tuple[tuple[int, int], int]:
    """Height and width, and how many pixels that is."""
    height, width = (part.stop - part.start for part in (rows, columns))
    return (height, width), height * width


def by_tile_engine(option: Option, options: Sequence[Option]) -> Option:
    """Tiles take the time of the engine that runs them, which may be another one."""
    for one in options:
        if (one.model, one.engine, one.threads) == (
            option.model,
            option.tile_engine,
            option.threads,
        ):
            return dataclasses.replace(option, line=one.line)
    return option


def timed(enlarge: Enlarge, size_hw: tuple[int, int]) -> float:
    """Seconds of one frame: the median of some, fewer where they take long."""
    frame = smooth_noise(size_hw, 0)
    first = turns.milliseconds(lambda: enlarge(frame))
    runs = RUNS if first < 500 else 2 if first < 2000 else 1
    return statistics.median(turns.milliseconds(lambda: enlarge(frame)) for _ in range(runs)) / 1000


def _record(
    option: Option,
    size_hw: tuple[int, int],
    times: list[tuple[tuple[int, int], list[float]]],
    where: Where,
) -> Record:
    finite = math.isfinite(option.seconds)
    values: dict[str, Value] = {
        "fixed_ms": round(1000 * option.line.fixed_s, 3),
        "ns_per_pixel": round(1e9 * option.line.a_pixel_s, 2),
        "forecast_ms": round(1000 * option.seconds, 2) if finite else None,
        "tile": None if option.tile_hw is None else size_text(option.tile_hw),
        "memory_mib_forecast": option.memory_mib,
        "unfit": option.unfit,
    }
    return records.record(
        What(
            *(option.model.rpartition("_x")[0], factor_of(option.model)),
            *(option.engine, option.precision),
            size_hw=size_hw,
            weights="shipped",
            input="generated pictures",
        ),
        How(
            turns.protocol(1, turns.PAUSE_SECONDS),
            clock=turns.CLOCK,
            copies="end to end: uint8 frame in host memory to uint8 frame in host memory",
            samples=sum(len(ms) for _, ms in times),
        ),
        figures=[Figure.of(f"{size_text(timed_hw)}_ms", ms) for timed_hw, ms in times],
        values=values,
        where=dataclasses.replace(where, threads=option.threads),
    )


def size_text(size_hw: tuple[int, int]) -> str:
    """Width first, as cameras and players have it."""
    return f"{size_hw[1]}x{size_hw[0]}"


def threads_text(threads: int | None) -> str:
    return "on the GPU" if threads is None else f"{threads} thread{'s' if threads > 1 else ''}"
