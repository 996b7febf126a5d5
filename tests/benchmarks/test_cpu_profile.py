"""The CPU's profile: operators from a trace, kernels by themselves, ncnn, and the script."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hatch_build
from benchmarks import (
    cpu_profile,
    exported_models,
    layer_kinds,
    native_kernels,
    ncnn_network,
    operator_times,
    records,
)
from benchmarks.exported_models import ExportedModel
from benchmarks.ncnn_network import NcnnNetwork
from gidrn import zoo
from gidrn.networks import attention
from gidrn_runtime import engines, models


def operator(ts: int, ms: float, name: str, inputs: list[list[int]], output: list[int]) -> Any:
    """An event as ONNX Runtime's profiler writes it; a float has four bytes."""
    sizes = [4 * int(np.prod(shape)) for shape in inputs]
    return {
        "cat": "Node",
        "name": f"node_{ts}_kernel_time",
        "ts": ts,
        "dur": round(1000 * ms),
        "args": {
            "op_name": name,
            "input_type_shape": [{"float": shape} for shape in inputs],
            "output_type_shape": [{"float": output}],
            "activation_size": str(sizes[0]),
            "parameter_size": str(sum(sizes[1:])),
            "output_size": str(4 * int(np.prod(output))),
        },
    }


def test_operators_are_told_apart_run_by_run() -> None:
    feature, grouped = [1, 16, 5, 7], [[1, 16, 5, 7], [16, 8, 3, 3], [16]]
    trace = [
        {"cat": "Session", "name": "model_run", "ts": 10, "dur": 50},
        operator(11, 1.0, "Conv", grouped, feature),
        operator(20, 0.5, "Add", [feature, feature], feature),
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 50},
        operator(101, 3.0, "FusedConv", grouped, feature),
        operator(110, 0.25, "Add", [feature, feature], feature),
        operator(115, 0.25, "Add", [feature, feature], feature),
        operator(120, 1.0, "MatMul", [[2, 3], [3, 4]], [2, 4]),
        {"cat": "Node", "name": "node_fence_before", "ts": 121, "dur": 1, "args": {}},
    ]
    events = operator_times.events(trace)
    assert [event.run for event in events] == [0, 0, 1, 1, 1, 1]
    convolution, product, add = operator_times.by_kind(e for e in events if e.run == 1)
    assert convolution.kind == "3x3 convolution, 2 groups"
    assert convolution.multiply_adds == 16 * 5 * 7 * 8 * 9
    assert convolution.ms == (3.0,)
    assert convolution.bytes == 4 * (2 * 16 * 35 + 16 * 8 * 9 + 16)
    assert convolution.g_per_s == pytest.approx(16 * 35 * 72 / 0.003 / 1e9)
    assert (add.calls, add.ms, add.g_per_s) == (2, (0.5,), None)
    assert (product.kind, product.multiply_adds) == ("MatMul", 2 * 4 * 3)
    with pytest.raises(ValueError, match="no operator of a run that is kept"):
        operator_times.by_kind([])


def test_a_real_profile_has_the_networks_multiply_adds() -> None:
    kinds = operator_times.profiled(models.find("gidrn_x4"), (8, 12), threads=1, runs=2)
    by_name = {kind.kind: kind for kind in kinds}
    assert by_name["3x3 convolution, 9 groups"].calls == 36
    assert all(len(kind.ms) == 2 for kind in kinds)
    with torch.device("meta"):
        network = zoo.create("gidrn", 4)
    counted = sum(layer_kinds.multiply_adds(network, (8, 12)).values())
    profiled = sum(kind.multiply_adds for kind in kinds)
    assert profiled == pytest.approx(counted, rel=0.02)  # the attention's curve is counted here


def test_small_operators_stand_together() -> None:
    kinds = [
        operator_times.KindTime("Conv", 3, (98.0,), 4_900_000_000, 2**20),
        operator_times.KindTime("Add", 2, (1.9,), 0, 2**21),
        operator_times.KindTime("Exp", 1, (0.06,), 0, 2**20),
        operator_times.KindTime("Log", 1, (0.04,), 0, 2**20),
    ]
    table = cpu_profile.operator_table(kinds, rate=100).splitlines()
    assert len(table) == 5
    assert [cell.strip() for cell in table[2].split("|")[1:6]] == [
        *("Conv", "3", "98.00", "98.0%", "50.0")
    ]
    assert "2 others" in table[4]
    assert "0.10" in table[4]


@pytest.fixture(scope="module")
def needs_native() -> None:
    """Skips where the engine is not built, or there is no compiler for the driver."""
    status = engines.status("native")
    if not status.available:
        pytest.skip(status.reason)
    try:
        hatch_build.compiler()
    except hatch_build.NoCompilerError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("needs_native")
