"""Finding models by name, and refusing what is no toolkit model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gidrn_runtime import ModelError, Upscaler, models


@pytest.fixture
def two_shipped(tmp_path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with gidrn_x2 and gidrn_x4."""
    for scale in (2, 4):
        make_model(name=f"gidrn_x{scale}.onnx", scale=scale, model="gidrn")
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    return tmp_path


def test_shipped_models_are_found_by_name(two_shipped: Path) -> None:
    assert list(models.shipped()) == ["gidrn_x2", "gidrn_x4"]
    with Upscaler("gidrn_x4") as upscale:
        assert upscale.scale == 4
        assert upscale.describe()["model"] == "gidrn"


def test_a_shipped_name_wins_over_a_file_of_that_name(
    two_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_shipped)
    (two_shipped / "gidrn_x4").write_bytes(b"something else")
    assert models.find("gidrn_x4") == two_shipped / "gidrn_x4.onnx"


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("gidrn_x3", ValueError, ["'gidrn_x3'", "nearest is 'gidrn_x", "gidrn_x2, gidrn_x4"]),
        ("gidrnx4", ValueError, ["nearest is 'gidrn_x4'"]),
        ("", ValueError, ["no model ''"]),
        ("gidrn_x4.onnx", FileNotFoundError, ["'gidrn_x4.onnx'", "is called 'gidrn_x4'"]),
        ("none/such.onnx", FileNotFoundError, ["'none/such.onnx'"]),
        (Path("gidrn_x4"), FileNotFoundError, ["'gidrn_x4'"]),
        (os.curdir, ModelError, ["is a folder"]),
    ],
)
def test_unknown_models_are_answered(
    two_shipped: Path,
    model: Any,
    error: type[Exception],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path / "empty"  # no gidrn_x4.onnx lies about, as an export leaves one
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(error) as caught:
        Upscaler(model)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_shipped_models_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path / "none")
    with pytest.raises(ValueError, match="no model is shipped"):
        models.find("gidrn_x4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "(0 bytes)"),
        (b"not a model at all" * 9, "(162 bytes)"),
        (None, "is not an ONNX file that ONNX Runtime"),
    ],
    ids=["empty", "text", "truncated"],
)
def test_damaged_files_are_one_line(tiny: Path, content: bytes | None, words: str) -> None:
    whole = tiny.read_bytes()
    tiny.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelError) as caught:
        Upscaler(tiny)
    assert words in str(caught.value)
    assert str(tiny) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"without": ["format"]}, "wanted metadata format='gidrn-onnx/1', came none"),
        ({"format": "gidrn-onnx/2"}, "came 'gidrn-onnx/2'"),
        ({"without": ["scale"]}, "came None"),
        ({"scale_text": "0"}, "came '0'"),
        ({"scale_text": "2.0"}, "came '2.0'"),
        ({"scale_text": "-2"}, "came '-2'"),
        ({"scale_text": "two"}, "came 'two'"),
        ({"color": "bgr"}, "wanted metadata color='rgb', came 'bgr'"),
        ({"range": "0-100"}, "wanted metadata range='0-1' or '0-255', came '0-100'"),
        ({"range": "0-255"}, "wanted 'input' as uint8 (N, H, W, 3), came float32"),
        ({"size": ("N", 4, 6), "scale_text": "3"}, "enlarged by its scale 3, came 4 -> 8"),
    ],
)
def test_models_that_break_the_contract(
    make_model: Any, change: dict[str, Any], words: str
) -> None:
    scale_text = change.pop("scale_text", None)
    path = make_model(**change)
    if scale_text is not None:
        model = onnx.load(path)
        next(entry for entry in model.metadata_props if entry.key == "scale").value = scale_text
        onnx.save(model, path)
    _refused(path, words)


@pytest.mark.parametrize(
    ("names", "dtype", "shape", "words"),
    [
        (("x", "output"), TensorProto.FLOAT, ["N", 3, "H", "W"], "one input 'input', came 'x'"),
        (("input", "y"), TensorProto.FLOAT, ["N", 3, "H", "W"], "one output 'output', came 'y'"),
        (("input", "output"), TensorProto.FLOAT, ["N", 3, "W"], "came float32 (?, 3, ?)"),
        (("input", "output"), TensorProto.FLOAT, ["N", 1, "H", "W"], "came float32 (?, 1, ?, ?)"),
        (("input", "output"), TensorProto.DOUBLE, ["N", 3, "H", "W"], "came float64 (?, 3, ?, ?)"),
        (("input", "output"), TensorProto.UINT8, ["N", "H", "W", 3], "came uint8 (?, ?, ?, 3)"),
    ],
)
def test_models_with_another_signature(
    tmp_path: Path, names: tuple[str, str], dtype: int, shape: list[Any], words: str
) -> None:
    source, sink = (helper.make_tensor_value_info(name, dtype, shape) for name in names)
    node = helper.make_node("Identity", [names[0]], [names[1]])
    model = helper.make_model(
        helper.make_graph([node], "other", [source], [sink]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    facts = {"format": models.FORMAT, "scale": "1", "color": "rgb", "range": "0-1"}
    helper.set_model_props(model, facts)
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    _refused(path, words)


def test_only_what_the_runtime_needs_must_be_there(make_model: Any) -> None:
    optional = ["model", "context", "weights", "weights_sha256", "dtype", "attention"]
    with Upscaler(make_model(without=optional)) as upscale:
        assert upscale(np.zeros((1, 1, 3), np.uint8)).shape == (2, 2, 3)
        assert upscale.describe()["model"] == "tiny"
        assert upscale.describe()["precision"] == "unknown"


def _refused(path: Path, words: str) -> None:
    with pytest.raises(ModelError, match="is not a G-IDRN toolkit model; wanted") as caught:
        Upscaler(path)
    assert words in str(caught.value)
    assert "make one with: python export/to_onnx.py" in str(caught.value)
