"""ONNX Runtime on CUDA: why it is not there, and, on the CPU's provider, all but the provider."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import EngineError, EngineUnavailable, Upscaler, engines
from gidrn_runtime.engines import ort_cuda
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.engines.ort_cuda import OrtCuda
from tests.runtime.conftest import MakeModel


class OnCpu(OrtCuda):
    """The engine with the CPU's provider in CUDA's place: the same binding, other memory."""

    provider = OrtCpu.provider
    device = OrtCpu.device
    provider_options = OrtCpu.provider_options
    graph_options = OrtCpu.provider_options

    @classmethod
    def installed_version(cls) -> str:
        return OrtCpu.installed_version()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def test_bound_runs_equal_plain_ones_at_every_size(make_model: MakeModel) -> None:
    path = make_model(mode="linear", gain=(1, 0.5, 2))
    bound, plain = OnCpu(path, 1), OrtCpu(path, 1)
    for size in ((1, 4, 6), (1, 4, 6), (2, 4, 6), (1, 6, 4), (1, 4, 6)):
        batch, height, width = size
        tensor = noise(batch, 3, height, width)
        kept = tensor.copy()
        first = bound.run(tensor)
        np.testing.assert_array_equal(first, plain.run(tensor))
        np.testing.assert_array_equal(tensor, kept)
    bound.close()
    bound.close()


def test_a_bound_run_is_timed(make_model: MakeModel) -> None:
    bound = OnCpu(make_model(), 1)
    tensor = noise(1, 3, 4, 6)
    taken = bound.device_ms(tensor)
    assert taken is not None
    assert 0 < taken < 10_000
    wrong: Any = np.zeros((1, 3, 4), np.float32)
    with pytest.raises(EngineError):
        bound.device_ms(wrong)
    np.testing.assert_array_equal(bound.run(tensor), OrtCpu(make_model(), 1).run(tensor))


def test_one_size_is_one_graph_on_memory_that_stays(make_model: MakeModel) -> None:
    """What a CUDA graph needs: the output's memory bound as the input's is, and nothing else."""
    path = make_model(mode="linear", size=(2, 4, 6))
    bound, plain = OnCpu(path, 1), OrtCpu(path, 1)
    facts = bound.describe()
    assert (facts["cuda_graph"], facts["why_no_graph"]) == (True, None)
    kept = [np.random.default_rng(seed).random((2, 3, 4, 6), np.float32) for seed in range(3)]
    came = [bound.run(tensor) for tensor in kept]
    memory = {bound._high.data_ptr(), bound._high.data_ptr()}
    for tensor, high in zip(kept, came, strict=True):
        np.testing.assert_array_equal(high, plain.run(tensor))  # the callers' own, not overwritten
    assert memory == {bound._high.data_ptr()}
    free = OnCpu(make_model(name="free.onnx"), 1).describe()
    assert (free["cuda_graph"], free["why_no_graph"]) == (False, "the file leaves its size free")
    bound.close()


class Replayed:
    """A session that goes on as CUDA's graphs do: on the memory that its first run was bound to."""

    def __init__(self, session: Any) -> None:
        self.session, self.captured, self.fault = session, None, ""

    def io_binding(self) -> Any:
        return self.session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if self.fault:
            raise RuntimeError(self.fault)
        self.captured = self.captured or binding
        self.session.run_with_iobinding(self.captured, options)


def test_a_graph_s_memory_outlives_a_failed_run(make_model: MakeModel) -> None:
    """A captured graph neither follows another binding nor looks at a shape."""
    path = make_model(mode="linear", size=(1, 4, 6))
    engine, plain = OnCpu(path, 1), OrtCpu(path, 1)
    session = engine._session = Replayed(engine._session)
    tensors = [np.random.default_rng(seed).random((1, 3, 4, 6), np.float32) for seed in range(3)]
    np.testing.assert_array_equal(engine.run(tensors[0]), plain.run(tensors[0]))
    with pytest.raises(EngineError, match=r"takes \(1, 3, 4, 6\), not \(1, 3, 6, 4\)"):
        engine.run(noise(1, 3, 6, 4))
    np.testing.assert_array_equal(engine.run(tensors[1]), plain.run(tensors[1]))
    session.fault = "lost"
    with pytest.raises(EngineError, match="lost"):
        engine.run(tensors[0])
    session.fault = ""
    np.testing.assert_array_equal(engine.run(tensors[2]), plain.run(tensors[2]))


