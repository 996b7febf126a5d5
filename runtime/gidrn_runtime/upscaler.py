"""`Upscaler`: a model opened on an engine, called on frames."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from gidrn_runtime import engines, models, plans
from gidrn_runtime.engine_choice import Choice, Chooser, NotChosenError
from gidrn_runtime.engines.base import Tensor
from gidrn_runtime.errors import (
    EngineError,
    EngineUnavailable,
    FrameTooLargeError,
    ModelError,
    WrongOutputError,
)
from gidrn_runtime.golden import compare, name_size
from gidrn_runtime.scratch import Scratch
from gidrn_runtime.tiles import Tile, grid
from gidrn_runtime.tiling import Tiles, Tiling, Watch, Way

Frame = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), its colour order named by whoever hands it over."""

_InTiles = Callable[
    [npt.NDArray[Any], tuple[int, int], int, npt.NDArray[Any] | None], npt.NDArray[Any]
]
"""Enlarges one image (1, ...) in tiles: given their size, how often they were halved, and out."""

COLORS = ("bgr", "rgb")
_COMPARED: set[tuple[str, int, int, str]] = set()
"""Files and engines whose golden frame was right in this process."""

FAILURES = (EngineError, EngineUnavailable, ValueError, MemoryError, OSError)
"""What an engine may raise, for which ``auto`` stays on another one; ModelError is a ValueError."""

PROBE_HW = (8, 8)
"""Size of the frame that is run once at opening, where the model leaves its size free."""


