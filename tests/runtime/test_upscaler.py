"""Frames in, frames out: orders, rounding, batches, threads, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import EngineError, FrameTooLargeError, ModelError, Upscaler, engines
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.upscaler import frames_from_tensor, tensor_from_frames

Repeat = Callable[..., np.ndarray]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_enlarges_by_its_scale(
    make_model: Any, photo: np.ndarray, repeat: Repeat, scale: int
) -> None:
    with Upscaler(make_model(scale=scale)) as upscale:
        high = upscale(photo)
        assert upscale.scale == scale
    assert high.dtype == np.uint8
    assert high.flags.c_contiguous
    np.testing.assert_array_equal(high, repeat(photo, scale))


@pytest.mark.parametrize(("color", "first_gains"), [("bgr", (0.0, 0.5, 1.0)), ("rgb", (1, 0.5, 0))])
def test_color_order_reaches_the_network_as_rgb(
    make_model: Any, repeat: Repeat, color: str, first_gains: tuple[float, ...]
) -> None:
    frame = np.full((3, 2, 3), 200, np.uint8)
    with Upscaler(make_model(gain=(1, 0.5, 0)), color=color) as upscale:
        high = upscale(frame)
    np.testing.assert_array_equal(high, repeat(frame * np.array(first_gains)))


def test_every_level_survives_the_way_there_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    frames[..., 1] = 255 - frames[..., 0]
    for color in ("bgr", "rgb"):
        tensor = tensor_from_frames(frames, color)
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        np.testing.assert_array_equal(tensor[0, 1], frames[0, ..., 1].astype(np.float32) / 255)
        np.testing.assert_array_equal(frames_from_tensor(tensor, color), frames)


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (-1.0, 0),
        (0.49 / 255, 0),
        (0.51 / 255, 1),
        (254.49 / 255, 254),
        (254.51 / 255, 255),
        (1.0, 255),
        (3.0, 255),
        (-np.inf, 0),
        (np.inf, 255),
    ],
)
def test_rounds_to_the_nearest_level_and_clips(value: float, level: int) -> None:
    tensor = np.full((1, 3, 1, 1), value, np.float32)
    assert frames_from_tensor(tensor, "rgb").tolist() == [[[[level] * 3]]]


def test_rounds_halves_to_even() -> None:
    # 0.5 is the one half that float32 keeps exactly through the multiplication: 127.5 -> 128;
    # levels k + 0.5 that come out exact are found by search.
    levels = np.arange(255, dtype=np.float32) + np.float32(0.5)
    values = levels / np.float32(255)
    exact = values * np.float32(255) == levels
    assert exact.sum() > 100  # else this test would say nothing
    tensor = np.tile(values[exact], (1, 3, 1, 1))
    got = frames_from_tensor(tensor, "rgb")[0, 0, :, 0]
    even = 2 * np.round(np.floor(levels[exact]) / 2 + 0.25).astype(int)
    assert (got % 2 == 0).all()
    np.testing.assert_array_equal(got, even)


def test_network_output_is_rounded_and_clipped(make_model: Any) -> None:
    frame = np.array([[[0, 100, 250]]], np.uint8)  # RGB
    model = make_model(scale=1, gain=(1, 1.1, 1.1), bias=(-0.1, 0.01, 0))
    with Upscaler(model, color="rgb") as upscale:
        high = upscale(frame)
        raw = upscale.run_tensor(tensor_from_frames(frame[None], "rgb"))
    assert high.tolist() == [[[0, 113, 255]]]  # 100 * 1.1 + 2.55 = 112.55; 250 * 1.1 > 255
    # Not clipped; the tolerance is a few roundings of float32.
    np.testing.assert_allclose(raw.ravel(), [-0.1, 0.441373, 1.078431], atol=1e-6)


def test_batch_equals_single_frames(make_model: Any) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), np.uint8)
    with Upscaler(make_model(mode="linear", gain=(1, 0.9, 1.1))) as upscale:
        single = [upscale(frame) for frame in frames]
        for batch in (upscale.batch(frames), upscale.batch(list(frames))):
            assert isinstance(batch, list)
            np.testing.assert_array_equal(batch, single)
        assert upscale.batch([]) == []


def test_batch_is_one_run_for_one_size_and_one_each_otherwise(
    upscale: Upscaler, repeat: Repeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    run = OrtCpu.run

    def counted(self: OrtCpu, tensor: Any) -> Any:
        sizes.append(tensor.shape)
        return run(self, tensor)

    monkeypatch.setattr(OrtCpu, "run", counted)
    same = [np.full((4, 5, 3), level, np.uint8) for level in (1, 2)]
    upscale.batch(same)
    assert sizes == [(2, 3, 4, 5)]
    sizes.clear()
    other = [*same, np.full((5, 4, 3), 3, np.uint8)]
    for low, high in zip(other, upscale.batch(other), strict=True):
        np.testing.assert_array_equal(high, repeat(low))
    assert sizes == [(1, 3, 4, 5), (1, 3, 4, 5), (1, 3, 5, 4)]


def test_views_and_read_only_frames(upscale: Upscaler, photo: np.ndarray, repeat: Repeat) -> None:
    photo.flags.writeable = False
    for view in (photo[::-1, ::2], photo[..., ::-1], photo.transpose(1, 0, 2)):
        np.testing.assert_array_equal(upscale(view), repeat(view))
    np.testing.assert_array_equal(
        upscale.run_tensor(np.ones((1, 3, 4, 6), np.float32)[..., ::2]),
        np.ones((1, 3, 8, 6), np.float32),
    )


def test_results_belong_to_the_caller(upscale: Upscaler, photo: np.ndarray) -> None:
    before = photo.copy()
    first = upscale(photo)
    kept = first.copy()
    tensor = np.full((1, 3, 2, 2), 2.0, np.float32)
    upscale.run_tensor(tensor)[...] = 7
    upscale(255 - photo)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(photo, before)
    assert (tensor == 2).all()


def test_a_cpu_has_no_clock_of_its_own(upscale: Upscaler, photo: np.ndarray) -> None:
    assert upscale.device_ms(photo) is None
    assert upscale.device_ms(np.stack([photo, photo])) is None


def test_describe_tells_what_runs(tiny: Path) -> None:
    import onnxruntime

    with Upscaler(tiny, color="rgb", threads=1) as upscale:
        facts = upscale.describe()
    json.dumps(facts)
    assert {
        "model": "tiny",
        "path": str(tiny),
        "scale": 2,
        "precision": "fp32",
        "color": "rgb",
        "engine": "ort-cpu",
        "engine_version": onnxruntime.__version__,
        "threads": 1,
    }.items() <= facts.items()
    assert facts["metadata"]["weights_sha256"] == "0" * 64  # type: ignore[index]
    with Upscaler(tiny) as upscale:
        assert upscale.describe()["threads"] is None


@pytest.mark.parametrize(
    ("frame", "came"),
    [
        (None, "NoneType"),
        ([[[1, 2, 3]]], "list"),
        (np.zeros((4, 4), np.uint8), "(4, 4)"),
        (np.zeros((4, 4, 1), np.uint8), "(4, 4, 1)"),
        (np.zeros((4, 4, 4), np.uint8), "(4, 4, 4)"),
        (np.zeros((4, 4, 5), np.uint8), "(4, 4, 5)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "(1, 4, 4, 3)"),
        (np.zeros((3, 4, 4), np.uint8), "(3, 4, 4)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.zeros((4, 0, 3), np.uint8), "(4, 0, 3)"),
    ],
)
def test_refuses_what_is_no_frame(upscale: Upscaler, frame: Any, came: str) -> None:
    for call in (upscale, lambda frame: upscale.batch([frame])):
        with pytest.raises(ValueError, match="a frame") as caught:
            call(frame)
        assert came in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "remedy"),
    [
        (None, "cv2.imread gives None"),
        ([[[1, 2, 3]]], "numpy.asarray"),
        (np.zeros((1, 4, 4, 3), np.uint8), "its method batch"),
        (np.zeros((3, 6, 5), np.uint8), "frame.transpose(1, 2, 0)"),
        (np.zeros((4, 4, 3), np.float32), "scale it to 0..255"),
        (np.zeros((4, 4, 3), np.uint16), "upscale_image"),
        (np.zeros((4, 4), np.uint8), "upscale_image"),
    ],
)
def test_says_what_to_do_with_what_is_no_frame(upscale: Upscaler, frame: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match="a frame") as caught:
        upscale(frame)
    assert remedy in str(caught.value)


def test_is_not_pickled(upscale: Upscaler) -> None:
    with pytest.raises(TypeError, match="let each process open one of its own"):
        pickle.dumps(upscale)


def test_refuses_a_check_that_is_none(tiny: Path) -> None:
    with pytest.raises(ValueError, match="check is True, False or None, not 'no'"):
        Upscaler(tiny, check="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tensor",
    [
        None,
        np.zeros((1, 3, 4, 4)),
        np.zeros((1, 3, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.float32),
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((1, 1, 4, 4), np.float32),
        np.zeros((0, 3, 4, 4), np.float32),
        np.zeros((1, 3, 0, 4), np.float32),
    ],
)
def test_refuses_what_is_no_tensor(upscale: Upscaler, tensor: Any) -> None:
    with pytest.raises(ValueError, match="a tensor is"):
        upscale.run_tensor(tensor)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(upscale: Upscaler, value: float) -> None:
    x = np.zeros((2, 3, 4, 5), np.float32)
    x[1, 2, 3, 4] = value
    with pytest.raises(
        ValueError, match=rf"has {value} at row 3, column 4 of channel 2 of image 1"
    ):
        upscale.run_tensor(x)
    x[...] = 3e38  # whose sum is not finite, and which is
    upscale.run_tensor(x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"color": "gbr"}, "'bgr' or 'rgb', not 'gbr'"),
        ({"threads": 0}, "not 0"),
        ({"threads": -2}, "not -2"),
        ({"threads": 1.5}, "not 1.5"),
        ({"threads": True}, "not True"),
        ({"engine": "ort-gpu"}, "did you mean 'ort-cuda'?"),
        (
            {"engine": ""},
            "engines are: auto, tensorrt, tensorrt-rtx, ort-cuda, native, ort-cpu, openvino",
        ),
    ],
)
def test_refuses_wrong_arguments(tiny: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Upscaler(tiny, **arguments)


def test_closed_is_closed(tiny: Path, photo: np.ndarray) -> None:
    with Upscaler(tiny) as upscale:
        upscale(photo)
    upscale.close()
    for call in (
        lambda: upscale(photo),
        lambda: upscale.batch([photo]),
        lambda: upscale.run_tensor(np.zeros((1, 3, 4, 4), np.float32)),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    assert upscale.scale == 2  # what is known stays known
    assert upscale.describe()["engine"] == "ort-cpu"


def test_many_threads_share_one_upscaler(make_model: Any) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (40, 24, 31, 3), np.uint8)
    with Upscaler(make_model(mode="linear", gain=(1, 0.9, 1.1)), threads=1) as upscale:
        expected = [upscale(frame) for frame in frames]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(upscale, frames))
    np.testing.assert_array_equal(got, expected)


def test_close_waits_for_calls_in_progress_and_refuses_new_ones(
    upscale: Upscaler, photo: np.ndarray, repeat: Repeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    run = OrtCpu.run

    def slow(self: OrtCpu, tensor: Any) -> Any:
        inside.set()
        assert go_on.wait(10)
        return run(self, tensor)

    monkeypatch.setattr(OrtCpu, "run", slow)
    with ThreadPoolExecutor(2) as pool:
        high = pool.submit(upscale, photo)
        assert inside.wait(10)
        closing = pool.submit(upscale.close)
        deadline = time.monotonic() + 10
        while not upscale._closed and time.monotonic() < deadline:
            time.sleep(0.001)
        with pytest.raises(RuntimeError, match="closed"):
            upscale(photo)
        assert not closing.done()
        go_on.set()
        np.testing.assert_array_equal(high.result(10), repeat(photo))
        closing.result(10)
    assert upscale._engine._session is None  # type: ignore[attr-defined]


FORK = """
import os, sys, time, warnings
import numpy as np
from gidrn_runtime import Upscaler
warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
frame = np.zeros((8, 8, 3), np.uint8)
upscale = Upscaler("gidrn_x4", engine={engine!r}, threads=2)
upscale(frame)
child = os.fork()
if child == 0:
    try:
        upscale(frame)
    except RuntimeError as error:
        print(error, flush=True)
    upscale.close()
    del upscale
    os._exit(7)
