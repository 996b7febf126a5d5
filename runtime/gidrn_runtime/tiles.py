"""Frames in tiles, as exact as the network allows.

A network of known reach needs no more than a halo: a tile with so many pixels of its surroundings,
cut off at the frame's borders and nowhere else, gives the frame's own pixels.

Networks with contrast attention (CCA) and a pyramid-pooled attention (ANRB) look at the whole frame
as well, at a few numbers of it, its *statistics*. Their tile file (`export/to_onnx.py --tiles`,
`export/rewrites/tiles.py` has the formulas) is told them and says each tile's part, and the parts
merge exactly. The i-th statistic depends on those before it, so it takes rounds: a round looks at
every tile once, told the statistics of the round before, and with as many rounds as there are
statistics all of them are the whole frame's. They settle far sooner: a few tiles spread over the
frame are enough to begin with (`sample`), and each round makes what is left smaller.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime.engines.base import Engine, Tensor
from gidrn_runtime.errors import ModelError
from gidrn_runtime.models import TILES_FORMAT

Doubles = npt.NDArray[np.float64]
Read = Callable[[slice, slice], Tensor]
"""Rows and columns of the frame -> these as float32 RGB (1, 3, h, w) in [0, 1]."""
Write = Callable[[slice, slice, Tensor], None]
"""Takes rows and columns of the output, and their values (1, 3, h, w)."""

ROUNDS = 2
"""Rounds over all tiles before the last, which makes the picture."""
SAMPLE_SIDE, SAMPLE_SHARE, SAMPLE_CHANGE = 64, 0.05, 0.02
"""The first round begins with the statistics of small tiles spread over the frame: their side, what
a round over them may cost as a share of one over the whole frame, and the relative change of the
statistics at which their rounds, some five, are over."""
VARIANCE_FLOOR = 1e-12
"""Of the networks' contrast: see `gidrn/networks/attention.py`."""


@dataclass(frozen=True)
class Span:
    """A tile's place on one axis, in input pixels."""

    core: slice
    """What is this tile's and no other's."""
    window: slice
    """What the network sees: the core and a halo."""

    @property
    def inner(self) -> slice:
        """Where the core lies in the window."""
        return slice(self.core.start - self.window.start, self.core.stop - self.window.start)


@dataclass(frozen=True)
class Tile:
    """A tile's place in a frame."""

    rows: Span
    columns: Span


