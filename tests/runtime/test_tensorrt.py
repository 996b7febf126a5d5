"""The TensorRT engines on a played GPU, under the names of every version; and on a real one."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as real_driver

from gidrn_runtime import (
    EngineError,
    EngineUnavailable,
    FrameTooLargeError,
    ModelError,
    Upscaler,
    WrongOutputError,
    cuda_memory,
    engines,
    models,
    plans,
    tensorrt_api,
)
from gidrn_runtime.cuda_devices import Device, find_device
from gidrn_runtime.engines import tensorrt
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.engines.tensorrt import LANES, TensorRT
from gidrn_runtime.golden import Golden
from tests.export.restricted_tensorrt import VERSIONS, Restricted
from tests.runtime import played_gpu
from tests.runtime.conftest import METADATA, MakeModel
from tests.runtime.played_gpu import Library, PlayedDriver

RTX = "tensorrt-rtx"
GPU = Device("NVIDIA GeForce RTX 4090", "8.9", 24564, "13.0")
PROFILE = ((1, 3, 4, 4), (1, 3, 8, 12), (4, 3, 16, 24))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


class Machine:
    """A played machine: its driver, its library and what it is made by."""

    def __init__(self, patch: pytest.MonkeyPatch, version: str, memory_bytes: int = 1 << 30):
        rtx = pytest.importorskip("tensorrt_rtx")
        self.version = rtx.__version__ if version == RTX else version
        self.engine = RTX if version == RTX else "tensorrt"
        self.driver = PlayedDriver(memory_bytes)
        self.library = Library(self.driver, rtx, PROFILE)
        module = Restricted(
            rtx, self.version, runtime=lambda logger: played_gpu.Runtime(self.library, logger)
        )
        patch.setitem(sys.modules, tensorrt_api.MODULES[self.engine], module)
        patch.setitem(sys.modules, "cuda.bindings.driver", self.driver)
        patch.setattr(tensorrt, "find_device", lambda: GPU)

    def plan(self, onnx: Path, name: str = "model.plan", **key: object) -> Path:
        """A plan that is this ONNX file, with its facts."""
        plan = onnx.with_name(name)
        plan.write_bytes(onnx.read_bytes())
        engine = OrtCpu(onnx, 1)
        facts = {
            "format": plans.FORMAT,
            "plan_sha256": hashlib.sha256(plan.read_bytes()).hexdigest(),
            "key": {
                "library": self.engine,
                "library_version": self.version,
                "gpu": None if self.engine == RTX else asdict(GPU),
                "targets": [],
                **key,
            },
            "metadata": engine.metadata,
        }
        plans.sidecar_path(plan).write_text(json.dumps(facts))
        return plan

    def nothing_left(self) -> bool:
        return not any(self.driver.left().values())


@pytest.fixture(params=[*VERSIONS, RTX])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with each version of the library in turn."""
    return Machine(monkeypatch, request.param)