until = time.monotonic() + 40
while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
    time.sleep(0.01)
if ended[0] == 0:
    os.kill(child, 9)
    sys.exit("the fork hangs")
print(os.waitstatus_to_exitcode(ended[1]), upscale(frame).shape)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("engine", ["native", "ort-cpu"])
def test_a_fork_is_told_to_open_its_own(engine: str, run_python: Any, shipped_model: Path) -> None:
    if not engines.status(engine).available:
        pytest.skip(f"{engine} is not here")
    done = run_python(FORK.format(engine=engine))
    assert done.returncode == 0, done.stderr
    assert "was opened in process" in done.stdout
    assert done.stdout.endswith("7 (32, 32, 3)\n")


def test_a_fixed_size_is_kept_to(make_model: Any, repeat: Repeat) -> None:
    with Upscaler(make_model(size=(1, 4, 5))) as upscale:
        assert upscale.size_hw == (4, 5)
        frames = [np.full((4, 5, 3), level, np.uint8) for level in (1, 2)]
        np.testing.assert_array_equal(upscale.batch(frames), [repeat(frame) for frame in frames])
        with pytest.raises(ValueError, match="height x width of 4x5, not 5x4"):
            upscale(np.zeros((5, 4, 3), np.uint8))


def test_memory_that_is_not_there_is_told_with_the_size(
    upscale: Upscaler, photo: np.ndarray
) -> None:
    class Session:
        def run(self, *_: Any) -> Any:
            raise RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:360\nFailed to allocate memory for "
                "requested buffer of size 691200000000"
            )

    upscale._engine._session = Session()  # type: ignore[attr-defined]
    with pytest.raises(FrameTooLargeError, match=r"1 frame\(s\) of 6x9 by 2; .*691200000000"):
        upscale(photo)
    assert issubclass(FrameTooLargeError, MemoryError)


