"""What can be had where a frame rate cannot: smaller inputs, other factors, a ladder's rungs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from benchmarks.timed_options import (
    LEAST_SIDE,
    Enlarge,
    Line,
    Option,
    factor_of,
    fitting_size,
    opened_one,
    timed,
)
from gidrn_runtime import models
from gidrn_runtime.streams import ladder

SHARE = 0.85
"""Of a frame's time that enlarging may take: the rest is for reading, colours and showing it."""

TRUE_SIZE_S = 4.0
"""A frame of the true size is run where it is forecast to take no longer."""

TRIALS = 5
"""Sizes that are run in search of the largest input."""
CLOSE = 0.93
"""The search ends within this part of the limit, and aims at it."""
FRACTIONS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Of a frame's sides that the model still sees, on the ladder's rungs."""


@dataclass(frozen=True)
class Nearest:
    """What can be had instead."""

    kind: str
    what: str
    """In words; `model` and `engine` are what the words are about."""
    model: str
    engine: str
    threads: int | None
    size_hw: tuple[int, int]
    """Of the input."""
    seconds: float
    measured: bool

    @property
    def fps(self) -> float:
        """Frames a second, where enlarging has all of the time."""
        return 1 / self.seconds


def at_true_size(option: Option, size_hw: tuple[int, int], memory_mib: int | None) -> Nearest:
    """The option as it is, run at the true size where that is a matter of seconds."""
    if option.seconds > TRUE_SIZE_S:
        return _of(option, "frame rate", size_hw, option.seconds, measured=False)
    with opened_one(option.model, option.engine, option.threads, memory_mib) as upscale:
        return _of(option, "frame rate", size_hw, timed(upscale, size_hw))


def _of(
    option: Option, kind: str, size_hw: tuple[int, int], seconds: float, measured: bool = True
) -> Nearest:
    """An option's model, engine and threads on another input, or on the same."""
    what = option.name
    return Nearest(
        *(kind, what, option.model, option.engine, option.threads),
        *(size_hw, seconds, measured),
    )


def nearest(
    option: Option, size_hw: tuple[int, int], scale: int, fps: float, memory_mib: int | None
) -> list[Nearest]:
    """What can be had instead by the fastest option: sizes, factors and rungs of a ladder."""
    limit = SHARE / fps
    with opened_one(option.model, option.engine, option.threads, memory_mib) as upscale:
        smaller = largest_input(upscale, option.line, size_hw, limit)
        found = [] if smaller is None else [_of(option, "smaller input", *smaller)]
        found += rungs(upscale, option, size_hw, scale, limit)
    return found + _other_factors(option, size_hw, scale, memory_mib)


def largest_input(
    enlarge: Enlarge, line: Line, size_hw: tuple[int, int], limit: float
) -> tuple[tuple[int, int], float] | None:
    """The largest input that holds the rate in some trials, the first by the line, and its seconds;
    None where none does."""
    best = None
    pixels = line.pixels(limit)
    for _ in range(TRIALS):
        low_hw = fitting_size(size_hw, pixels)
        if low_hw is None or (best is not None and low_hw <= best[0]):
            break
        seconds = timed(enlarge, low_hw)
        if seconds <= limit:
            best = low_hw, seconds
            if low_hw == size_hw or seconds > CLOSE * limit:
                break
        pixels = CLOSE * low_hw[0] * low_hw[1] * limit / seconds
    return best


def _other_factors(
    option: Option, size_hw: tuple[int, int], scale: int, memory_mib: int | None
) -> list[Nearest]:
    """The same network at other factors, to an output of the same size."""
    found = []
    for name in models.shipped():
        factor = factor_of(name)
        if factor == scale or name != option.model.rpartition("_x")[0] + f"_x{factor}":
            continue
        low_hw = size_hw
        kind = f"x{factor}, bicubic from there to x{scale}"
        if factor > scale:
            low_hw = (size_hw[0] * scale // factor, size_hw[1] * scale // factor)
            kind = f"the same output by x{factor}"
        if min(low_hw) < LEAST_SIDE:
            continue
        other = dataclasses.replace(option, model=name)
        seconds = option.line.seconds(low_hw[0] * low_hw[1])
        measured = seconds <= TRUE_SIZE_S
        if measured:
            with opened_one(name, option.engine, option.threads, memory_mib) as upscale:
                enlarge = upscale if factor > scale else ladder.finished(upscale, scale)
                seconds = timed(enlarge, low_hw)
        found.append(_of(other, kind, low_hw, seconds, measured))
    return found


def rungs(
    enlarge: Enlarge, option: Option, size_hw: tuple[int, int], scale: int, limit: float
) -> list[Nearest]:
    """The best rung of a ladder that holds the rate, and bicubic alone."""
    bicubic_s = timed(ladder.bicubic(scale), size_hw)
    found = []
    for fraction in FRACTIONS:
        seconds = bicubic_s + option.line.seconds(fraction**2 * size_hw[0] * size_hw[1])
        if seconds > limit:
            continue
        seconds = timed(ladder.centred(enlarge, scale, fraction), size_hw)
        if seconds <= limit:
            what = f"the model on the middle ({fraction:g} of each side), bicubic around"
            rung = _of(option, "Stream's ladder", size_hw, seconds)
            found.append(dataclasses.replace(rung, what=what))
            break
    bicubic = Nearest(
        *("Stream's ladder", "bicubic alone", "bicubic", "opencv", None),
        *(size_hw, bicubic_s, True),
    )
    return [*found, bicubic]
