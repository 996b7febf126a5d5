"""Pictures written into the caller's memory: the same ones, and what is copied on the way."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import EngineError, Upscaler
from gidrn_runtime.engines.base import Engine
from gidrn_runtime.engines.ort_cpu import OrtCpu
from tests.runtime.conftest import MakeFramesModel, MakeModel
from tests.runtime.test_ort_cuda import OnCpu

LOW_HW = (48, 64)
HIGH_BYTES = 4 * 48 * 64 * 3


@pytest.fixture(params=["tensors", "frames", "other frames", "of one size", "batches of two"])
def model(request: Any, make_model: MakeModel, make_frames_model: MakeFramesModel) -> Path:
    """A model of each kind that takes frames of LOW_HW."""
    makers: dict[str, Callable[[], Path]] = {
        "tensors": lambda: make_model(gain=(1, 0.9, 1.1)),
        "frames": make_frames_model,
        "other frames": lambda: make_frames_model(color="rgb"),
        "of one size": lambda: make_frames_model(size=(1, *LOW_HW)),
        "batches of two": lambda: make_model(size=(2, *LOW_HW)),
    }
    return makers[request.param]()


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (*LOW_HW, 3), np.uint8)


@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_out_receives_the_picture(model: Path, color: str) -> None:
    frame = noise()
    kept = frame.copy()
    out = np.empty((96, 128, 3), np.uint8)
    with Upscaler(model, color=color, threads=1) as upscale:
        wanted = upscale(frame)
        assert upscale(frame, out=out) is out
        np.testing.assert_array_equal(out, wanted)
        out[...] = 7
        assert upscale(frame[::-1], out) is out
        np.testing.assert_array_equal(out, upscale(frame[::-1]))  # and no view of what was kept
        frames = np.stack([frame, 255 - frame, frame])
        outs = np.empty((3, 96, 128, 3), np.uint8)
        parts = upscale.batch(frames, out=outs)
        np.testing.assert_array_equal(outs, upscale.batch(list(frames)))
    assert all(np.shares_memory(part, outs) for part in parts)
    np.testing.assert_array_equal(frame, kept)


def test_out_of_a_padded_frame(make_frames_model: MakeFramesModel, photo: np.ndarray) -> None:
    with Upscaler(make_frames_model(size=(1, 8, 12)), pad=True) as upscale:
        out = np.empty((12, 18, 3), np.uint8)
        assert upscale(photo, out=out) is out
        np.testing.assert_array_equal(out, upscale(photo))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ([], "uint8 array of shape (96, 128, 3), not list"),
        (np.zeros((96, 127, 3), np.uint8), "not uint8 (96, 127, 3)"),
        (np.zeros((96, 128, 3), np.float32), "not float32 (96, 128, 3)"),
        (np.zeros((96, 256, 3), np.uint8)[:, ::2], "strides (768, 6, 1): leave out= away"),
        (np.zeros((1, 96, 128, 3), np.uint8), "not uint8 (1, 96, 128, 3)"),
        (np.broadcast_to(np.uint8(0), (96, 128, 3)), "strides (0, 0, 0)"),
    ],
)
def test_refuses_what_cannot_receive_it(tiny: Path, out: Any, words: str) -> None:
    with Upscaler(tiny) as upscale, pytest.raises(ValueError, match=re.escape(words)):
        upscale(noise(), out=out)


def test_refuses_memory_that_may_not_be_written_or_is_the_frame_s(tiny: Path) -> None:
    memory = np.zeros((96, 128, 3), np.uint8)
    with Upscaler(tiny) as upscale:
        with pytest.raises(ValueError, match="overlaps the frame in memory"):
            upscale(memory[:48, :64], out=memory)
        outs = np.zeros((2, 8, 8, 3), np.uint8)
        with pytest.raises(ValueError, match="overlaps"):
            upscale.batch([noise()[:4, :4], outs[1, :4, :4]], out=outs)
        with pytest.raises(ValueError, match="all of one size"):
            upscale.batch([noise(), noise()[1:]], out=memory)
        memory.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            upscale(noise(), out=memory)


def test_an_engine_computes_in_the_caller_s_memory(
    make_frames_model: MakeFramesModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For frames in the model's order nothing stands between the caller's arrays and the engine."""
    given: list[tuple[int, int]] = []
    run_into = OrtCpu.run_into

    def watched(self: OrtCpu, tensor: Any, out: Any) -> None:
        given.append((tensor.ctypes.data, out.ctypes.data))
        run_into(self, tensor, out)

    def refused(self: OrtCpu, tensor: Any) -> Any:
        raise AssertionError("run allocates its output")

    with Upscaler(make_frames_model()) as upscale:
        frame, out = noise(), np.empty((96, 128, 3), np.uint8)
        wanted = upscale(frame)
        monkeypatch.setattr(OrtCpu, "run_into", watched)
        monkeypatch.setattr(OrtCpu, "run", refused)
        upscale(frame, out=out)
    assert given == [(frame.ctypes.data, out.ctypes.data)]
    np.testing.assert_array_equal(out, wanted)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that Python and NumPy had allocated at once during the call, beside before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["tensors", "frames", "other frames"])