class Upscaler:
    """A super-resolution model, ready to enlarge frames.

        with Upscaler("gidrn_x4") as upscale:
            high = upscale(low)

    Opening runs one tiny frame, so that a model that does not run, or does not enlarge by the scale
    it claims, is refused here and not at the first frame. A model of ours carries that frame and
    what PyTorch made of it, so that an engine which makes something else of it is refused too.

    Threads: any number of threads may call one Upscaler at once; each call has its own buffers, and
    the calls share the engine's threads. `close` waits until the calls in progress have returned;
    every call that begins after `close` has begun raises RuntimeError. Engines' threads do not live
    on in a fork: there a call raises RuntimeError and `close` does nothing, so that each process
    opens its own.

    Memory: what is handed in is only read; what is returned belongs to the caller. With `out` the
    picture is written into memory of the caller's: a model of frames in the order of `color` then
    computes from the frame's own memory straight into it on ort-cpu, and nothing is copied. Other
    models convert in arrays that each thread keeps for its next frame of the same size, until
    `close` or its own end.
    """

    _warns: ClassVar[bool] = True
    """Whether random weights are told."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        engine: str = "auto",
        color: str = "bgr",
        threads: int | None = None,
        check: bool | None = None,
        pad: bool = False,
        tiles: Tiles = "auto",
        memory_mib: int | None = None,
        tile_rounds: int | None = None,
    ) -> None:
        """Open `model`: the name of a shipped model (``gidrn_x4``), or the path of an ONNX file or
        of a TensorRT plan.

        `engine` is a name of `gidrn_runtime.engines.ENGINES`, or ``auto`` for the fastest that is
        available; the property `engine` tells which. Where several engines of the CPU take the
        file, the first frame's size decides between them, by a measurement that is kept for all
        later Upscalers and takes about a second once: see `gidrn_runtime.engine_choice`, and
        GIDRN_AUTO there to have none. From that frame on the engine stays.

        `color` is the channel order of frames in and out, ``bgr`` or ``rgb``. `threads` limits the
        CPU threads of one run; None leaves it to the engine. `check` compares the model's golden
        frame; None does so the first time that a process opens this file on this engine, where the
        file carries one.

        A plan takes frames between two sizes. More frames at once than it takes are run in several
        turns, and fewer with repeats, which changes nothing in a picture. A larger frame is
        refused; so is a smaller one, unless `pad` allows its edges to be repeated and cut off
        again: networks that look at the whole image then see another one, and values near the
        repeated edges differ most.

        `tiles` says what is done about frames beyond memory. ``auto`` forecasts what a frame takes,
        where that was measured for the model and engine, and cuts it into tiles where it does not
        fit in the memory that is free or in `memory_mib`, if given, the enlarged frame included; it
        also does so where a run fails for want of memory, and takes smaller tiles where they do.
        ``never`` does neither. (height, width), in input pixels, cuts every frame into tiles of
        about that size. What was done with a frame, `describe` tells.

        Tiles do not change a picture: a network of known reach gets halos of that reach, and one
        that looks at the whole frame has a tile file beside it which is told the frame's
        statistics. These settle in `tile_rounds` rounds over the frame, each of them about the work
        of the enlarging itself (None: `gidrn_runtime.tiles.ROUNDS`; one for each statistic makes
        them exact). Without such a file there are no tiles, unless ``plain`` accepts tiles that
        know nothing of each other, which changes the picture; else it is as ``auto``.

        Raises:
            ValueError: an unknown model name, engine or colour, or threads below 1; or tiles that
                this model does not have.
            FileNotFoundError: `model` is a path and there is no such file.
            ModelError: the file is not a toolkit model, or is damaged, or its scale is not true; or
                `check` is True and it carries no golden frame.
            WrongOutputError: the engine gives another picture than the model was exported with; the
                message names the likely fault.
            EngineUnavailable: the engine is not installed or does not start here.

        Warns:
            UserWarning: the model has random weights, so that its output means nothing.
        """
        if color not in COLORS:
            raise ValueError(f"color is 'bgr' or 'rgb', not {color!r}")
        if check not in (None, True, False):
            raise ValueError(f"check is True, False or None, not {check!r}")
        if threads is not None and (
            isinstance(threads, bool) or not isinstance(threads, int) or threads < 1
        ):
            raise ValueError(f"threads is a whole number >= 1 or None, not {threads!r}")
        self._idle = threading.Condition()
        self._opened_in = os.getpid()
        self._running = 0
        self._closed = False
        self._color = color
        self._pad = pad
        self._scratch = Scratch()
        self._path = models.find(model)
        self._threads, self._check = threads, check
        self._tiling_options = (tiles, memory_mib, tile_rounds)
        self._chooser = Chooser(self._path, threads) if engine == "auto" else None
        self._choice: Choice | None = None
        self._why_none = ""
        self._watch: Watch | None = None
        if self._chooser is None:
            self._open(engine)
        else:
            self._open_first(self._chooser)
        if self._info.random_weights and self._warns:
            warnings.warn(
                f"{self._path} has random weights: good for timing, its output is meaningless",
                stacklevel=2,
            )

    def _open(self, engine: str) -> None:
        """Open the model on an engine and examine it. Raises what opening raises."""
        self._engine = engines.open_engine(engine, self._path, self._threads)
        try:
            self._info = models.check(self._engine, self._path)
            self._examine(self._check)
            wish, memory_mib, rounds = self._tiling_options
            self._tiling = Tiling(
                *(wish, self._info, self._path, self._engine, self._threads, memory_mib, rounds)
            )
            self._tiling.watch = self._watch
        except BaseException:
            self._engine.close()
            raise

    def _open_first(self, chooser: Chooser) -> None:
        """Open the engine that the first frame is likely to be for, or the table's first."""
        likely = chooser.at_opening()
        try:
            self._open(likely)
        except FAILURES as error:
            if likely == chooser.first:
                raise
            self._why_none = f"{likely}, which was chosen before, fails: {error}"
            self._open(chooser.first)
        if not chooser.is_open or self._why_none:
            self._chooser = None

    def _decide(self, height: int, width: int) -> None:
        """Choose the engine by the first frame's size; no call is running."""
        chooser = self._chooser
        assert chooser is not None
        openers = {name: partial(self._opened, name) for name in chooser.builds}
        try:
            is_free = self._info.takes(1, 1, 1) and self._info.most[1:] == (None, None)
            choice = chooser.choose(openers, (height, width), any_size=is_free)
            if choice.engine == self._engine.name or self._change_to(choice.engine, height, width):
                self._choice = choice
        except NotChosenError as reason:
            self._why_none = str(reason)
        except FAILURES as error:
            self._why_none = f"choosing failed: {' '.join(str(error).split())}"
        self._chooser = None

    @contextmanager
    def _opened(self, engine: str) -> Iterator[Callable[[Frame], Frame]]:
        """The model on an engine, for frames that are only timed."""
        if engine == self._engine.name:
            yield lambda frame: self._enlarge_whole(frame[None])[0]
            return
        # No golden frame: its picture is compared with this engine's.
        with _Timed(self._path, engine, self._color, self._threads, False, tiles="never") as other:
            yield other

    def _change_to(self, engine: str, height: int, width: int) -> bool:
        """Go on with another engine, unless frames of this size need tiles there and not here."""
        before = self._engine, self._info, self._tiling
        is_open = is_better = False
        try:
            self._open(engine)
            is_open = True
            is_better = self._needs_tiles(before[2], height, width) or not self._needs_tiles(
                self._tiling, height, width
            )
        finally:
            if is_open and not is_better:
                self._tiling.close()
                self._engine.close()
            if not is_better:
                self._engine, self._info, self._tiling = before
        if is_better:
            before[2].close()
            before[0].close()
        else:
            self._why_none = f"{engine} is faster, but has to cut {height}x{width} into tiles here"
        return is_better

    @staticmethod
    def _needs_tiles(tiling: Tiling, height: int, width: int) -> bool:
        try:
            return tiling.side_hw(height, width) is not None
        except FrameTooLargeError:
            return True

    @property
    def engine(self) -> str:
        """Name of the engine that runs. Of an Upscaler opened with ``auto``, that of the next frame
        until the first has come: its size may decide otherwise."""
        return self._engine.name

    @property
    def scale(self) -> int:
        """How many times higher and wider the output is."""
        return self._info.scale

    @property
    def color(self) -> str:
        """Channel order of frames in and out, ``bgr`` or ``rgb``."""
        return self._color

    @property
    def size_hw(self) -> tuple[int | None, int | None]:
        """The only height and width the model takes, each None where any will do."""
        return self._info.size_hw

    @property
    def tiling(self) -> Way | None:
        """How the latest frame was enlarged, whole or in which tiles; None before the first."""
        return self._tiling.last

    def watch_tiles(self, watch: Watch | None) -> None:
        """Have `watch(done, total)` called after each tile of a frame that is cut into tiles, from
        the thread that enlarges it; None ends that. A tile counts once for each round over the
        frame, which makes it a measure of the work."""
        self._watch = watch
        self._tiling.watch = watch

    def tiles_for(self, height: int, width: int) -> list[Tile] | None:
        """The tiles that a frame of this size would be cut into now; None where it would be run
        whole. Raises FrameTooLargeError where neither can be, and RuntimeError after `close`."""
        with self._in_use(height, width):
            side_hw = self._tiling.side_hw(height, width)
            return None if side_hw is None else grid((height, width), side_hw, self._tiling.halo)

    def describe(self) -> dict[str, object]:
        """What runs where, JSON-able.

        Keys: `model`, `path`, `scale`, `precision` (the file's; an engine without FP16 kernels, as
        ONNX Runtime's on x86, computes in FP32), `color`, `frames` (the channel order of a model of
        uint8 frames, None for one of tensors), `least` and `most` (batch, height and width that it
        takes; None where there is no limit), `engine`, `engine_version`, `threads` (None: the
        engine's default), `choice` (how ``auto`` came to this engine of the CPU, with times: see
        `gidrn_runtime.engine_choice.Choice`; None where there was nothing to choose, or no frame
        yet), `no_choice` (why there was none although there are several; empty elsewhere), `tiles`
        (what is done about frames beyond memory, and under `latest` what was done with the latest
        frame), `metadata` (the model's own), and what the engine adds.
        """
        return {
            "model": self._info.name,
            "path": str(self._path),
            "scale": self._info.scale,
            "precision": self._info.precision,
            "color": self._color,
            "frames": self._info.frames,
            "least": list(self._info.least),
            "most": list(self._info.most),
            **self._engine.describe(),
            "choice": None if self._choice is None else asdict(self._choice),
            "no_choice": self._why_none,
            "tiles": self._tiling.describe(),
            "metadata": dict(self._info.metadata),
        }

    def __call__(self, frame: Frame, out: Frame | None = None) -> Frame:
        """Enlarge one frame: uint8 (H, W, 3) -> uint8 (s*H, s*W, 3), both in `color` order.

        Values are clipped to [0, 1], multiplied by 255 and rounded, halves to even. `out`, a
        C-contiguous array of the result's shape, receives the picture and is what is returned;
        where the call fails, what it holds is undefined.

        Raises:
            ValueError: not such a frame, or not of a size the model takes; or `out` is not of the
                result's shape, not contiguous, read-only, or shares memory with the frame.
            FrameTooLargeError: not enough memory for a frame of this size.
            EngineError: the engine failed.
            RuntimeError: the Upscaler is closed, or was opened in another process.
        """
        check_frame(frame)
        if out is not None:
            height, width, _ = frame.shape
            check_out(out, (self.scale * height, self.scale * width, 3), frame)
            self._enlarge(frame[None], out[None])
            return out
        high: Frame = self._enlarge(frame[None])[0]
        return high

    def prepare(self, height: int, width: int) -> None:
        """Decide now what the first frame of this size would decide: with ``auto``, the engine.

        For those who want no delay at the first frame, or to know before it what will run. Raises
        RuntimeError after `close`.
        """
        with self._in_use(height, width):
            pass

    def batch(
        self,
        frames: Sequence[Frame] | npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint8] | None = None,
    ) -> list[Frame]:
        """Enlarge several frames: a sequence of uint8 (H, W, 3), or one array (N, H, W, 3).

        Frames of one size go through the engine in one run, or in as few as the model's greatest
        batch allows; they are run one after the other where there is not the memory for all of them
        at once, and where their sizes differ. The order is kept; no frames give an empty list.
        `out`, for frames of one size, is uint8 (N, s*H, s*W, 3) and receives the pictures; what is
        returned are its parts.

        Raises:
            ValueError, FrameTooLargeError, EngineError, RuntimeError: as for one frame.
        """
        for frame in frames:
            check_frame(frame)
        one_size = len({frame.shape for frame in frames}) == 1
        if out is not None:
            if not one_size:
                raise ValueError("out is for one or more frames, all of one size")
            height, width, _ = frames[0].shape
            shape = (len(frames), self.scale * height, self.scale * width, 3)
            check_out(out, shape, *frames)
            return list(self._enlarge(np.asarray(frames), out))
        if one_size:
            return list(self._enlarge(np.asarray(frames)))
        return [self._enlarge(frame[None])[0] for frame in frames]

    def run_tensor(self, x: Tensor) -> Tensor:
        """Enlarge a tensor: float32 RGB (N, 3, H, W) in [0, 1] -> float32 (N, 3, s*H, s*W).

        This is the network's own output: not clipped, so slightly below 0 or above 1 near edges.
        RGB whatever `color` says.

        Raises:
            ValueError: not such a tensor, or not finite throughout, or not of a size the model
                takes; or the model is one of uint8 frames.
            FrameTooLargeError, EngineError, RuntimeError: as for one frame.
        """
        if self._info.frames is not None:
            raise ValueError(
                f"{self._path} takes uint8 colour frames alone; for tensors, and for gray, alpha "
                "or 16-bit images, open a model that was exported without --frames"
            )
        if not isinstance(x, np.ndarray):
            raise ValueError(f"a tensor is a NumPy array, not {type(x).__name__}")
        if x.dtype != np.float32 or x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise ValueError(
                f"a tensor is float32 RGB of shape (N, 3, H, W), none of them 0, not {x.dtype} "
                f"{x.shape}; call the Upscaler itself for uint8 frames"
            )
        check_finite(x)
        with self._in_use(x.shape[2], x.shape[3]):
            return self._as_memory_allows(
                x, x.shape[2:], None, lambda x, _: self._run(x), self._tensor_in_tiles
            )

    def device_ms(self, frames: Frame | npt.NDArray[np.uint8]) -> float | None:
        """Milliseconds that the GPU takes for a frame (H, W, 3) or frames (N, H, W, 3) at once.

        One run, its input on the GPU already and its output left there; conversion from and to
        uint8 counts where the model has it inside. TensorRT's engines time it by the GPU's events,
        ort-cuda by the host's clock. None on the CPU. For measuring: the picture is thrown away.

        Raises:
            ValueError: no such frames, or not of a size and number that the model takes unpadded.
            FrameTooLargeError, EngineError, RuntimeError: as for one frame.
        """
        several = frames if getattr(frames, "ndim", 3) == 4 else np.asarray(frames)[None]
        for frame in several:
            check_frame(frame)
        n, height, width = several.shape[:3]
        if not self._info.takes(n, height, width):
            raise ValueError(
                f"{self._path} does not take {n} frames of {height}x{width} as they are"
            )
        with self._in_use(height, width):
            wire = self._wire(several, self._color)
            return self._engine.device_ms(wire.astype(self._info.dtype, copy=False))

    def close(self) -> None:
        """Wait for the calls in progress, then release the model. A second call does nothing."""
        if os.getpid() != self._opened_in:
            return
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
            self._tiling.close()
            self._engine.close()
            self._scratch = Scratch()

    def __reduce__(self) -> NoReturn:
        """Refuses to be pickled, as for a worker of multiprocessing."""
        raise TypeError("an Upscaler cannot be pickled: let each process open one of its own")

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _in_use(self, height: int, width: int) -> Iterator[None]:
        """Keeps the engine open while the block runs on frames of a size."""
        if os.getpid() != self._opened_in:
            raise RuntimeError(
                f"this Upscaler was opened in process {self._opened_in}, whose threads are not in "
                "this fork of it; open one here, or have processes started by 'spawn'"
            )
        with self._idle:
            if self._closed:
                raise RuntimeError("this Upscaler is closed; open a new one")
            if self._chooser is not None:  # others wait: all are to have the same engine
                self._decide(height, width)
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _enlarge(
        self, frames: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3) -> uint8 (N, s*H, s*W, 3), both in `color` order; into `out` if given.

        What goes through the engine in parts, padded or in FP16 is copied there in the end.
        """
        with self._in_use(frames.shape[1], frames.shape[2]):
            return self._as_memory_allows(
                frames, frames.shape[1:3], out, self._enlarge_whole, self._frame_in_tiles
            )

    def _as_memory_allows(
        self,
        images: npt.NDArray[Any],
        size_hw: tuple[int, ...],
        out: npt.NDArray[Any] | None,
        whole: Callable[[npt.NDArray[Any], npt.NDArray[Any] | None], npt.NDArray[Any]],
        in_tiles: _InTiles,
    ) -> npt.NDArray[Any]:
        """Enlarge images at once by `whole`, or one after the other, or one `in_tiles`."""
        n, (height, width) = len(images), size_hw
        if n == 1 or self._tiling.fits(height, width, n):
            side_hw = self._tiling.side_hw(height, width) if n == 1 else None
            if side_hw is not None:
                return in_tiles(images, side_hw, 0, out)
            try:
                at_once = whole(images, out)
            except FrameTooLargeError as error:
                if n == 1:
                    return in_tiles(images, self._smaller(error, size_hw), 1, out)
            else:
                self._tiling.note_whole(height, width, n)
                return at_once
        high = out
        for i in range(n):
            part = None if out is None else out[i : i + 1]
            made = self._as_memory_allows(images[i : i + 1], size_hw, part, whole, in_tiles)
            if high is None:
                high = np.empty((n, *made.shape[1:]), made.dtype)
            if out is None:
                high[i] = made[0]
        assert high is not None
        return high

    def _enlarge_whole(
        self, frames: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """As `_enlarge`, without tiles."""
        n, height, width, _ = frames.shape
        takes = self._info.takes(n, height, width)
        if takes and self._info.frames is None:
            with self._memory_told(n, height, width):
                direct = self._engine.run_frames(frames, self._color, out)
            if direct is not None:
                return direct
        if out is not None and takes and self._info.dtype != "float16":
            self._enlarge_into(frames, out)
            return out
        high = self._run(self._wire(frames, self._color))
        if self._info.frames is None:
            return frames_from_tensor(high, self._color, out)
        high = high[..., :: self._step(self._color)]
        if out is None:
            return np.ascontiguousarray(high)
        np.copyto(out, high)
        return out

    def _enlarge_into(self, frames: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
        """The same in one run and without new memory of a frame's size, if it is not the first."""
        scratch = self._scratch.array
        if self._info.frames is None:
            (n, height, width, _), (_, high_height, high_width, _) = frames.shape, out.shape
            low = scratch("low", (n, 3, height, width), np.float32)
            high = scratch("high", (n, 3, high_height, high_width), np.float32)
            self._run_once(tensor_from_frames(frames, self._color, low), high)
            frames_from_tensor(high, self._color, out)
            return
        step = self._step(self._color)
        if step != 1 or not frames.flags.c_contiguous:
            low = scratch("low", frames.shape, np.uint8)
            np.copyto(low, frames[..., ::step])
            frames = low
        high = out if step == 1 else scratch("high", out.shape, np.uint8)
        self._run_once(frames, high)
        if step != 1:
            np.copyto(out, high[..., ::step])

    def _smaller(self, error: FrameTooLargeError, size_hw: tuple[int, ...]) -> tuple[int, int]:
        """Tiles for a frame that did not fit. Raises FrameTooLargeError where there are none."""
        try:
            return self._tiling.smaller(None, *size_hw)
        except FrameTooLargeError as none:
            raise FrameTooLargeError(f"{error}; {none}") from error

    def _frame_in_tiles(
        self,
        frames: npt.NDArray[np.uint8],
        side_hw: tuple[int, int],
        halved: int,
        out: npt.NDArray[np.uint8] | None,
    ) -> npt.NDArray[np.uint8]:
        """As `_enlarge`, of one frame."""
        _, height, width, _ = frames.shape
        high = out
        if high is None:
            high = np.empty((1, self.scale * height, self.scale * width, 3), np.uint8)
        self._tiling.enlarge(
            frames[0],
            high[0],
            side_hw,
            whole=lambda window: self._enlarge_whole(window[None])[0],
            to_tensor=lambda window: tensor_from_frames(window[None], self._color),
            from_tensor=lambda tensor: frames_from_tensor(tensor, self._color)[0],
            halved=halved,
        )
        return high

    def _tensor_in_tiles(
        self, x: Tensor, side_hw: tuple[int, int], halved: int, _: Tensor | None
    ) -> Tensor:
        """As `run_tensor`, of one image."""
        _, _, height, width = x.shape
        high = np.empty((1, 3, self.scale * height, self.scale * width), np.float32)
        self._tiling.enlarge(
            x[0],
            high[0],
            side_hw,
            whole=lambda window: self._run(window[None])[0],
            to_tensor=lambda window: np.ascontiguousarray(window[None]),
            from_tensor=lambda tensor: tensor[0],
            halved=halved,
        )
        return high

    def _step(self, color: str) -> int:
        """How a model of frames wants the channels of this order, and gives them back: 1 or -1."""
        return 1 if self._info.frames == color else -1

    def _wire(self, frames: npt.NDArray[np.uint8], color: str) -> npt.NDArray[Any]:
        """uint8 (N, H, W, 3) in `color` order -> float32 (N, 3, H, W), or frames as the model
        takes them."""
        if self._info.frames is None:
            return tensor_from_frames(frames, color)
        return np.ascontiguousarray(frames[..., :: self._step(color)])

    def _run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Enlarge what the model takes by itself or in parts or padded, and refuse the rest.

        float32 (N, 3, H, W), or uint8 (N, H, W, 3) for a model of frames.
        """
        is_frames = self._info.frames is not None
        sides = slice(1, 3) if is_frames else slice(2, 4)
        height, width = tensor.shape[sides]
        (fewest, *least), (many, *most) = self._info.least, self._info.most
        over = any(b is not None and a > b for a, b in zip((height, width), most, strict=True))
        under = any(a < b for a, b in zip((height, width), least, strict=True))
        if over or (under and not self._pad):
            raise ValueError(self._wrong_size(height, width, over))
        if under:
            lacking = [max(0, b - a) for a, b in zip((height, width), least, strict=True)]
            rows_columns = [(0, more) for more in lacking]
            around = [(0, 0), *rows_columns, (0, 0)] if is_frames else [(0, 0)] * 2 + rows_columns
            padded = self._run(np.pad(tensor, around, mode="edge"))
            cut = (slice(self.scale * height), slice(self.scale * width))
            index = (slice(None), *cut) if is_frames else (slice(None), slice(None), *cut)
            return np.ascontiguousarray(padded[index])
        if many is not None and len(tensor) > many:
            parts = (tensor[first : first + many] for first in range(0, len(tensor), many))
            return np.concatenate([self._run(part) for part in parts])
        if len(tensor) < fewest:
            repeats = np.concatenate([tensor, *[tensor[-1:]] * (fewest - len(tensor))])
            return self._run_once(repeats)[: len(tensor)]
        return self._run_once(tensor)

    def _wrong_size(self, height: int, width: int, over: bool) -> str:
        least, most = self._info.least[1:], self._info.most[1:]
        sizes = "x".join("any" if side is None else str(side) for side in most)
        if least != most and least != (1, 1):
            sizes = f"{least[0]}x{least[1]} to {sizes}"
        if plans.is_plan(self._path):
            remedy = "build a plan for it: python export/to_tensorrt.py --profile"
        else:
            remedy = "export it without a fixed size"
        allow = "" if over else "; or allow pad=True, which changes the picture a little"
        return (
            f"{self._path} takes only height x width of {sizes}, not {height}x{width}; "
            f"{remedy}{allow}"
        )

    def _run_once(
        self, tensor: npt.NDArray[Any], out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The engine's run, with its promise checked; into `out`, of the model's type, if given."""
        is_frames = self._info.frames is not None
        n, height, width = tensor.shape[:3] if is_frames else (len(tensor), *tensor.shape[2:])
        wire = np.ascontiguousarray(tensor, dtype=self._info.dtype)
        with self._memory_told(n, height, width):
            if out is not None:
                self._engine.run_into(wire, out)
                return out
            high = self._engine.run(wire)
        sides = (self.scale * height, self.scale * width)
        expected = (n, *sides, 3) if is_frames else (n, 3, *sides)
        if high.shape != expected or high.dtype != wire.dtype:
            came = high.shape[1:3] if is_frames else high.shape[2:]
            fault = name_size((height, width), came, self.scale) if high.ndim == 4 else None
            raise ModelError(
                f"{self._path} says scale {self.scale}, so {wire.dtype} {wire.shape} should "
                f"become {expected}; it became {high.dtype} {high.shape}"
                f"{f': {fault}' if fault else ''}; {models.REMEDY}"
            )
        return high.astype(tensor.dtype, copy=False)

    @contextmanager
    def _memory_told(self, n: int, height: int, width: int) -> Iterator[None]:
        """Says of a run that found no memory what it was of."""
        try:
            yield
        except FrameTooLargeError as error:
            raise FrameTooLargeError(
                f"not enough memory to enlarge {n} frame(s) of {height}x{width} by {self.scale}; "
                f"hand over a smaller frame or fewer at once ({error})"
            ) from error

    def _examine(self, check: bool | None) -> None:
        """Run the golden frame where it is to be compared, and a black one elsewhere."""
        golden, stat = self._info.golden, self._path.stat()
        opened = (str(self._path.resolve()), stat.st_mtime_ns, stat.st_size, self._engine.name)
        batch = self._info.least[0]  # it is run with repeats
        if golden is not None and not self._info.takes(batch, *golden.size_hw):
            golden = None  # another tool fixed the size since
        if check and golden is None:
            raise ModelError(f"{self._path} carries no golden frame of its size; {models.REMEDY}")
        if golden is None or check is False or (check is None and opened in _COMPARED):
            self._prove_scale()
            return
        low = golden.low[None]
        height, width = golden.window.shape[:2]
        high = self._run(self._wire(low, "rgb"))
        if self._info.frames is None:
            levels = high[0, :, :height, :width].transpose(1, 2, 0).astype(np.float64) * 255
        else:
            levels = high[0, :height, :width, :: self._step("rgb")].astype(np.float64)
        fault = compare(golden, levels, self.scale)
        if fault is not None:
            raise WrongOutputError(
                f"{self._engine.name} gives another picture than {self._path} was exported with: "
                f"{fault}; take another engine or another version of its library"
            )
        _COMPARED.add(opened)

    def _prove_scale(self) -> None:
        limits = zip(self._info.least[1:], PROBE_HW, self._info.most[1:], strict=True)
        height, width = (min(max(least, side), most or side) for least, side, most in limits)
        if self._info.frames is None:
            self._run(np.zeros((1, 3, height, width), np.float32))
        else:
            self._run(np.zeros((1, height, width, 3), np.uint8))


