"""Engines side by side: PyTorch's forms on the CPU, plans on a played GPU, the floor."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import contenders, device_floor, exported_models, fps, low_images, records, turns
from benchmarks.contenders import TORCH, Choice, OfTorch, TorchForm
from benchmarks.device_floor import Rates, Work
from benchmarks.exported_models import ExportedModel
from export import to_tensorrt
from export.rewrites import RefusedError
from gidrn import evaluation
from gidrn_runtime import engines, plans, processor
from gidrn_runtime.engines import EngineStatus
from tests.benchmarks.test_fps import tiny_low, tiny_onnx
from tests.runtime.test_tensorrt import Machine


class Doubling(nn.Module):
    """A network of one convolution: (N, 3, H, W) -> (N, 3, 2H, 2W)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        up: Tensor = self.shuffle(self.conv(x))
        return up * 0.5 + 0.5


@pytest.mark.parametrize("name", ["torch-fp32", "torch-fp16", "torch-compile"])
def test_pytorch_s_forms_make_the_network_s_picture(name: str) -> None:
    network = Doubling().eval()
    frame = low_images.smooth_noise((9, 14), seed=0)
    other = low_images.smooth_noise((9, 14), seed=1)
    with contenders.torch_settings(1):
        form = OfTorch(network, TORCH[name], "cpu")
        for low in (frame, other):
            wanted = evaluation.upscale(network, low)[..., ::-1]
            came: Any = form(np.ascontiguousarray(low[..., ::-1]))
            off = np.abs(came.astype(int) - wanted).max()
            assert off <= (0 if name == "torch-fp32" else 1)
        both: Any = form(np.stack([frame, other]))
        assert both.shape == (2, 18, 28, 3)
        tensor = np.random.default_rng(0).random((2, 3, 9, 14), np.float32)
        with torch.inference_mode():
            exact = network(torch.from_numpy(tensor)).numpy()
        found = form.run_tensor(tensor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-6 if name == "torch-fp32" else 2e-3)
    assert form.device_ms(frame) is None
    assert next(network.parameters()).dtype == torch.float32  # the caller's stays as it was


def test_pytorch_s_settings_come_back() -> None:
    before = (torch.get_num_threads(), torch.backends.cudnn.benchmark)
    with contenders.torch_settings(1):
        assert torch.get_num_threads() == 1
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cuda.matmul.allow_tf32
    assert before == (torch.get_num_threads(), torch.backends.cudnn.benchmark)


def test_without_a_gpu_the_reason_and_the_way_out_are_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=r"torch-fp32 is not available here: .*--device cpu"):
        contenders.choose("torch-fp32", "cuda")
    for name in ("ort-cuda", "tensorrt", "tensorrt-rtx:fp32"):
        with pytest.raises(ValueError, match="is not available here: "):
            contenders.choose(name, "cuda")


def test_precision_is_that_of_the_device_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "status", lambda name: EngineStatus(name, True, "1", "", ""))
    for text, chosen in {
        **{name: Choice(name, "fp32", "cpu") for name in engines.ON_CPU},
        "ort-cpu:fp16": Choice("ort-cpu", "fp16", "cpu"),
        "ort-cuda": Choice("ort-cuda", "fp16", "cuda"),
        "tensorrt:fp32": Choice("tensorrt", "fp32", "cuda"),
    }.items():
        assert contenders.choose(text, "cpu") == chosen
    assert contenders.choose("torch-fp16", "cpu") == Choice("torch-fp16", "fp16", "cpu")


