"""Plots as SVG for a page that loads nothing: points, lines and bars, coloured by the page's style.

Every mark has a tooltip with its figures. Measured marks are filled, published ones hollow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 46
"""Margins around the field."""

LETTER, BOLD_LETTER = 6.2, 7.2
"""Width of a label's letter: an estimate, to keep labels off each other."""

ROOM_FOR_NAMES = 0.25
"""Share by which the axis of lines goes on beyond their ends, where their names stand."""

BAR = 20
"""Height of a bar with its gap."""


@dataclass(frozen=True)
class Point:
    """A mark with a label."""

    label: str
    x: float
    y: float
    is_ours: bool = False
    is_published: bool = False


@dataclass(frozen=True)
class Bar:
    """A measured length beside a published one, or either alone."""

    label: str
    measured: float | None
    published: float | None = None
    is_ours: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: what stands along it, from where to where, and where its figures are."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool

    def share(self, value: float) -> float:
        """0 at the axis's beginning, 1 at its end."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis(title: str, values: Sequence[float], *, is_log: bool = False) -> Axis:
    """An axis that holds all values, with round figures; one that is `is_log` wants values > 0."""
    low, high = min(values), max(values)
    if is_log:
        low, high = low / 1.25, high * 1.25
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    else:
        space = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        low, high = low - space, high + space
        step = 10.0 ** math.floor(math.log10((high - low) / 4))
        step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
        ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(title, low, high, tuple(t for t in ticks if low <= t <= high), is_log)


def scatter(title: str, points: Sequence[Point], *, x: str, y: str, log_x: bool = False) -> str:
    """Points with their labels, each beside its point where there is room."""
    along = axis(x, [point.x for point in points], is_log=log_x)
    up = axis(y, [point.y for point in points])
    places = [_place(along, up, point.x, point.y) for point in points]
    taken = [(cx - 5, cy - 5, cx + 5, cy + 5) for cx, cy in places]
    marks = []
    for point, (cx, cy) in zip(points, places, strict=True):
        tip = f"{point.label}: {_figure(point.x)} {x}, {_figure(point.y, 4)} {y}"
        kind = _kind(point.is_ours, point.is_published)
        marks.append(
            f'<circle class="{kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="5">'
            f"<title>{escape(tip)}</title></circle>"
        )
        letter = BOLD_LETTER if point.is_ours else LETTER
        tx, ty = _free_place(len(point.label) * letter, cx, cy, taken)
        strong = ' class="strong"' if point.is_ours else ""
        marks.append(f'<text{strong} x="{tx:.1f}" y="{ty:.1f}">{escape(point.label)}</text>')
    return _svg(title, HEIGHT, _frame(along, up) + "".join(marks))


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    is_log: bool = False,
) -> str:
    """A line a series, each named at its end; both axes logarithmic where `is_log`."""
    every = [pair for pairs in series.values() for pair in pairs]
    along = axis(x, [pair[0] for pair in every], is_log=is_log)
    if is_log:
        along = replace(along, high=along.high * (along.high / along.low) ** ROOM_FOR_NAMES)
    else:
        along = replace(along, high=along.high + (along.high - along.low) * ROOM_FOR_NAMES)
    up = axis(y, [pair[1] for pair in every], is_log=is_log)
    marks = []
    taken: list[tuple[float, float, float, float]] = []
    for number, (name, pairs) in enumerate(series.items()):
        places = [_place(along, up, *pair) for pair in pairs]
        path = " ".join(f"{cx:.1f},{cy:.1f}" for cx, cy in places)
        marks.append(f'<polyline class="line s{number % 6}" points="{path}"/>')
        for (cx, cy), (value_x, value_y) in zip(places, pairs, strict=True):
            tip = f"{name}: {_figure(value_x)} {x}, {_figure(value_y, 4)} {y}"
            marks.append(
                f'<circle class="dot s{number % 6}" cx="{cx:.1f}" cy="{cy:.1f}" r="4">'
                f"<title>{escape(tip)}</title></circle>"
            )
        tx, ty = _free_place(len(name) * LETTER, *places[-1], taken)
        marks.append(f'<text class="s{number % 6}" x="{tx:.1f}" y="{ty:.1f}">{escape(name)}</text>')
    return _svg(title, HEIGHT, _frame(along, up) + "".join(marks))


def bars(title: str, found: Sequence[Bar], *, unit: str) -> str:
    """Horizontal bars from 0: what was measured, and below it, hollow, what is printed."""
    lengths = [v for bar in found for v in (bar.measured, bar.published) if v is not None]
    most = max(lengths)
    least = min(0.0, *lengths)
    left = 12 + max(len(bar.label) for bar in found) * BOLD_LETTER
    right = WIDTH - 70

    def at(value: float) -> float:
        return left + (right - left) * (value - least) / ((most - least) or 1.0)

    marks = [f'<line class="axis" x1="{at(0):.1f}" y1="4" x2="{at(0):.1f}" y2="HEIGHT"/>']
    top = 10.0
    for bar in found:
        middle = top + BAR * sum(v is not None for v in (bar.measured, bar.published)) / 2
        strong = ' class="strong"' if bar.is_ours else ""
        marks.append(
            f'<text{strong} x="{left - 6:.1f}" y="{middle + 1:.1f}" text-anchor="end">'
            f"{escape(bar.label)}</text>"
        )
        for value, is_published in ((bar.measured, False), (bar.published, True)):
            if value is None:
                continue
            begin, end = sorted((at(0), at(value)))
            tip = f"{bar.label}, {'the paper' if is_published else 'here'}: {value:g} {unit}"
            marks.append(
                f'<rect class="{_kind(bar.is_ours, is_published)}" x="{begin:.1f}" y="{top:.1f}" '
                f'width="{max(end - begin, 1):.1f}" height="{BAR - 6}"><title>{escape(tip)}</title>'
                f'</rect><text x="{max(end, at(0)) + 5:.1f}" y="{top + BAR - 9:.1f}">'
                f"{_figure(value)}</text>"
            )
            top += BAR
        top += 8
    return _svg(title, top + 4, "".join(marks).replace("HEIGHT", f"{top:.0f}"))


def _kind(is_ours: bool, is_published: bool) -> str:
    return ("ours" if is_ours else "rival") + (" printed" if is_published else "")


def _figure(value: float, decimals: int = 3) -> str:
    """Four digits, so many of them behind the point at most, without an exponent."""
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(digits, decimals)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _place(along: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + width * along.share(x), TOP + height * (1 - up.share(y))


def _free_place(
    width: float,
    cx: float,
    cy: float,
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Where a label so wide begins, beside (cx, cy) and off what is taken; it takes its place."""
    places = [
        (cx + 9, cy + 4),
        (cx - 9 - width, cy + 4),
        (cx - width / 2, cy - 9),
        (cx - width / 2, cy + 17),
        (cx + 7, cy - 7),
        (cx + 7, cy + 15),
        (cx - 7 - width, cy - 7),
        (cx - 7 - width, cy + 15),
        (cx - width / 2, cy - 22),
        (cx - width / 2, cy + 30),
    ]

    def overlap(place: tuple[float, float]) -> float:
        x, y = place
        box = (x, y - 11, x + width, y + 3)
        outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH + 2)
        outside += max(0.0, TOP - 12 - box[1]) + max(0.0, box[3] - HEIGHT + BOTTOM)
        return 20 * outside + sum(
            max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
            * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
            for other in taken
        )

    x, y = min(places, key=overlap)  # the first of equals
    taken.append((x, y - 11, x + width, y + 3))
    return x, y


def _frame(along: Axis, up: Axis) -> str:
    """Grid, figures and titles of both axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in along.ticks:
        x, _ = _place(along, up, tick, up.low)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">'
            f"{_figure(tick, 4)}</text>"
        )
    for tick in up.ticks:
        _, y = _place(along, up, along.low, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_figure(tick, 4)}</text>"
        )
    parts.append(
        f'<text class="axis-title" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(along.title)}</text>'
    )
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text class="axis-title" x="14" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle})">{escape(up.title)}</text>'
    )
    parts.append(
        f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
    )
    return "".join(parts)


def _svg(title: str, height: float, content: str) -> str:
    return (
        f'<figure class="plot"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg></figure>"
    )
