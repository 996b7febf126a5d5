"""The doctor runs what it vouches for, and says what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gidrn_runtime import doctor, engines, models
from gidrn_runtime.__main__ import main
from gidrn_runtime.engines.ort_cpu import OrtCpu


@pytest.fixture
def one_shipped(tmp_path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with one working model, and one engine to run it."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    path: Path = make_model(name="gidrn_x4.onnx", scale=4)
    return path


@pytest.mark.usefixtures("one_shipped")
def test_a_healthy_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for words in (
        f"ort-cpu: available, version {onnxruntime.__version__}",
        f"NumPy {np.__version__}",
        "gidrn_x4 (0.0 MiB): scale 4, fp32",
        "weights shipped (sha256 0000000000000000)",
        "ort-cpu: enlarged 16x24 in",
        "verdict: ready",
    ):
        assert words in text
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert [engine["name"] for engine in facts["engines"]] == list(engines.ENGINES)
    assert facts["models"][0]["metadata"]["format"] == "gidrn-onnx/1"
    assert facts["models"][0]["runs"][0]["ms"] > 0


def test_without_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    assert main(["doctor"]) == 1
    assert "verdict: not ready: no model is shipped" in capsys.readouterr().out


@pytest.mark.usefixtures("one_shipped")
def test_without_engine_and_opencv(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "ort-cpu: not available: ort-cpu needs ONNX Runtime" in text
    assert "OpenCV not available: image files need OpenCV" in text
    assert "PyAV not available: video needs PyAV" in text
    assert "gidrn_x4 (0.0 MiB): cannot be read without an engine" in text
    assert 'verdict: not ready: no engine runs a model; pip install "gidrn[cpu]"' in text


def test_a_model_that_does_not_run_is_no_model(
    one_shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: OrtCpu, tensor: Any) -> Any:
        raise RuntimeError("illegal\ninstruction")

    with monkeypatch.context() as patch:
        patch.setattr(OrtCpu, "run", broken)
        assert main(["doctor"]) == 1
    assert "ort-cpu: failed: illegal instruction" in capsys.readouterr().out
    one_shipped.write_bytes(b"")
    assert main(["doctor"]) == 1
    assert "verdict: not ready: no shipped model runs" in capsys.readouterr().out


def test_the_shipped_model_is_found_healthy(shipped_model: Path) -> None:
    facts = doctor.examine()
    assert facts["ok"]
    (found,) = (model for model in facts["models"] if model["path"] == str(shipped_model))
    assert found["scale"] == 4
    assert len(found["metadata"]["weights_sha256"]) == 64