def test_where_a_graph_is_refused_the_numbers_are_the_same(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model(mode="linear", size=(1, 4, 6))
    monkeypatch.setattr(OnCpu, "graph_options", {"enable_cuda_graph": "1"})
    create = OnCpu._session_of

    def refusing(model: Path, threads: int | None, options: dict[str, str]) -> Any:
        if "enable_cuda_graph" in options:
            raise RuntimeError("This session cannot use the graph capture feature")
        return create(model, threads, options)

    monkeypatch.setattr(OnCpu, "_session_of", staticmethod(refusing))
    engine = OnCpu(path, 1)
    assert "cannot use the graph capture" in str(engine.describe()["why_no_graph"])
    tensor = noise(1, 3, 4, 6)
    np.testing.assert_array_equal(engine.run(tensor), OrtCpu(path, 1).run(tensor))


def test_a_returned_array_is_the_caller_s(make_model: MakeModel) -> None:
    engine = OnCpu(make_model(), 1)
    ones: Any = np.ones((1, 3, 2, 2), np.float32)
    first = engine.run(ones)
    first += 1
    assert (engine.run(ones * 0.5) == 0.5).all()
    assert (first == 2).all()
    assert (ones == 1).all()


def test_threads_take_turns(make_model: MakeModel) -> None:
    engine = OnCpu(make_model(), 1)
    wrong: list[int] = []

    def work(level: int) -> None:
        side = 2 + level % 3
        for _ in range(20):
            high = engine.run(np.full((1, 3, side, side), level, np.float32))
            if high.shape != (1, 3, 2 * side, 2 * side) or not (high == level).all():
                wrong.append(level)

    threads = [threading.Thread(target=work, args=(level,)) for level in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_after_a_failed_run_the_next_is_whole(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnCpu(make_model(), 1)
    tensor = noise(1, 3, 4, 4)
    right = engine.run(tensor)
    with pytest.raises(EngineError, match="ort-cuda failed"):
        engine.run(np.zeros((1, 4, 4, 3), np.float32))
    np.testing.assert_array_equal(engine.run(tensor), right)


def test_the_session_has_what_the_engine_says(make_model: MakeModel) -> None:
    engine = OnCpu(make_model(), 2)
    assert engine.describe()["provider"] == "CPUExecutionProvider"
    assert engine._session.get_session_options().intra_op_num_threads == 2
    assert OrtCuda.provider_options["use_tf32"] == "0"


def test_the_cpu_s_build_is_told(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "built without CUDA" in engines.status("ort-cuda").reason
    with pytest.raises(EngineUnavailable, match=r"built without CUDA; pip uninstall onnxruntime"):
        Upscaler(tiny, engine="ort-cuda")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "there is no NVIDIA driver"),
        ({"gpu": 1}, "misses a library .*libcudnn.so.9"),
        ({"gpu": 1, "libcudnn.so.9": 1}, "misses a library .*providers_shared"),
        (
            {"gpu": 1, "libcudnn.so.9": 1, "libonnxruntime_providers_shared.so": 1},
            "misses a library .*providers_cuda",
        ),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], message: str
) -> None:
    load_with(monkeypatch, found)
    with pytest.raises(EngineUnavailable, match=message):
        OrtCuda.installed_version()


def load_with(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    """An ONNX Runtime built with CUDA, where only these libraries can be loaded."""

    def load(name: str, mode: int = 0) -> Any:
        if Path(name).name not in found:
            raise OSError(f"{name}: cannot open shared object file")
        return found[Path(name).name]

    compiled = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    fake = SimpleNamespace(
        __version__="1.31.1",
        __file__="/somewhere/onnxruntime/__init__.py",
        get_available_providers=lambda: compiled,
        preload_dlls=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(ctypes, "CDLL", load)
    if "gpu" in found:
        monkeypatch.setattr(ort_cuda, "find_device", lambda: None)


def test_where_all_is_there_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (ort_cuda.CUDNN, *ort_cuda.LIBRARIES)
    load_with(monkeypatch, dict.fromkeys(("gpu", *names), 1))
    assert OrtCuda.installed_version() == "1.31.1"


def test_a_session_that_fell_back_to_the_cpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    """ONNX Runtime itself falls back silently where CUDA does not start."""
    monkeypatch.setattr(OrtCuda, "installed_version", OnCpu.installed_version)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EngineUnavailable, match=r"asked for CUDAExecutionProvider and uses \['CPU"),
    ):
        OrtCuda(tiny)


@pytest.fixture
def cuda() -> None:
    """Skips where the engine cannot run."""
    status = engines.status("ort-cuda")
    if not status.available:
        pytest.skip(status.reason)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_gpu_makes_the_cpu_s_picture(scale: int, repeat: Callable[..., np.ndarray]) -> None:
    frame = repeat(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8), 2)
    with (
        Upscaler(f"gidrn_x{scale}", engine="ort-cuda", check=True) as on_gpu,
        Upscaler(f"gidrn_x{scale}", engine="ort-cpu") as on_cpu,
    ):
        for size in (frame, frame[:33, :20], frame):
            difference = on_gpu(size).astype(int) - on_cpu(size)
            assert np.abs(difference).max() <= 1  # FP32 in another order, rounded