def test_a_run_compares_engines_batches_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exported(name: str, scale: int, **_: object) -> ExportedModel:
        return ExportedModel(tiny_onnx(tmp_path / f"{name}.onnx", scale), "made up", 7, 0.01)

    monkeypatch.setattr(exported_models, "exported", exported)
    monkeypatch.setattr(
        exported_models, "with_weights", lambda *_: (Doubling().eval(), "made up", "")
    )
    monkeypatch.setattr(fps, "TURNS_A_SIZE", 4)
    monkeypatch.setattr(turns, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(device_floor, "measure_rates", lambda device, dtype: Rates(10.0, 0.002))
    out = tmp_path / "fps.json"
    fps.main(
        models="gidrn,imdn",
        scale=2,
        engines="ort-cpu,torch-fp32",
        sizes="6x8,540x4",
        batch="1,3",
        device="cpu",
        threads="1",
        out=out,
        seconds=1,
        floor=True,
    )
    found = records.read_records(out)
    assert [(one.what.engine, one.what.size_hw, one.what.batch) for one in found[::2]] == [
        (engine, size_hw, batch)
        for engine in ("ort-cpu", "torch-fp32")
        for size_hw in ((6, 8), (540, 4))
        for batch in (1, 3)
    ]
    for one in found:
        assert one.published == {}  # Table 6 is of B100, an image at a time
        assert f"batch {one.what.batch};" in one.how.protocol
        pixels = math.prod(one.what.size_hw or ()) * one.what.batch
        operations, moved = 2 * 27 * 12 * pixels, 4 * (15 * pixels + 27 * 12 + 12)
        floor = max(operations / 0.002e9, moved / 10e6)
        assert one.values["floor_ms"] == pytest.approx(floor, abs=1e-5)
        assert ("peak_memory_mib" in one.values) == (one.what.engine == "ort-cpu")
        assert ("proof_levels" in one.values) == (one.what.engine == "ort-cpu")
    shown = capsys.readouterr().out
    assert "### x2, 6x8, generated, batch 3; torch-fp32, fp32, 1 thread of" in shown
    best = shown[shown.index("### Each network on its fastest engine") :]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in best.splitlines()]
    assert [row[:3] for row in rows[4:12]] == [
        [f"{size}, generated", batch, model]
        for size in ("6x8", "540x4")
        for batch in "13"
        for model in ("gidrn", "imdn")
    ]
    assert float(rows[4][5]) >= 1  # times faster than eager PyTorch: at least as fast as itself
    assert rows[4][6] == "1.00"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A played GPU with TensorRT, a tiny network for each, and tiny pictures in B100's place."""
    monkeypatch.setattr(
        exported_models, "with_weights", lambda *_: (Doubling().eval(), "made up", "")
    )
    monkeypatch.setattr(engines, "status", lambda name: EngineStatus(name, True, "10.3.0", "", ""))
    monkeypatch.setattr(low_images, "low_images", lambda *_: tiny_low(8))
    return Machine(monkeypatch, "10.3.0")