def test_after_the_first_frame_nothing_of_its_size_is_allocated(
    make_model: MakeModel, make_frames_model: MakeFramesModel, kind: str
) -> None:
    path = (
        make_model()
        if kind == "tensors"
        else make_frames_model(color="bgr" if kind == "frames" else "rgb")
    )
    frame, out = noise(), np.empty((96, 128, 3), np.uint8)
    with Upscaler(path) as upscale:
        assert peak_bytes(lambda: upscale(frame)) >= (kind != "frames") * HIGH_BYTES
        upscale(frame, out=out)
        # NumPy converts in chunks of 8,192 numbers; 8 KiB is what Python's own objects take.
        allowed = 8192 if kind == "frames" else HIGH_BYTES
        assert peak_bytes(lambda: upscale(frame, out=out)) < allowed


def test_threads_have_buffers_of_their_own(make_model: MakeModel) -> None:
    frames = [noise(seed) for seed in range(24)]
    with Upscaler(make_model(mode="linear"), threads=1) as upscale:
        wanted = [upscale(frame) for frame in frames]
        outs = np.empty((len(frames), 96, 128, 3), np.uint8)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(upscale, frames, outs))
    np.testing.assert_array_equal(outs, wanted)


def test_closing_frees_what_threads_kept(tiny: Path) -> None:
    upscale = Upscaler(tiny)
    tracemalloc.start()
    try:
        upscale(noise(), out=np.empty((96, 128, 3), np.uint8))
        kept = tracemalloc.get_traced_memory()[0]
        upscale.close()
        assert kept - tracemalloc.get_traced_memory()[0] >= 4 * HIGH_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("engine", [OrtCpu, OnCpu])
@pytest.mark.parametrize("size", [("N", "H", "W"), (1, 4, 6)])
def test_run_into_is_run(
    engine: type[Engine], make_model: MakeModel, size: tuple[Any, Any, Any]
) -> None:
    opened = engine(make_model(mode="linear", size=size), 1)
    for seed in range(3):
        tensor = np.random.default_rng(seed).random((1, 3, 4, 6), np.float32)
        out = np.full((1, 3, 8, 12), np.nan, np.float32)
        opened.run_into(tensor, out)
        np.testing.assert_array_equal(out, opened.run(tensor))
    for wrong in (np.empty((1, 3, 8, 11), np.float32), np.empty((1, 3, 8, 12), np.float64)):
        with pytest.raises(EngineError):
            opened.run_into(tensor, wrong)
    opened.run_into(tensor, out)
    np.testing.assert_array_equal(out, opened.run(tensor))