def spans(length: int, side: int, halo: int) -> list[Span]:
    """Cut an axis into tiles of about `side` pixels with a halo of at least `halo` around.

    The windows are all of one length, `side` and two halos or all there is, and evenly spread; a
    window ends where the axis ends. Raises ValueError for a side below 1 or a negative halo.
    """
    if side < 1 or halo < 0:
        raise ValueError(
            f"a tile has a side of at least 1 and no negative halo, not {side}, {halo}"
        )
    window = min(length, side + 2 * halo)
    count = 1 if window == length else -(-(length - 2 * halo) // side)
    starts = [(length - window) * i // max(1, count - 1) for i in range(count)]
    # Neighbours meet in the middle of what both see: at least a halo from either's edge.
    edges = [0, *((a + window + b) // 2 for a, b in itertools.pairwise(starts)), length]
    return [
        Span(slice(a, b), slice(start, start + window))
        for a, b, start in zip(edges, edges[1:], starts, strict=False)
    ]


def grid(size_hw: tuple[int, int], side_hw: tuple[int, int], halo: int) -> list[Tile]:
    """The tiles of a frame, row by row."""
    rows, columns = (spans(a, b, halo) for a, b in zip(size_hw, side_hw, strict=True))
    return [Tile(y, x) for y in rows for x in columns]


def sample(size_hw: tuple[int, int], halo: int) -> list[Tile]:
    """A few small tiles spread over a frame, at least one: see `SAMPLE_SHARE`."""
    area = SAMPLE_SHARE * size_hw[0] * size_hw[1]
    count = max(1, int(area**0.5 / (SAMPLE_SIDE + 2 * halo)))

    def spread(length: int) -> list[Span]:
        every = spans(length, SAMPLE_SIDE, halo)
        chosen = sorted({(2 * i + 1) * len(every) // (2 * count) for i in range(count)})
        return [every[i] for i in chosen]

    rows, columns = (spread(length) for length in size_hw)
    return [Tile(y, x) for y in rows for x in columns]


@dataclass(frozen=True)
class Statistic:
    """What a tile file is told, and says its part of."""

    kind: str
    """``contrast`` or ``points``."""
    shape: tuple[int, ...]
    """Of what it is told."""
    reach: int
    """In input pixels, of the features that it is taken of."""


class TileFile:
    """A tile file opened on an engine. Holds nothing of a frame: threads may share it."""

    def __init__(self, engine: Engine, path: object) -> None:
        """Raises ModelError where `engine`'s file is no tile file."""
        self._engine = engine
        said = self.metadata = engine.metadata
        try:
            if said["format"] != TILES_FORMAT:
                raise KeyError("format")
            self.scale = int(said["scale"])
            self.reach = int(said["reach"])
            self.pool_sizes = tuple(int(size) for size in json.loads(said["pool_sizes"]))
            self.statistics = tuple(
                Statistic(str(one["kind"]), tuple(one["shape"]), int(one["reach"]))
                for one in json.loads(said["statistics"])
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ModelError(
                f"{path} is no tile file of format {TILES_FORMAT!r} ({error}); make one with: "
                "python export/to_onnx.py --tiles"
            ) from error
        self._said = [f"said_{i}" for i in range(len(self.statistics))]

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._engine.close()

    def settle(
        self,
        read: Read,
        size_hw: tuple[int, int],
        tiles: Sequence[Tile],
        rounds: int,
        after_tile: Callable[[], None] = lambda: None,
    ) -> list[Tensor]:
        """A frame's statistics after so many rounds: exact with one for each of them.

        With fewer, a sample of the frame is settled first, and its statistics begin. `after_tile`
        is called after each of `tiles` in each round.
        """

        def watched() -> Iterator[Tile]:
            for tile in tiles:
                yield tile
                after_tile()

        told = [np.zeros(one.shape, np.float32) for one in self.statistics]
        if rounds < len(self.statistics):
            part = sample(size_hw, self.reach)
            for _ in self.statistics:
                before, told = told, self.round(read, size_hw, part, told)
                if _change(before, told) < SAMPLE_CHANGE:
                    break
        for _ in range(min(rounds, len(self.statistics))):
            told = self.round(read, size_hw, watched(), told)
        return told

    def round(
        self, read: Read, size_hw: tuple[int, int], tiles: Iterable[Tile], told: list[Tensor]
    ) -> list[Tensor]:
        """The statistics over the cores of `tiles`, each tile being told `told`."""
        pools = [_windows(side, self.pool_sizes) for side in size_hw]
        moments = {i: Moments() for i, one in enumerate(self.statistics) if one.kind == "contrast"}
        points = Points(self.pool_sizes)
        for tile in tiles:
            parts = self._engine.run_ends(self._said, self._ends(read, tile, told, pools))
            count = _length(tile.rows.core) * _length(tile.columns.core)
            for i, part in enumerate(parts):
                if i in moments:
                    moments[i].add(count, *part.astype(np.float64))
                else:
                    points.add(part, pools[0][:, tile.rows.core], pools[1][:, tile.columns.core])
        return [
            (moments[i].contrast() if i in moments else points.values())
            .astype(np.float32)
            .reshape(one.shape)
            for i, one in enumerate(self.statistics)
        ]

    def enlarge(self, read: Read, tile: Tile, told: list[Tensor]) -> Tensor:
        """The output of a tile's core: (1, 3, s*h, s*w)."""
        high = self._engine.run_ends(["output"], self._ends(read, tile, told, []))[0]
        rows, columns = (scaled(span.inner, self.scale) for span in (tile.rows, tile.columns))
        core: Tensor = high[:, :, rows, columns]
        return core

    def _ends(
        self, read: Read, tile: Tile, told: list[Tensor], pools: list[Doubles]
    ) -> dict[str, Any]:
        rows, columns = (_core_weights(span) for span in (tile.rows, tile.columns))
        ends = {
            "input": read(tile.rows.window, tile.columns.window),
            "rows": rows[None],
            "columns": columns[:, None],
            **{f"told_{i}": one for i, one in enumerate(told)},
        }
        if self.pool_sizes:
            for name, span, axis in (
                ("pool_rows", tile.rows, 0),
                ("pool_columns", tile.columns, 1),
            ):
                part = np.zeros((sum(self.pool_sizes), _length(span.window)), np.float32)
                if pools:
                    part[:, span.inner] = pools[axis][:, span.core]
                ends[name] = part
        return ends


class Moments:
    """Mean and centred squares of each channel, merged in FP64 over tiles."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, count: int, mean: Doubles, square: Doubles) -> None:
        """Take a tile's mean, and mean square of the distance from it, over `count` pixels.

        Chan, Golub and LeVeque's update: of centred sums, so that nothing cancels.
        """
        both = self._count + count
        apart = mean - self._mean
        self._mean = self._mean + apart * (count / both)
        self._squares = self._squares + square * count + apart**2 * (self._count * count / both)
        self._count = both

    def contrast(self) -> Doubles:
        """Standard deviation plus mean of each channel."""
        variance = np.maximum(self._squares / self._count, VARIANCE_FLOOR)
        contrast: Doubles = np.sqrt(variance) + self._mean
        return contrast


class Points:
    """Pooled keys and values, added up in FP64 over tiles."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._sums: Any = 0.0
        self._covered: Any = 0.0

    def add(self, part: npt.NDArray[Any], pool_rows: Doubles, pool_columns: Doubles) -> None:
        """Take a tile's part (2, S), its windows' weights of rows and columns being these."""
        self._sums = self._sums + part.astype(np.float64)
        shares = np.outer(pool_rows.sum(axis=1), pool_columns.sum(axis=1))
        self._covered = self._covered + _cells(shares, self._sizes)

    def values(self) -> Doubles:
        """(2, S). A cell that no tile has covered whole is scaled to its full weight, and one that
        none has touched is the mean of the others."""
        touched = self._covered > 1e-9
        values: Doubles = np.divide(
            self._sums, self._covered, out=np.zeros_like(self._sums), where=touched
        )
        values[:, ~touched] = values[:, touched].mean(axis=1, keepdims=True)
        return values


def _cells(table: Doubles, sizes: Sequence[int]) -> Doubles:
    """Of all pairs of windows those whose sizes are the same, as the network strings them up."""
    found, first = [], 0
    for size in sizes:
        found.append(table[first : first + size, first : first + size].ravel())
        first += size
    return np.concatenate(found)


def enlarge_tensor(
    tile_file: TileFile, tensor: Tensor, side_hw: tuple[int, int], rounds: int = ROUNDS
) -> Tensor:
    """A whole frame (1, 3, H, W) in tiles of about `side_hw`: (1, 3, s*H, s*W)."""
    _, _, height, width = tensor.shape
    scale = tile_file.scale
    tiles = grid((height, width), side_hw, tile_file.reach)

    def read(rows: slice, columns: slice) -> Tensor:
        return np.ascontiguousarray(tensor[:, :, rows, columns])

    high = np.empty((1, 3, scale * height, scale * width), np.float32)
    told = tile_file.settle(read, (height, width), tiles, rounds)
    for tile in tiles:
        high[:, :, scaled(tile.rows.core, scale), scaled(tile.columns.core, scale)] = (
            tile_file.enlarge(read, tile, told)
        )
    return high


def scaled(part: slice, scale: int) -> slice:
    """A part of an axis of the input as one of the output."""
    return slice(scale * part.start, scale * part.stop)


def _change(before: list[Tensor], after: list[Tensor]) -> float:
    """The largest change of a statistic, relative to its largest value; NaN where there is one."""
    shares = [
        np.abs(b - a).max() / max(float(np.abs(b).max()), 1e-9)
        for a, b in zip(before, after, strict=True)
    ]
    return float(np.max(shares))


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _core_weights(span: Span) -> npt.NDArray[np.float32]:
    """1 over the core's length inside of it and 0 in the halo."""
    weights = np.zeros(_length(span.window), np.float32)
    weights[span.inner] = 1 / _length(span.core)
    return weights


def _windows(length: int, sizes: Sequence[int]) -> Doubles:
    """The averaging windows of pyramid pooling over an axis: (sum of sizes, length).

    Window i of n covers [floor(i*L/n), ceil((i+1)*L/n)), PyTorch's adaptive rule.
    """
    found = np.zeros((sum(sizes), length))
    row = 0
    for size in sizes:
        for i in range(size):
            first, last = i * length // size, -(-(i + 1) * length // size)
            found[row, first:last] = 1 / (last - first)
            row += 1
    return found