def test_plans_are_built_for_their_sizes_and_timed_on_the_gpu(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the played GPU, whose step takes a millisecond."""
    asked: list[tuple[object, ...]] = []

    def plan_of(onnx: Path, engine: str, sizes_hw: object, batch: int, cache: Path) -> Path:
        asked.append((engine, sizes_hw, batch))
        return machine.plan(onnx)

    def exported(name: str, scale: int, **how: object) -> ExportedModel:
        assert how == {"weights_root": None, "dtype": "fp16", "frames": "bgr"}
        return ExportedModel(tiny_onnx(tmp_path / f"{name}.onnx", scale), "made up", 7, 0.01)

    monkeypatch.setattr(contenders, "plan_of", plan_of)
    monkeypatch.setattr(exported_models, "exported", exported)
    states = (f"SM {n} MHz" for n in itertools.count())
    monkeypatch.setattr(records, "gpu_state", lambda: next(states))
    out = tmp_path / "fps.json"
    fps.main(models="gidrn", engines="tensorrt", batch="2", out=out, seconds=1)
    (one,) = records.read_records(out)
    assert asked == [("tensorrt", [(6, 4), (4, 6)], 2)]
    assert (one.what.engine, one.what.batch, one.where.threads) == ("tensorrt", 2, None)
    assert set(one.figure("device_ms").samples) == {1.0}
    assert set(one.figure("device_over_gidrn").samples) == {1.0}
    before, after = (str(one.values[name]) for name in ("gpu_before", "gpu_after"))
    assert before.startswith("SM ")
    assert int(before.split()[1]) < int(after.split()[1])
    assert "peak_memory_mib" not in one.values
    assert machine.nothing_left()


def test_what_one_network_fails_at_costs_the_others_nothing(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One is refused by the export, one by the builder, one is measured."""

    def plan_of(onnx: Path, *_: object) -> Path:
        if onnx.stem == "imdn":
            raise to_tensorrt.BuildError("the builder ran out of memory")
        return machine.plan(onnx)

    def exported(name: str, scale: int, **_: object) -> ExportedModel:
        if name == "edsr":
            raise RefusedError("FP16 does not hold")
        return ExportedModel(tiny_onnx(tmp_path / f"{name}.onnx", scale), "made up", 7, 0.01)

    monkeypatch.setattr(contenders, "plan_of", plan_of)
    monkeypatch.setattr(exported_models, "exported", exported)
    out = tmp_path / "fps.json"
    fps.main(models="gidrn,imdn,edsr", engines="tensorrt", out=out, seconds=1)
    assert [one.what.model for one in records.read_records(out)] == ["gidrn"]
    shown = capsys.readouterr().out
    assert "- edsr on tensorrt, fp16: FP16 does not hold" in shown
    assert "- imdn on tensorrt, fp16, tiny pictures, batch 1: the builder ran out of" in shown
    with pytest.raises(
        ValueError, match=r"nothing could be measured: edsr on tensorrt, fp16: FP16"
    ):
        fps.main(models="edsr", engines="tensorrt", out=tmp_path / "none.json", seconds=1)
    assert not (tmp_path / "none.json").exists()


def test_more_sizes_than_an_engine_keeps_are_refused(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [low_images.smooth_noise((4 + i, 6), seed=i) for i in range(5)]
    low = low_images.LowImages("five", tuple("abcde"), tuple(sizes))
    monkeypatch.setattr(low_images, "low_images", lambda *_: low)
    monkeypatch.setattr(
        exported_models,
        "exported",
        lambda *_, **__: ExportedModel(tiny_onnx(tmp_path / "a.onnx"), "made up", 7, 0.01),
    )
    with pytest.raises(ValueError, match=r"tensorrt keeps 4 sizes ready .* 5 are too many"):
        fps.main(models="gidrn", engines="tensorrt", out=tmp_path / "fps.json", seconds=1)


def test_finished_comparisons_are_kept_when_a_run_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exported_models, "with_weights", lambda *_: (Doubling().eval(), "made up", "")
    )
    monkeypatch.setattr(fps, "TURNS_A_SIZE", 2)
    monkeypatch.setattr(turns, "PAUSE_SECONDS", 0.0)
    whole = turns.in_turns
    calls = iter([whole])

    def cut_short(*given: Any, **how: Any) -> Any:
        return next(calls, _interrupted)(*given, **how)

    monkeypatch.setattr(turns, "in_turns", cut_short)
    out = tmp_path / "fps.json"
    with pytest.raises(KeyboardInterrupt):
        fps.main(
            models="gidrn",
            engines="torch-fp32",
            device="cpu",
            sizes="6x8,8x6",
            scale=2,
            threads="1",
            seconds=1,
            out=out,
        )
    assert [one.what.size_hw for one in records.read_records(out)] == [(6, 8)]


def _interrupted(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def test_a_floor_of_a_gpu_wants_pytorch_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--floor measures the GPU with PyTorch"):
        contenders.check_rates([Choice("tensorrt", "fp16", "cuda")])
    contenders.check_rates([Choice("ort-cpu", "fp32", "cpu")])


def test_a_plan_is_asked_for_what_will_be_fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by NVIDIA's own builder of TensorRT for RTX, which needs no GPU."""
    pytest.importorskip("tensorrt_rtx")
    onnx = tiny_onnx(tmp_path / "gidrn.onnx")
    plan = contenders.plan_of(onnx, "tensorrt-rtx", [(6, 4), (4, 8)], 2, tmp_path / "cache")
    profile = plans.read_facts(plan)["key"]["profile"]
    assert [tuple(profile[side]) for side in ("least", "best", "most")] == [
        (2, 4, 4),
        (2, 6, 4),
        (2, 6, 8),
    ]
    again = contenders.plan_of(onnx, "tensorrt-rtx", [(6, 4), (4, 8)], 2, tmp_path / "cache")
    assert again == plan


def test_the_floor_takes_the_slower_of_work_and_bytes() -> None:
    rates = Rates(copy_gb_s=1000.0, matmul_tflops=100.0)
    assert device_floor.floor_ms([Work(10**11, 10**6)], rates) == pytest.approx(1.0)
    assert device_floor.floor_ms([Work(10**6, 10**9)], rates) == pytest.approx(1.0)
    both = [Work(10**11, 10**6), Work(10**6, 10**9)]
    assert device_floor.floor_ms(both, rates) == pytest.approx(2.0)


def test_work_is_counted_in_the_precision_that_runs() -> None:
    network = Doubling().eval()
    for dtype, size in ((torch.float32, 4), (torch.float16, 2)):
        (work,) = device_floor.work_of(network, (5, 6), 2, dtype)
        assert work.operations == 2 * 27 * 12 * 30 * 2
        assert work.bytes == size * (2 * 15 * 30 + 27 * 12 + 12)


def test_rates_are_measured_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_floor, "COPY_BYTES", {"cpu": 1 << 22})
    monkeypatch.setattr(device_floor, "MATRIX_SIDE", {"cpu": 256})
    rates = device_floor.measure_rates("cpu", torch.float32)
    assert 0.1 < rates.copy_gb_s < 10_000
    assert 1e-4 < rates.matmul_tflops < 1000


def test_a_gpu_s_rates_are_free_of_the_host_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A played GPU: 1 ms a run on the device, and 1 ms to be waited for."""
    now = 0

    def pass_ms(ms: int) -> None:
        nonlocal now
        now += ms * 1_000_000

    monkeypatch.setattr("benchmarks.device_floor.time.perf_counter_ns", lambda: now)
    monkeypatch.setattr(device_floor, "synchronise", lambda _: pass_ms(1))
    assert device_floor._fastest_s(lambda: pass_ms(1), "cuda") == pytest.approx(1.1e-3)
    assert device_floor._fastest_s(lambda: pass_ms(1), "cpu") == pytest.approx(2e-3)


def test_the_gpu_s_state_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "answer", lambda *_: "1980, 2619, 310.51, 41, P0")
    assert records.gpu_state() == "SM 1980 MHz, memory 2619 MHz, 310.51 W, 41 C, P0"
    monkeypatch.setattr(processor, "answer", lambda *_: "NVIDIA H200, 570.1")
    assert records.gpu_slug() == "nvidia-h200"
    monkeypatch.setattr(processor, "answer", lambda *_: None)
    assert records.gpu_state() is None


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(TORCH))
def test_pytorch_on_a_gpu_makes_the_cpu_s_picture(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU here")
    network = Doubling().eval()
    with contenders.torch_settings(1):
        form = OfTorch(network, TORCH[name], "cuda")
        for seed in range(3):
            frame = low_images.smooth_noise((9, 14), seed)
            wanted: Any = OfTorch(network, TorchForm("fp32"), "cpu")(frame)
            came: Any = form(frame)
            assert np.abs(came.astype(int) - wanted).max() <= 1
        assert 0 < (form.device_ms(frame) or 0) < 1000