@pytest.fixture
def ten(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with TensorRT 10.3, where versions make no difference."""
    return Machine(monkeypatch, "10.3.0")


def test_runs_equal_those_of_the_file_at_every_size(
    machine: Machine, make_model: MakeModel
) -> None:
    path = make_model(mode="linear", gain=(1, 0.5, 2))
    engine = engines.engine_class(machine.engine)(machine.plan(path))
    plain = OrtCpu(path, 1)
    for shape in [(1, 3, 4, 6), (1, 3, 4, 6), (2, 3, 8, 5), (4, 3, 16, 24), (1, 3, 4, 6)]:
        tensor = noise(*shape)
        kept = tensor.copy()
        np.testing.assert_array_equal(engine.run(tensor), plain.run(tensor))
        np.testing.assert_array_equal(tensor, kept)
    # Each size: once to prepare, once into the graph; then every run is one launch of it.
    assert (machine.library.executions, machine.driver.launches) == (6, 5)
    facts = engine.describe()
    assert facts["engine"] == machine.engine
    assert facts["engine_version"] == machine.version
    assert facts["device"] == GPU.name
    assert facts["cuda_graphs"] == [True] * 3
    assert facts["why_no_graph"] is None
    assert facts["sizes"] == [[2, 3, 8, 5], [4, 3, 16, 24], [1, 3, 4, 6]]
    json.dumps(facts)
    engine.close()
    engine.close()
    assert machine.nothing_left()


def test_a_returned_array_is_the_caller_s(ten: Machine, make_model: MakeModel) -> None:
    engine = TensorRT(ten.plan(make_model()))
    ones = np.ones((1, 3, 4, 4), np.float32)
    first = engine.run(ones)
    first += 1
    assert (engine.run(ones * 0.5) == 0.5).all()
    assert (first == 2).all()


def test_an_output_is_written_into_the_caller_s_memory(ten: Machine, make_model: MakeModel) -> None:
    engine = TensorRT(ten.plan(make_model(mode="linear")))
    tensor = noise(1, 3, 4, 6)
    out = np.full((1, 3, 8, 12), np.nan, np.float32)
    engine.run_into(tensor, out)
    np.testing.assert_array_equal(out, engine.run(tensor))
    kept = out.copy()
    engine.run(1 - tensor)
    np.testing.assert_array_equal(out, kept)
    with pytest.raises(EngineError, match=r"gave float32 \(1, 3, 8, 12\) where float32 \(1, 3, 8"):
        engine.run_into(tensor, np.empty((1, 3, 8, 11), np.float32))
    engine.run_into(tensor, out)
    np.testing.assert_array_equal(out, kept)
    engine.close()
    assert ten.nothing_left()


def test_what_the_plan_is_stands_in_its_specs(ten: Machine, make_model: MakeModel) -> None:
    engine = TensorRT(ten.plan(make_model()))
    assert engine.metadata == METADATA
    low, high = engine.inputs[0], engine.outputs[0]
    assert (low.name, low.dtype, low.shape) == ("input", "float32", (None, 3, None, None))
    assert (low.least, low.most) == (PROFILE[0], PROFILE[2])
    assert (high.name, high.shape, high.least) == ("output", (None, 3, None, None), None)
    ten.library.profile = None
    fixed = TensorRT(ten.plan(make_model(size=(1, 6, 8)), "fixed.plan"))
    assert fixed.inputs[0].shape == (1, 3, 6, 8)
    assert fixed.inputs[0].least is None


def test_more_sizes_than_lanes(ten: Machine, make_model: MakeModel) -> None:
    """The size that was used longest ago makes room."""
    path = make_model(mode="linear")
    engine, plain = TensorRT(ten.plan(path)), OrtCpu(path, 1)
    sizes = [(1, 3, 4 + i, 9) for i in range(LANES + 2)]
    for shape in [*sizes, sizes[-1], sizes[2], sizes[0]]:
        tensor = noise(*shape)
        np.testing.assert_array_equal(engine.run(tensor), plain.run(tensor))
    left = ten.driver.left()
    assert (left["streams"], left["host"], left["graphs"]) == (LANES, 2 * LANES, LANES)
    assert engine.describe()["sizes"] == [
        list(shape) for shape in (sizes[-2], sizes[-1], sizes[2], sizes[0])
    ]
    engine.close()
    assert ten.nothing_left()


def test_threads_of_many_sizes(ten: Machine, make_model: MakeModel) -> None:
    path = make_model(mode="linear", gain=(1, 0.5, 2))
    engine, plain = TensorRT(ten.plan(path)), OrtCpu(path, 1)
    tensors = [noise(1 + i % 2, 3, 4 + i % 3, 5 + i % 6) for i in range(6)]
    wanted = [plain.run(tensor) for tensor in tensors]
    most = 0
    watch = threading.Lock()

    def run(i: int) -> None:
        nonlocal most
        came = engine.run(tensors[i % 6])
        with watch:
            most = max(most, ten.driver.left()["streams"])
        np.testing.assert_array_equal(came, wanted[i % 6])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(240)))
    assert 1 < most <= LANES
    engine.close()
    assert ten.nothing_left()


def needed(shape: tuple[int, ...]) -> int:
    """Bytes of the played GPU that a lane for this shape takes."""
    pixels = int(np.prod(shape))
    return 4 * pixels + 4 * 4 * pixels + 64 * pixels


def test_a_size_takes_the_place_of_another_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> None:
    large, small = (1, 3, 16, 24), (1, 3, 12, 20)
    machine = Machine(monkeypatch, "10.3.0", needed(large) + needed(small) // 2)
    path = make_model(mode="linear")
    engine, plain = TensorRT(machine.plan(path)), OrtCpu(path, 1)
    for shape in (small, large, small, small, large):
        np.testing.assert_array_equal(engine.run(noise(*shape)), plain.run(noise(*shape)))
        assert engine.describe()["sizes"] == [list(shape)]
    with pytest.raises(FrameTooLargeError, match=r"GPU has too little memory"):
        engine.run(noise(4, 3, 16, 24))
    np.testing.assert_array_equal(engine.run(noise(*small)), plain.run(noise(*small)))
    # Threads that cannot have a lane each take turns.
    with ThreadPoolExecutor(4) as pool:
        for i, came in enumerate(pool.map(engine.run, [noise(*small), noise(*large)] * 20)):
            np.testing.assert_array_equal(came, plain.run(noise(*(large if i % 2 else small))))
    engine.close()
    assert machine.nothing_left()


@pytest.mark.parametrize("version", ["11.4.0.106", RTX])
def test_without_a_graph_the_numbers_are_the_same(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel, version: str
) -> None:
    machine = Machine(monkeypatch, version)
    machine.library.capturable = False
    path = make_model(mode="linear")
    engine = engines.engine_class(machine.engine)(machine.plan(path))
    plain = OrtCpu(path, 1)
    for _ in range(3):
        np.testing.assert_array_equal(engine.run(noise(1, 3, 4, 6)), plain.run(noise(1, 3, 4, 6)))
    assert machine.driver.launches == 0
    facts = engine.describe()
    assert facts["cuda_graphs"] == [False]
    why = (
        "cannot be captured" if version == RTX else "TensorRT did not run: operation not permitted"
    )
    assert why in str(facts["why_no_graph"])
    engine.close()
    assert machine.nothing_left()


@pytest.mark.parametrize("capturable", [True, False])
def test_the_gpu_s_time_is_of_the_execution_alone(
    ten: Machine, make_model: MakeModel, capturable: bool
) -> None:
    """The played GPU takes a millisecond for a step, and each copy would be one."""
    ten.library.capturable = capturable
    path = make_model(mode="linear")
    engine, plain = TensorRT(ten.plan(path)), OrtCpu(path, 1)
    for _ in range(2):
        for shape in ((1, 3, 4, 6), (2, 3, 4, 6)):
            assert engine.device_ms(noise(*shape)) == 1
            np.testing.assert_array_equal(engine.run(noise(*shape)), plain.run(noise(*shape)))
    assert ten.driver.launches == (12 if capturable else 0)  # of each timed one, two
    assert engine.describe()["cuda_graphs"] == [capturable] * 2
    ten.driver.fail["cuEventElapsedTime"] = real_driver.CUresult.CUDA_ERROR_LAUNCH_FAILED
    with pytest.raises(EngineError, match="CUDA's cuEventElapsedTime failed"):
        engine.device_ms(noise(1, 3, 4, 6))
    engine.close()
    assert ten.nothing_left()


def test_an_upscaler_tells_the_gpu_s_time(ten: Machine, make_model: MakeModel) -> None:
    with Upscaler(ten.plan(make_model()), engine="tensorrt") as upscale:
        assert upscale.device_ms(np.zeros((4, 6, 3), np.uint8)) == 1
        assert upscale.device_ms(np.zeros((4, 8, 12, 3), np.uint8)) == 1
        for shape in ((5, 8, 12, 3), (1, 3, 6, 3), (1, 17, 12, 3)):
            size = f"{shape[0]} frames of {shape[1]}x{shape[2]}"
            with pytest.raises(ValueError, match=f"does not take {size} as they are"):
                upscale.device_ms(np.zeros(shape, np.uint8))
        wrong: Any = np.zeros((4, 6, 3), np.float32)
        with pytest.raises(ValueError, match="a frame is uint8"):
            upscale.device_ms(wrong)
    assert ten.nothing_left()


@pytest.mark.parametrize(
    "function",
    [
        *("cuStreamCreate", "cuMemHostAlloc", "cuMemAlloc", "cuStreamSynchronize"),
        *("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"),
    ],
)
def test_a_lane_that_cannot_be_opened_leaves_nothing(
    ten: Machine, make_model: MakeModel, function: str
) -> None:
    path = make_model(mode="linear")
    engine = TensorRT(ten.plan(path))
    ten.driver.fail[function] = real_driver.CUresult.CUDA_ERROR_LAUNCH_FAILED
    with pytest.raises(EngineError, match=f"CUDA's {function} failed: CUDA_ERROR_LAUNCH_FAILED"):
        engine.run(noise(1, 3, 4, 6))
    left = {name: count for name, count in ten.driver.left().items() if count}
    assert left == {"contexts": 1}
    np.testing.assert_array_equal(
        engine.run(noise(1, 3, 4, 6)), OrtCpu(path, 1).run(noise(1, 3, 4, 6))
    )
    engine.close()


def test_a_run_that_fails_is_told_and_its_lane_not_used_again(
    ten: Machine, make_model: MakeModel
) -> None:
    path = make_model(mode="linear")
    engine = TensorRT(ten.plan(path))
    engine.run(noise(1, 3, 4, 6))
    ten.driver.fail["cuGraphLaunch"] = real_driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(EngineError, match=r"CUDA's cuGraphLaunch failed: CUDA_ERROR_ILLEGAL"):
        engine.run(noise(1, 3, 4, 6))
    assert ten.driver.left()["streams"] == 0
    ten.library.fail_at = ten.library.executions + 1
    with pytest.raises(EngineError, match=r"TensorRT did not run: an illegal memory access"):
        engine.run(noise(1, 3, 4, 6))
    with pytest.raises(EngineError, match=r"does not take \(1, 3, 99, 6\).*outside of the profile"):
        engine.run(noise(1, 3, 99, 6))
    np.testing.assert_array_equal(
        engine.run(noise(1, 3, 4, 6)), OrtCpu(path, 1).run(noise(1, 3, 4, 6))
    )
    engine.close()
    assert ten.nothing_left()


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"library": RTX}, f"was built by {RTX} .*open it with engine='{RTX}'"),
        ({"library_version": "10.2.0"}, "built by tensorrt 10.2.0, and 10.3.0 is here; build it"),
        (
            {"gpu": {**asdict(GPU), "name": "Orin"}},
            "was built on Orin, and NVIDIA GeForce RTX 4090",
        ),
        ({"gpu": None}, "was built on an unknown GPU"),
    ],
)
def test_a_plan_of_another_machine_is_refused(
    ten: Machine, make_model: MakeModel, key: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        TensorRT(ten.plan(make_model(), **key))
    assert ten.nothing_left()


def test_a_plan_for_other_rtx_gpus_is_refused(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> None:
    machine = Machine(monkeypatch, RTX)
    rtx_engine = engines.engine_class(RTX)
    rtx_engine(machine.plan(make_model(), targets=["8.6", "8.9"])).close()
    with pytest.raises(ModelError, match=r"compute capability 12\.0, and NVIDIA.* has 8\.9"):
        rtx_engine(machine.plan(make_model(), targets=["12.0"]))
    monkeypatch.setattr(tensorrt, "find_device", lambda: Device("H200", "9.0", 1, "13.0"))
    with pytest.raises(ModelError, match=r"H200 has 9\.0"):
        rtx_engine(machine.plan(make_model()))


def test_damaged_plans_and_facts_are_refused(ten: Machine, make_model: MakeModel) -> None:
    onnx = make_model()
    plan = ten.plan(onnx)
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=r"is not the plan of .*damaged or another"):
        TensorRT(plan)
    nonsense = b"no plan at all"
    plan.write_bytes(nonsense)
    facts = json.loads(plans.sidecar_path(plan).read_text())
    facts["plan_sha256"] = hashlib.sha256(nonsense).hexdigest()
    plans.sidecar_path(plan).write_text(json.dumps(facts))
    with pytest.raises(
        ModelError, match=r"cannot open .*: the plan's magic tag is wrong; build it"
    ):
        TensorRT(plan)
    for text in ("", "[]", "{}", '{"format": "gidrn-plan/2"}', json.dumps({**facts, "key": {}})):
        plans.sidecar_path(plan).write_text(text)
        with pytest.raises(ModelError, match=r"has no facts beside it that can be read"):
            TensorRT(plan)
    plans.sidecar_path(plan).unlink()
    with pytest.raises(ModelError, match=r"has no facts beside it.*to_tensorrt.py"):
        Upscaler(plan)
    assert ten.nothing_left()


def test_each_engine_opens_files_of_its_kind(ten: Machine, make_model: MakeModel) -> None:
    onnx = make_model()
    plan = ten.plan(onnx)
    with pytest.raises(ModelError, match=r"tensorrt opens plans .*to_tensorrt.py .*tiny.onnx"):
        Upscaler(onnx, engine="tensorrt")
    with pytest.raises(ModelError, match=r"ort-cpu opens ONNX files; .* is a TensorRT plan"):
        Upscaler(plan, engine="ort-cpu")
    with Upscaler(plan) as upscale:
        assert upscale.describe()["engine"] == "tensorrt"
    with Upscaler(onnx) as upscale:
        assert str(upscale.describe()["engine"]).startswith("ort-")
    assert RTX not in engines.that_open(onnx)


def test_why_there_is_no_engine(
    ten: Machine, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ten.plan(make_model())
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "cuda.bindings.driver", None)
        with pytest.raises(
            EngineUnavailable, match=r"cuda-python.*pip install \"gidrn\[tensorrt\]"
        ):
            Upscaler(plan)
        assert not engines.status("tensorrt").available
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(EngineUnavailable, match=r"tensorrt cannot be imported here.*JetPack"):
            Upscaler(plan, engine="tensorrt")

    def nothing() -> Device:
        raise EngineUnavailable("there is no NVIDIA driver")

    monkeypatch.setattr(tensorrt, "find_device", nothing)
    with pytest.raises(EngineUnavailable, match=r"no engine for .* tensorrt: there is no NVIDIA"):
        Upscaler(plan)
    assert ten.nothing_left()


def test_a_driver_that_fails_is_told(ten: Machine, make_model: MakeModel) -> None:
    plan = ten.plan(make_model())
    ten.driver.fail["cuInit"] = real_driver.CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    with pytest.raises(EngineError, match=r"cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"):
        TensorRT(plan)
    assert ten.nothing_left()


def frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)


def test_a_function_that_the_driver_is_too_old_for_is_told(
    ten: Machine, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As drivers before CUDA 12.8 are for the time between events by cuda-python 13."""

    def missing(*_: object) -> object:
        raise RuntimeError("Function cuEventElapsedTime_v2 not found")

    monkeypatch.setattr(ten.driver, "cuEventElapsedTime", missing)
    engine = TensorRT(ten.plan(make_model()))
    with pytest.raises(EngineError, match=r"cannot be called here.*take cuda-python of the CUDA"):
        engine.device_ms(noise(1, 3, 4, 6))
    engine.run(noise(1, 3, 4, 6))
    engine.close()
    assert ten.nothing_left()


def test_frames_within_and_outside_of_the_profile(ten: Machine, make_model: MakeModel) -> None:
    onnx = make_model(mode="linear")
    plan = ten.plan(onnx)
    with Upscaler(onnx, engine="ort-cpu") as plain, Upscaler(plan, engine="tensorrt") as upscale:
        assert upscale.size_hw == (None, None)
        told = upscale.describe()
        assert (told["least"], told["most"]) == ([1, 4, 4], [4, 16, 24])
        np.testing.assert_array_equal(upscale(frame(5, 9)), plain(frame(5, 9)))
        many = [frame(5, 9)] * 3 + [frame(9, 5)] + [frame(5, 9)] * 3
        for came, wanted in zip(upscale.batch(many), plain.batch(many), strict=True):
            np.testing.assert_array_equal(came, wanted)
        nine = np.stack([frame(5, 9)] * 9)  # in turns of four
        np.testing.assert_array_equal(upscale.batch(nine), plain.batch(nine))
        for size in ((17, 8), (8, 25)):
            with pytest.raises(ValueError, match=r"takes only height x width of 4x4 to 16x24, not"):
                upscale(frame(*size))
        with pytest.raises(ValueError, match=r"not 3x8; build a plan for it.*pad=True"):
            upscale(frame(3, 8))
    with Upscaler(plan, engine="tensorrt", pad=True) as padding:
        low = frame(3, 2)
        wanted = plain_of(onnx, np.pad(low, ((0, 1), (0, 2), (0, 0)), mode="edge"))[:6, :4]
        np.testing.assert_array_equal(padding(low), wanted)
        tensor = noise(2, 3, 3, 30)
        with pytest.raises(ValueError, match=r"not 3x30; build a plan for it"):
            padding.run_tensor(tensor)
        assert padding.run_tensor(tensor[..., :7]).shape == (2, 3, 6, 14)
    assert ten.nothing_left()


def test_a_plan_of_one_size_says_so(ten: Machine, make_model: MakeModel) -> None:
    ten.library.profile = ((1, 3, 6, 8), (2, 3, 6, 8), (4, 3, 6, 8))
    with Upscaler(ten.plan(make_model()), engine="tensorrt") as upscale:
        assert upscale.size_hw == (6, 8)
        with pytest.raises(ValueError, match="takes only height x width of 6x8, not 5x9"):
            upscale(frame(5, 9))


def plain_of(onnx: Path, low: np.ndarray) -> np.ndarray:
    with Upscaler(onnx, engine="ort-cpu") as upscale:
        return upscale(low)


def test_a_fixed_batch_is_filled_and_split(ten: Machine, make_model: MakeModel) -> None:
    ten.library.profile = None
    onnx = make_model(mode="linear", size=(3, 6, 8))
    any_batch = make_model(mode="linear", name="any.onnx")
    for path, engine in ((ten.plan(onnx), "tensorrt"), (onnx, "ort-cpu")):
        with Upscaler(path, engine=engine) as upscale:
            for count in (1, 2, 3, 4, 7):
                lows = [frame(6, 8) // (i + 1) for i in range(count)]
                for low, came in zip(lows, upscale.batch(lows), strict=True):
                    np.testing.assert_array_equal(came, plain_of(any_batch, low))
            with pytest.raises(ValueError, match=r"takes only height x width of 6x8, not 6x9"):
                upscale(frame(6, 9))


def test_the_golden_frame_is_compared(ten: Machine, make_model: MakeModel) -> None:
    low = frame(6, 8)
    right = Golden(low, (6, 8), low.repeat(2, axis=0).repeat(2, axis=1))
    plan = ten.plan(make_model(golden=right.to_text()))
    Upscaler(plan, engine="tensorrt", check=True).close()
    swapped = Golden(low, (6, 8), right.window[..., ::-1].copy())
    plan = ten.plan(make_model(golden=swapped.to_text()))
    with pytest.raises(WrongOutputError, match=r"tensorrt gives another picture.*red and blue"):
        Upscaler(plan, engine="tensorrt")
    assert ten.nothing_left()


def test_the_shipped_network_in_fp32_and_as_frames(machine: Machine, tmp_path: Path) -> None:
    """The real model, its golden frame, and what a user does with it."""
    machine.library.profile = ((1, 3, 8, 8), (1, 3, 24, 32), (2, 3, 40, 48))
    onnx = tmp_path / "gidrn_x2.onnx"
    onnx.write_bytes(models.find("gidrn_x2").read_bytes())
    plan = machine.plan(onnx)
    low = frame(20, 30)
    with (
        Upscaler(plan, engine=machine.engine, color="rgb", check=True, threads=1) as upscale,
        Upscaler(onnx, engine="ort-cpu", color="rgb", threads=1) as plain,
    ):
        np.testing.assert_array_equal(upscale(low), plain(low))
    assert machine.nothing_left()


def test_every_function_that_is_called_is_the_driver_s() -> None:
    """The played driver has the real one's names and numbers of arguments and results."""
    source = inspect.getsource(cuda_memory)
    called = set(re.findall(r'"(cu[A-Z]\w+)"', source))
    assert len(called) >= 22
    played = PlayedDriver()
    for name in called:
        known = getattr(real_driver, name).__doc__.splitlines()[0]
        wanted = len(re.findall(r"[^(),]+(?=[,)])", known[known.index("(") :]))
        assert len(inspect.signature(getattr(played, name)).parameters) == wanted, known
    asked = set(re.findall(r"\bCU_\w+", source))
    kinds = (
        *(real_driver.CUstream_flags, real_driver.CUstreamCaptureMode),
        real_driver.CUevent_flags,
    )
    assert asked
    assert all(any(name in kind.__members__ for kind in kinds) for name in asked)


def test_the_real_bindings_without_a_driver() -> None:
    """A machine without a GPU: an error that says so, before anything is opened."""
    try:
        find_device()
    except EngineUnavailable as error:
        reason = str(error)
    else:
        pytest.skip("there is a GPU here")
    for name in ("tensorrt", RTX):
        status = engines.status(name)
        assert not status.available
        assert reason in status.reason
    with pytest.raises(EngineUnavailable, match=r"tensorrt-rtx: "):
        Upscaler("gidrn_x4", engine=RTX)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tensorrt", RTX])
def test_a_gpu_makes_the_cpu_s_picture(
    tmp_path: Path, name: str, repeat: Callable[..., np.ndarray]
) -> None:
    status = engines.status(name)
    if not status.available:
        pytest.skip(status.reason)
    from export import to_tensorrt
    from export.profiles import parse_profile
    from export.to_tensorrt import Request

    api, device = tensorrt_api.open_api(name), find_device()
    source = to_tensorrt.read_source(models.find("gidrn_x4"))
    request = Request(parse_profile("16x16,24x32,64x64", 4))
    if not to_tensorrt.opens_on(device, request, api):
        pytest.skip(f"{name} has no kernels for {device.name}")
    plan = tmp_path / "gidrn_x4.plan"
    to_tensorrt.build(source, plan, request, api, device)
    low = repeat(frame(15, 20), 2)
    with (
        Upscaler(plan, engine=name, check=True) as on_gpu,
        Upscaler("gidrn_x4", engine="ort-cpu") as on_cpu,
    ):
        for part in (low, low[:20, :17], low):
            assert np.abs(on_gpu(part).astype(int) - on_cpu(part)).max() <= 1
        assert on_gpu.describe()["why_no_graph"] is None