class _Timed(Upscaler):
    """One that is only timed; whoever opened the other has been told what there is to tell."""

    _warns = False


def check_frame(frame: Any) -> None:
    """Raise ValueError unless `frame` is a uint8 array (H, W, 3) with H, W >= 1."""
    if not isinstance(frame, np.ndarray):
        hint = "convert it, e.g. with numpy.asarray, and say whether its color is bgr or rgb"
        if frame is None:
            hint = "cv2.imread gives None for a file that is not there or no picture"
        raise ValueError(f"a frame is a NumPy array, not {type(frame).__name__}; {hint}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"a frame is uint8 of shape (H, W, 3), not {frame.dtype} {frame.shape}; "
            f"{_frame_hint(frame)}"
        )
    if frame.size == 0:
        raise ValueError(f"a frame has at least one pixel, but this one is of shape {frame.shape}")


def check_finite(x: Tensor) -> None:
    """Raise ValueError for a tensor (N, 3, H, W) with a NaN or an infinity in it.

    Networks that look at the whole frame would spread it over all of the picture, or engines fail
    at it with an error that says nothing of it.
    """
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(x.sum()) or bool(np.isfinite(x).all())
    if not is_finite:
        n, c, row, column = at = tuple(np.argwhere(~np.isfinite(x))[0].tolist())
        raise ValueError(
            f"a tensor holds finite values, of [0, 1] as a rule; this one has {x[at]} at row "
            f"{row}, column {column} of channel {c} of image {n}"
        )


