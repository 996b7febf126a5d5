"""OpenVINO gives what ONNX Runtime gives, and says what it is and what it cannot."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import EngineError, EngineUnavailable, ModelError, Upscaler, engines
from gidrn_runtime.engines.base import TensorSpec
from gidrn_runtime.engines.openvino import OpenVino

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install gidrn[openvino]")

Repeat = Any
MakeModel = Any


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 13), (24, 40)])
def test_a_shipped_model_gives_the_same_picture(
    shipped_model: Path, size_hw: tuple[int, int]
) -> None:
    # Little contrast, as pictures have: on noise of one or two pixels activations pass a thousand,
    # and the network multiplies the last bit of any engine's FP32.
    tensor = 0.4 + 0.2 * np.random.default_rng(1).random((2, 3, *size_hw), np.float32)
    with (
        Upscaler(shipped_model, engine="openvino", threads=1, check=True) as ours,
        Upscaler(shipped_model, engine="ort-cpu", threads=1) as theirs,
    ):
        high = theirs.run_tensor(tensor)
        levels = 255 * np.abs(ours.run_tensor(tensor) - high)
    # FP32 in another order. What becomes of a pixel alone is no picture: values of ten thousand,
    # which PyTorch's FP32 has to 24 levels of its FP64.
    assert levels.max() < 0.5 * max(1, np.abs(high).max())


def test_it_tells_what_it_is(make_model: MakeModel) -> None:
    import openvino

    path = make_model(size=("N", 6, "W"))
    engine = OpenVino(path, 1)
    assert engine.metadata["scale"] == "2"
    assert engine.metadata["weights"] == "shipped"
    assert engine.inputs == (TensorSpec("input", "float32", (None, 3, 6, None)),)
    assert engine.outputs[0].name == "output"
    assert engine.describe() == {
        "engine": "openvino",
        "engine_version": openvino.__version__,
        "device": "cpu",
        "threads": 1,
        "inference_precision": "f32",
    }
    assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    engine.close()
    engine.close()
    with Upscaler(path, engine="openvino") as upscale:
        assert upscale.size_hw == (6, None)


def test_frames_and_files_keep_their_meaning(tiny: Path, photo: np.ndarray, repeat: Repeat) -> None:
    with Upscaler(tiny, engine="openvino") as upscale:
        np.testing.assert_array_equal(upscale(photo), repeat(photo))
        for high in upscale.batch([photo, photo[:4]]):
            assert high.shape[1] == 2 * photo.shape[1]


def test_output_memory_is_the_callers(tiny: Path) -> None:
    engine = OpenVino(tiny, 1)
    tensor: Any = np.ones((1, 3, 2, 2), np.float32)
    first = engine.run(tensor)
    first += 1
    assert (engine.run(tensor) == 1).all()
    engine.close()
    assert (first == 2).all()


def test_several_threads_run_at_once(tiny: Path, repeat: Repeat) -> None:
    frames = [np.full((5 + i, 7, 3), 10 * i, np.uint8) for i in range(8)]
    with Upscaler(tiny, engine="openvino", threads=1) as upscale, ThreadPoolExecutor(4) as pool:
        for frame, high in zip(frames, pool.map(upscale, frames), strict=True):
            np.testing.assert_array_equal(high, repeat(frame))


def test_what_it_cannot_open(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"hello" * 10)
    with pytest.raises(ModelError, match=r"\(50 bytes\) is not an ONNX file that OpenVINO"):
        OpenVino(damaged)
    assert capfd.readouterr().err == ""
    plan = tmp_path / "some.plan"
    plan.touch()
    with pytest.raises(ModelError, match="is a TensorRT plan"):
        OpenVino(plan)


def test_a_failed_run_is_an_engine_error(tiny: Path) -> None:
    engine = OpenVino(tiny, 1)
    with pytest.raises(EngineError, match=r"openvino failed: .*f64"):
        engine.run(np.ones((1, 3, 2, 2)))
    engine.close()


def test_another_precision_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda *_: openvino.Type.bf16)
    with pytest.raises(EngineUnavailable, match="asked to compute in f32 and takes"):
        OpenVino(tiny)


def test_without_openvino_the_remedy_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match=r'pip install "gidrn\[openvino\]"'):
        Upscaler(tiny, engine="openvino")
    assert not engines.status("openvino").available


def test_auto_takes_it_where_onnx_runtime_is_missing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with Upscaler(tiny) as upscale:
        assert upscale.describe()["engine"] == "openvino"