def test_other_failures_of_the_engine_are_told(upscale: Upscaler, photo: np.ndarray) -> None:
    class Session:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Non-zero status\ncode")

    upscale._engine._session = Session()  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="ort-cpu failed: 1 : FAIL : Non-zero status code"):
        upscale(photo)


def test_random_weights_are_announced(make_model: Any, recwarn: pytest.WarningsRecorder) -> None:
    Upscaler(make_model()).close()
    assert not recwarn
    with pytest.warns(UserWarning, match="meaningless") as caught:
        Upscaler(make_model(weights="random")).close()
    assert caught[0].filename == __file__


def test_a_wrong_scale_is_refused_at_opening(make_model: Any) -> None:
    path = make_model(scale=2)
    with pytest.raises(ModelError, match=r"says scale 4.*\(1, 3, 32, 32\).*\(1, 3, 16, 16\)"):
        Upscaler(_with_scale(path, "4"))


def _with_scale(path: Path, scale: str) -> Path:
    import onnx

    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "scale":
            entry.value = scale
    onnx.save(model, path)
    return path


def test_the_shipped_model_runs_by_its_name(shipped_model: Path) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (13, 9, 3), np.uint8)
    with Upscaler("gidrn_x4") as upscale:
        assert upscale.scale == 4
        assert upscale(frame).shape == (52, 36, 3)
        assert Path(str(upscale.describe()["path"])) == shipped_model