def _frame_hint(frame: npt.NDArray[Any]) -> str:
    """What to do with an array that is no frame."""
    if frame.ndim == 4:
        return "for several at once call its method batch"
    if frame.ndim == 3 and frame.shape[0] == 3 and frame.shape[2] not in (1, 3, 4):
        return "channels come last: frame.transpose(1, 2, 0)"
    if frame.dtype not in (np.uint8, np.uint16):
        return "scale it to 0..255, round it and convert it: .astype(numpy.uint8)"
    return "for gray, alpha or 16-bit images call gidrn_runtime.frames.upscale_image"


def check_out(out: Any, shape: tuple[int, ...], *frames: Frame) -> None:
    """Raise ValueError unless `out` can receive an output of this shape, made from `frames`."""
    wanted = f"out is a C-contiguous, writeable uint8 array of shape {shape}"
    if not isinstance(out, np.ndarray):
        raise ValueError(f"{wanted}, not {type(out).__name__}")
    if out.dtype != np.uint8 or out.shape != shape:
        raise ValueError(f"{wanted}, not {out.dtype} {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError(
            f"{wanted}; this one has strides {out.strides}: leave out= away and copy the result"
        )
    if not out.flags.writeable:
        raise ValueError(f"{wanted}; this one is read-only")
    if any(np.may_share_memory(out, frame) for frame in frames):
        raise ValueError(f"{wanted} apart from the frame; this one overlaps the frame in memory")


