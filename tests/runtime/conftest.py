"""Tiny models with known answers, so that these tests need no trained one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gidrn_runtime import Upscaler, models

REPOSITORY = Path(__file__).resolve().parents[2]
METADATA = {
    "format": "gidrn-onnx/1",
    "model": "tiny",
    "scale": "2",
    "color": "rgb",
    "range": "0-1",
    "context": "1",
    "weights_sha256": "0" * 64,
    "weights": "shipped",
    "project_version": "0.0",
    "dtype": "fp32",
    "attention": "exact",
}


class MakeModel(Protocol):
    """Writes output = resize(input) * gain + bias and returns the file."""

    def __call__(
        self,
        *,
        scale: int = 2,
        mode: str = "nearest",
        gain: Sequence[float] = (1, 1, 1),
        bias: Sequence[float] = (0, 0, 0),
        size: tuple[int | str, int | str, int | str] = ("N", "H", "W"),
        name: str = "tiny.onnx",
        without: Sequence[str] = (),
        inner: int = 0,
        **metadata: str,
    ) -> Path: ...


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """A factory of toolkit models; gain and bias are one figure each for R, G, B.

    `mode` is ONNX's ``nearest`` or ``linear``; `size` fixes batch, height or width; `without` drops
    metadata keys and other keyword arguments set them; `inner` adds that many slow convolutions
    which change nothing.
    """

    def make(
        *,
        scale: int = 2,
        mode: str = "nearest",
        gain: Sequence[float] = (1, 1, 1),
        bias: Sequence[float] = (0, 0, 0),
        size: tuple[int | str, int | str, int | str] = ("N", "H", "W"),
        name: str = "tiny.onnx",
        without: Sequence[str] = (),
        inner: int = 0,
        **metadata: str,
    ) -> Path:
        per_channel = (1, 3, 1, 1)
        constants = [
            numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"),
            numpy_helper.from_array(np.array(gain, np.float32).reshape(per_channel), "gain"),
            numpy_helper.from_array(np.array(bias, np.float32).reshape(per_channel), "bias"),
        ]
        nodes = []
        last = "input"
        if inner:
            identity = np.zeros((64, 64, 3, 3), np.float32)
            identity[range(64), range(64), 1, 1] = 1
            constants += [
                numpy_helper.from_array(identity[:, :3].copy(), "widen"),
                numpy_helper.from_array(identity[:3].copy(), "narrow"),
                numpy_helper.from_array(identity, "identity"),
            ]
            for i, kernel in enumerate(["widen", *["identity"] * inner, "narrow"]):
                nodes.append(helper.make_node("Conv", [last, kernel], [f"c{i}"], pads=[1] * 4))
                last = f"c{i}"
        resize = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if mode == "linear":
            resize = {"coordinate_transformation_mode": "half_pixel"}
        nodes += [
            helper.make_node("Resize", [last, "", "scales"], ["high"], mode=mode, **resize),
            helper.make_node("Mul", ["high", "gain"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], ["output"]),
        ]
        n, height, width = size
        high = [scale * side if isinstance(side, int) else f"s{side}" for side in (height, width)]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [n, 3, height, width])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [n, 3, *high])],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        facts = METADATA | {"scale": str(scale)} | metadata
        helper.set_model_props(model, {k: v for k, v in facts.items() if k not in without})
        onnx.checker.check_model(model)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return make


class MakeFramesModel(Protocol):
    """Writes a model of uint8 frames and returns the file."""

    def __call__(
        self, size: tuple[int | str, int | str, int | str] = ("N", "H", "W"), **metadata: str
    ) -> Path: ...


@pytest.fixture
def make_frames_model(tmp_path: Path) -> MakeFramesModel:
    """Writes models that repeat pixels 2x2 and add 1, 2, 3 to the channels as they lie, in an order
    that is BGR unless the metadata `color` says otherwise."""

    def write(
        size: tuple[int | str, int | str, int | str] = ("N", "H", "W"), **metadata: str
    ) -> Path:
        n, height, width = size
        high = [2 * side if isinstance(side, int) else f"2*{side}" for side in (height, width)]
        nodes = [
            helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
            helper.make_node(
                "Resize",
                ["float", "", "scales"],
                ["high"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ),
            helper.make_node("Add", ["high", "bias"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["output"], to=TensorProto.UINT8),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.UINT8, [n, height, width, 3])],
            [helper.make_tensor_value_info("output", TensorProto.UINT8, [n, *high, 3])],
            [
                numpy_helper.from_array(np.array([1, 2, 2, 1], np.float32), "scales"),
                numpy_helper.from_array(np.array([1, 2, 3], np.float32), "bias"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        facts = METADATA | {"color": "bgr", "range": "0-255", "layout": "nhwc"} | metadata
        helper.set_model_props(model, facts)
        path = tmp_path / "frames.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def tiny(make_model: MakeModel) -> Path:
    """A model whose output repeats every pixel 2x2."""
    return make_model()


@pytest.fixture
def photo() -> np.ndarray:
    """uint8 (6, 9, 3), all channels different."""
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    """The real model for scale 4, or a skip where the tree has none yet."""
    path = models.MODELS_DIR / "gidrn_x4.onnx"
    if not path.is_file():
        pytest.skip("runtime/gidrn_runtime/models/gidrn_x4.onnx is not there")
    return path


@pytest.fixture
def upscale(tiny: Path) -> Upscaler:
    """The model `tiny` on frames in BGR order."""
    return Upscaler(tiny, threads=1)


def repeat(image: np.ndarray, scale: int = 2) -> np.ndarray:
    """What `tiny` makes of an image (H, W) or (H, W, C)."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.fixture(name="repeat")
def repeat_fixture() -> Callable[..., np.ndarray]:
    """`repeat`, for tests, which cannot import this file."""
    return repeat


BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by this test)")

sys.meta_path.insert(0, Block())
"""


class RunPython(Protocol):
    """Runs code in a fresh interpreter in which some packages cannot be imported."""

    def __call__(
        self, code: str, *, blocked: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_python() -> RunPython:
    """A fresh interpreter that sees the source tree of the runtime."""

    def run(code: str, *, blocked: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", BLOCK.format(blocked=set(blocked) or "()") + code],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