def test_the_kernels_are_timed() -> None:
    instructions, kernels = native_kernels.measure(pixels=10)
    assert instructions in hatch_build.KERNELS
    assert [kernel.multiply_adds for kernel in kernels] == [
        10 * 72 * 72,
        4 * 10 * 72 * 9 * 48,
        4 * 10 * 72 * 8 * 9,
        0,
        0,
    ]
    for kernel in kernels:
        assert len(kernel.us) == 40
        assert min(kernel.us) > 0
        assert (kernel.g_per_s is None) == (kernel.multiply_adds == 0)


@pytest.mark.usefixtures("needs_native")
def test_the_script_on_tiny_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ExportedModel(models.find("gidrn_x4"), "shipped", 1, 0.0)
    monkeypatch.setattr(exported_models, "exported", lambda *_, **__: made)
    monkeypatch.setattr(cpu_profile, "why_absent", lambda: "ncnn not installed")
    monkeypatch.setattr(
        native_kernels,
        "measure",
        lambda: ("avx2", [native_kernels.Kernel("1x1", 1000, (2.0, 1.0))]),
    )
    out = tmp_path / "profile.json"
    wanted = "native,ort-cpu,ncnn,torch-cpu"
    code = cpu_profile.main(
        models="gidrn", engine=wanted, sizes="8x12", threads="1", runs=2, out=out
    )
    assert code == 0
    printed = capsys.readouterr()
    assert "gidrn on ncnn left out: ncnn not installed" in printed.err
    assert "3x3 convolution, 9 groups" in printed.out
    found = records.read_records(out)
    assert [one.what.engine for one in found] == [
        *("native", "ort-cpu", "torch-cpu"),
        *("ort-cpu", "native"),
    ]
    total, profile, kernels = found[0], found[3], found[4]
    ms = total.figure("network_only_ms")
    assert len(ms.samples) == 2
    assert total.values["g_multiply_adds_per_s"] == pytest.approx(
        float(str(total.values["multiply_adds_g"])) / ms.p50 * 1000, rel=0.01
    )
    assert profile.values["3x3 convolution, 9 groups: calls"] == 36
    assert kernels.values["1x1: g_multiply_adds_per_s"] == 1.0


def test_without_any_engine_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_profile, "why_absent", lambda: "ncnn not installed")
    out = tmp_path / "profile.json"
    with pytest.raises(ValueError, match="none of ncnn runs a network here"):
        cpu_profile.main(models="gidrn", engine="ncnn", sizes="8x12", threads="1", out=out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "tensorrt"}, "--engine wants native, ncnn|--engine wants .*not 'tensorrt'"),
        ({"runs": 0}, "--runs is at least 1"),
        ({"models": "gidr"}, "gidrn"),
        ({"sizes": "80"}, "HEIGHTxWIDTH"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        cpu_profile.main(**{"models": "gidrn", "out": tmp_path / "x.json", **options})


class Doubling(nn.Module):
    """A contrast attention, and every pixel twice in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = attention.ContrastAttention(3, 1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high: torch.Tensor = self.up(self.attention(x))
        return high


def test_another_output_of_ncnn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net:
        opt = SimpleNamespace()
        load_param = load_model = staticmethod(lambda _path: 0)

        def create_extractor(self) -> Any:
            return SimpleNamespace(
                input=lambda _name, _matrix: 0,
                extract=lambda _name: (0, np.zeros((3, 16, 18), np.float32)),
            )

    played = SimpleNamespace(Net=Net, Mat=np.asarray, __version__="0")
    monkeypatch.setitem(sys.modules, "ncnn", played)
    monkeypatch.setattr(ncnn_network, "converted", lambda *_: (Path("a"), Path("b")))
    with pytest.raises(ValueError, match=r"ncnn's output of doubling is [0-9.]+ levels from"):
        NcnnNetwork(Doubling(), "doubling", (8, 9), 1)


def test_what_is_lacking_for_ncnn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ncnn_network.why_absent() == "ncnn and pnnx not installed: pip install ncnn pnnx"


def test_a_network_converted_for_ncnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := ncnn_network.why_absent():
        pytest.skip(why)
    monkeypatch.setattr(exported_models, "CACHE", tmp_path)
    before = attention.contrast
    network = NcnnNetwork(Doubling().eval(), "doubling", (8, 9), 1)
    assert attention.contrast is before
    assert network.run_tensor(np.zeros((1, 3, 8, 9), np.float32)).shape == (1, 3, 16, 18)
    assert len(list(tmp_path.iterdir())) == 2