def tensor_from_frames(
    frames: npt.NDArray[np.uint8], color: str, out: Tensor | None = None
) -> Tensor:
    """uint8 (N, H, W, 3) in `color` order -> float32 RGB (N, 3, H, W) in [0, 1], contiguous.

    `out`, of that shape, receives it, if given.
    """
    n, height, width, _ = frames.shape
    tensor = np.empty((n, 3, height, width), np.float32) if out is None else out
    planes = (2, 1, 0) if color == "bgr" else (0, 1, 2)
    for plane, channel in enumerate(planes):
        # dtype: NumPy 1 would divide uint8 by a small float in half precision.
        np.divide(frames[..., channel], 255, out=tensor[:, plane], dtype=np.float32)
    return tensor


def frames_from_tensor(
    tensor: Tensor, color: str, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """float32 RGB (N, 3, H, W) -> uint8 (N, H, W, 3) in `color` order; overwrites `tensor`.

    Clips to [0, 1], multiplies by 255 and rounds, halves to even. `out`, of that shape, receives
    it, if given.
    """
    n, _, height, width = tensor.shape
    np.clip(tensor, 0, 1, out=tensor)
    np.multiply(tensor, 255, out=tensor)
    np.rint(tensor, out=tensor)
    frames = np.empty((n, height, width, 3), np.uint8) if out is None else out
    planes = (2, 1, 0) if color == "bgr" else (0, 1, 2)
    for plane, channel in enumerate(planes):
        np.copyto(frames[..., channel], tensor[:, plane], casting="unsafe")
    return frames
