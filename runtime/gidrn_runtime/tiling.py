"""Whether a frame is enlarged whole or in tiles, which tiles, and what is done without memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime import engines, memory, models, tiles
from gidrn_runtime.engines.base import Engine
from gidrn_runtime.errors import FrameTooLargeError, ModelError
from gidrn_runtime.models import ModelInfo
from gidrn_runtime.tiles import Tile, TileFile

Picture = npt.NDArray[Any]
"""A frame uint8 (H, W, 3), or a tensor float32 (3, H, W)."""
Watch = Callable[[int, int], None]
"""Called with the tiles done and their number, each counted once for every round over the frame."""
Tiles = str | tuple[int, int]
"""``auto``, ``never``, ``plain``, or height and width of a tile."""

LEAST_SIDE, MOST_SIDE = 16, 1024
"""Of tiles whose side is chosen here: below, a tile is all halo; above, nothing is gained."""
PLAIN_HALO = 38
"""Of plain tiles of a network that looks at the whole frame."""
PLAIN_DEVIATION = "up to 9 levels, with G-IDRN on photos"


@dataclass(frozen=True)
class Way:
    """How a frame was enlarged."""

    form: str
    """``whole``; or in tiles: ``exact`` (a network of known reach, each tile with a halo of it),
    ``told`` (tiles that are told the frame's statistics), ``plain`` (the picture is another)."""
    side_hw: tuple[int, int] | None
    """Of a tile, its halo apart."""
    tiles: int
    """How many there were."""
    rounds: int
    """That tiles were looked at before the last, told form only."""
    halved: int
    """How often the tiles were made smaller because memory ran out."""


class Tiling:
    """What one Upscaler does about frames that do not fit."""

    def __init__(
        self,
        wish: Tiles,
        info: ModelInfo,
        path: Path,
        engine: Engine,
        threads: int | None,
        memory_mib: int | None,
        rounds: int | None,
    ) -> None:
        """`engine` has the model open; the tile file is opened on its `tile_engine`. Raises what
        `Upscaler` raises."""
        self._check(wish, memory_mib, rounds)
        self._wish, self._info, self._path = wish, info, path
        self._engine, self._tile_engine, self._threads = engine.name, engine.tile_engine, threads
        self._in_turn = engine.runs_in_turn
        self._budget = None if memory_mib is None else memory_mib << 20
        self._rounds = tiles.ROUNDS if rounds is None else rounds
        self._lock = threading.Lock()
        self._tile_file: TileFile | None = None
        self._beside = tile_file_of(path, info)
        self.form, self.why_none = self._find_form()
        if not isinstance(wish, str) or wish == "plain":
            if self.form is None:
                raise ValueError(f"{path} makes no tiles: {self.why_none}")
            if self.form == "told":
                self._opened()
        self._fitted: tuple[int, int, int] | None = None
        """Height, width and number of the latest frames that were enlarged whole: what they took
        the engine keeps, so that others of their size need nothing more."""
        self.last: Way | None = None
        """How the latest frame was enlarged."""
        self.watch: Watch | None = None
        """Is told how far a frame in tiles is."""

    @staticmethod
    def _check(wish: Any, memory_mib: Any, rounds: Any) -> None:
        def natural(value: Any, least: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= least

        is_size = (
            isinstance(wish, tuple) and len(wish) == 2 and all(natural(side, 1) for side in wish)
        )
        if not is_size and wish not in ("auto", "never", "plain"):
            raise ValueError(
                "tiles is 'auto', 'never', 'plain' or (height, width) of a tile in input pixels, "
                f"not {wish!r}"
            )
        if memory_mib is not None and not natural(memory_mib, 1):
            raise ValueError(f"memory_mib is a whole number >= 1 or None, not {memory_mib!r}")
        if rounds is not None and not natural(rounds, 0):
            raise ValueError(f"tile_rounds is a whole number >= 0 or None, not {rounds!r}")

    def _find_form(self) -> tuple[str | None, str]:
        """The form of its tiles, or None and why there are none."""
        if self._wish == "never":
            return None, "tiles='never' says so"
        if self._info.most[1:] != (None, None) or self._info.least[1:] != (1, 1):
            return None, (
                "it takes frames between two sizes alone (TensorRT plans have no tile form yet): "
                "open the ONNX file that leaves its size free"
            )
        if self._info.metadata.get("context", "global").isdecimal():
            return "exact", ""
        if self._beside is not None and self._tile_engine is not None:
            return "told", ""
        if self._wish == "plain":
            return "plain", ""
        if self._beside is not None:
            return None, (
                f"{self._engine} runs no tile files, engine='ort-cpu' and 'ort-cuda' do; "
                f"tiles='plain' accepts tiles that change the picture ({PLAIN_DEVIATION})"
            )
        return None, (
            "its network looks at the whole frame, and there is no tile file "
            f"{self._path.stem}_tiles.onnx beside it; make one with: python export/to_onnx.py "
            f"--tiles. Plain tiles change the picture ({PLAIN_DEVIATION}); tiles='plain' (--tile "
            "plain) accepts that"
        )

    @property
    def halo(self) -> int:
        """In input pixels, around each tile."""
        if self.form == "exact":
            return int(self._info.metadata["context"])
        return self._opened().reach if self.form == "told" else PLAIN_HALO

    def fits(self, height: int, width: int, frames: int) -> bool:
        """Whether so many frames are to be run whole and at once: as far as is known they fit."""
        if not isinstance(self._wish, str):
            return False
        forecast = self._forecast(height, width, frames)
        return forecast is None or forecast[0] <= forecast[1]

    def side_hw(self, height: int, width: int) -> tuple[int, int] | None:
        """The tiles that a frame is to be cut into; None where it is to be run whole.

        Raises FrameTooLargeError where it does not fit and there are no tiles.
        """
        if not isinstance(self._wish, str):
            return self._wish
        forecast = self._forecast(height, width, 1)
        if forecast is None or forecast[0] <= forecast[1]:
            return None
        whole, room = forecast
        if self.form is None:
            raise FrameTooLargeError(
                f"a frame of {height}x{width} would take about {whole >> 20} MiB, and "
                f"{max(0, room) >> 20} MiB may be taken; it cannot be cut into tiles: "
                f"{self.why_none}; tiles='never' tries it whole"
            )
        is_told = self.form == "told"
        runs_them = (self._tile_engine if is_told else None) or self._engine
        a_pixel = memory.bytes_per_pixel(self._info.metadata, runs_them, tile=is_told)
        assert a_pixel is not None  # it was measured together with the whole form's
        pixels = max(0.0, (room - memory.FIXED_BYTES) / a_pixel)
        side = int(pixels**0.5) - 2 * self.halo
        if side < LEAST_SIDE:
            least = memory.FIXED_BYTES + a_pixel * (LEAST_SIDE + 2 * self.halo) ** 2
            raise FrameTooLargeError(
                f"tiles of {LEAST_SIDE}x{LEAST_SIDE} would take about {least >> 20} MiB, and there "
                f"are {max(0, room) >> 20} beside the enlarged frame; give it more memory, or a "
                "smaller frame"
            )
        return min(side, MOST_SIDE), min(side, MOST_SIDE)

    def _forecast(self, height: int, width: int, frames: int) -> tuple[int, int] | None:
        """Bytes that a run would take, and that it may take; None where either is not known, where
        nobody is to ask, and for frames of which the last ones were as many and as large."""
        if self._wish == "never" or (height, width, frames) == self._fitted:
            return None
        a_pixel = memory.bytes_per_pixel(self._info.metadata, self._engine, tile=False)
        room = self._room(frames * height * width)
        if a_pixel is None or room is None:
            return None
        if self._in_turn:  # what more frames add are their float tensors of both sides
            a_pixel += (frames - 1) * 3 * 4 * (1 + self._info.scale**2)
        else:
            a_pixel *= frames
        return memory.FIXED_BYTES + a_pixel * height * width, room

    def _room(self, pixels: int) -> int | None:
        """Bytes for a run, the enlarged frame's (3 a pixel) taken off; None where nobody knows."""
        free = self._budget
        if free is None:
            there = memory.available()
            if there is None:
                return None
            free = int(there * memory.SHARE)
        return free - 3 * pixels * self._info.scale**2

    def smaller(self, side_hw: tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
        """The next smaller tiles, or a whole frame's first. Raises FrameTooLargeError for none."""
        tall, wide = (height, width) if side_hw is None else side_hw
        tall, wide = (-(-tall // 2), wide) if tall >= wide else (tall, -(-wide // 2))
        if self.form is None:
            raise FrameTooLargeError(f"it cannot be cut into tiles: {self.why_none}")
        if max(tall, wide) < LEAST_SIDE:
            raise FrameTooLargeError(f"nor for tiles of {LEAST_SIDE}x{LEAST_SIDE}")
        return tall, wide

    def note_whole(self, height: int, width: int, frames: int) -> None:
        """Frames of this size were enlarged whole."""
        self._fitted = (height, width, frames)
        self.last = Way("whole", None, 1, 0, 0)

    def enlarge(
        self,
        low: Picture,
        high: Picture,
        side_hw: tuple[int, int],
        whole: Callable[[Picture], Picture],
        to_tensor: Callable[[Picture], Picture],
        from_tensor: Callable[[Picture], Picture],
        halved: int = 0,
    ) -> None:
        """Enlarge `low` into `high` tile by tile; where memory runs out, by smaller ones.

        Rows and columns are axes 0 and 1 of a frame, 1 and 2 of a tensor. `whole` enlarges a
        picture with the plain model; the other two lead to the tile file's tensors (1, 3, h, w) and
        back. Raises FrameTooLargeError where the smallest tiles do not fit either.
        """
        axis = 0 if low.dtype == np.uint8 else 1
        before = (slice(None),) * axis
        size_hw = (low.shape[axis], low.shape[axis + 1])
        while True:
            every = tiles.grid(size_hw, side_hw, self.halo)
            try:
                if self.form == "told":
                    rounds = self._told(low, high, before, every, to_tensor, from_tensor)
                else:
                    rounds = 0
                    for done, tile in enumerate(every, start=1):
                        window = low[(*before, tile.rows.window, tile.columns.window)]
                        found = whole(np.ascontiguousarray(window))
                        scale = self._info.scale
                        rows, columns = (
                            tiles.scaled(span.inner, scale) for span in (tile.rows, tile.columns)
                        )
                        self._put(high, before, tile, found[(*before, rows, columns)])
                        self._tell(done, len(every))
                assert self.form is not None
                self.last = Way(self.form, side_hw, len(every), rounds, halved)
                return
            except FrameTooLargeError as error:
                try:
                    side_hw = self.smaller(side_hw, *size_hw)
                except FrameTooLargeError as none:
                    raise FrameTooLargeError(f"{error}; {none}") from error
                halved += 1

    def _told(
        self,
        low: Picture,
        high: Picture,
        before: tuple[slice, ...],
        every: list[Tile],
        to_tensor: Callable[[Picture], Picture],
        from_tensor: Callable[[Picture], Picture],
    ) -> int:
        tile_file = self._opened()

        def read(rows: slice, columns: slice) -> Picture:
            return to_tensor(low[(*before, rows, columns)])

        rounds = min(self._rounds, len(tile_file.statistics))
        steps = itertools.count(1)

        def after_tile() -> None:
            self._tell(next(steps), (rounds + 1) * len(every))

        size_hw = (low.shape[len(before)], low.shape[len(before) + 1])
        told = tile_file.settle(read, size_hw, every, rounds, after_tile)
        for tile in every:
            self._put(high, before, tile, from_tensor(tile_file.enlarge(read, tile, told)))
            after_tile()
        return rounds

    def _tell(self, done: int, total: int) -> None:
        if self.watch is not None:
            self.watch(done, total)

    def _put(self, high: Picture, before: tuple[slice, ...], tile: Tile, values: Picture) -> None:
        scale = self._info.scale
        rows, columns = (tiles.scaled(span.core, scale) for span in (tile.rows, tile.columns))
        high[(*before, rows, columns)] = values

    def _opened(self) -> TileFile:
        """The tile file, opened when it is first wanted. Raises ModelError for another model's."""
        with self._lock:
            if self._tile_file is None:
                assert self._beside is not None
                assert self._tile_engine is not None
                engine = engines.open_engine(self._tile_engine, self._beside, self._threads)
                try:
                    found = TileFile(engine, self._beside)
                    self._check_fits(found)
                except BaseException:
                    engine.close()
                    raise
                self._tile_file = found
            return self._tile_file

    def _check_fits(self, found: TileFile) -> None:
        wanted = {key: self._info.metadata.get(key) for key in ("model", "scale", "weights_sha256")}
        came = {key: found.metadata.get(key) for key in wanted}
        if wanted != came:
            raise ModelError(
                f"{self._beside} is not of the weights of {self._path}: wanted {wanted}, came "
                f"{came}; make it again with: python export/to_onnx.py --tiles"
            )

    def close(self) -> None:
        """Release the tile file. A second call does nothing."""
        with self._lock:
            if self._tile_file is not None:
                self._tile_file.close()

    def describe(self) -> dict[str, object]:
        """JSON-able: what was wished, what is possible and why not, and the latest frame's way."""
        way = self.last
        return {
            "wish": self._wish if isinstance(self._wish, str) else list(self._wish),
            "form": self.form,
            "why_none": self.why_none or None,
            "tile_engine": self._tile_engine if self.form == "told" else None,
            "tile_file": None if self._beside is None else str(self._beside),
            "memory_mib": None if self._budget is None else self._budget >> 20,
            "rounds": self._rounds if self.form == "told" else None,
            "latest": None
            if way is None
            else {
                "form": way.form,
                "side_hw": None if way.side_hw is None else list(way.side_hw),
                "tiles": way.tiles,
                "rounds": way.rounds,
                "halved": way.halved,
            },
        }


def tile_file_of(path: Path, info: ModelInfo) -> Path | None:
    """The tile file beside a model, or beside the shipped one of its name; None where is none."""
    shipped = models.MODELS_DIR / f"{info.name}_x{info.scale}{models.TILES_SUFFIX}"
    for file in (path.with_name(path.stem + models.TILES_SUFFIX), shipped):
        if file.is_file():
            return file
    return None
