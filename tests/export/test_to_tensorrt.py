"""Engines, really parsed, typed and built by NVIDIA's library for RTX, and every way to fail."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import fp16, layer_types, precision, proof, to_onnx, to_tensorrt
from export.profiles import parse_profile
from export.proof import Dtype
from export.rewrites.frames import Color
from export.to_onnx import Labels
from export.to_tensorrt import BuildError, Request
from gidrn import checkpoints, command_line, zoo
from gidrn_runtime import Upscaler, cuda_devices, models, plans, tensorrt_api
from gidrn_runtime.cuda_devices import Device
from gidrn_runtime.errors import EngineUnavailable
from gidrn_runtime.golden import Golden
from gidrn_runtime.tensorrt_api import Api
from tests.export.restricted_tensorrt import VERSIONS, Restricted
from tests.small_networks import trained_like

ROOT = Path(__file__).resolve().parents[2]
GPU = Device("Made-up GPU", "8.9", 8192, "13.0")
PROFILE = parse_profile("8x8,16x24,32x32", 2)


@pytest.fixture(scope="session")
def rtx() -> ModuleType:
    """TensorRT for RTX; skips where there is no wheel of it, and only there."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"no wheel of TensorRT for RTX for {sys.platform} on {platform.machine()}")
    return importlib.import_module("tensorrt_rtx")


@pytest.fixture(scope="session")
def api(rtx: ModuleType) -> Api:
    return tensorrt_api.open_api("tensorrt-rtx")


def write(
    network: nn.Module,
    path: Path,
    scale: int,
    *,
    dtype: Dtype = "fp16",
    size_hw: tuple[int, int] | None = None,
    frames: Color | None = None,
) -> Path:
    """A network as our export writes it, with the parts FP32 that are so by rule; not proved."""
    cases = proof.small(proof.cases(proof.read_photos(), scale))[:1]
    changed, curve = to_onnx.rewritten(network, "curve", cases)
    if dtype == "fp16":
        changed = fp16.Ends(precision.typed_by_rule(changed), torch.float32)
    model = to_onnx.to_model(changed, scale, size_hw=size_hw, frames=frames)
    labels = Labels("gidrn", scale, "random", "", "global", frames=frames, dtype=dtype)
    to_onnx.label(model, labels, "curve", curve)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def tiny_path(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A small network in FP16 for any size."""

    def fill(folder: Path) -> None:
        write(trained_like(2), folder / "tiny.onnx", 2)

    return made_once("tiny_fp16", fill) / "tiny.onnx"


@pytest.fixture
def tiny(tiny_path: Path) -> to_tensorrt.Source:
    return to_tensorrt.read_source(tiny_path)


@pytest.mark.parametrize(
    ("scale", "size_hw", "frames"),
    [(2, None, None), (3, None, None), (4, None, None), (4, (80, 120), None), (2, None, "bgr")],
)
def test_every_export_becomes_an_fp16_engine(
    tmp_path: Path, api: Api, scale: int, size_hw: tuple[int, int] | None, frames: Color | None
) -> None:
    """The whole network with its shipped weights; each convolution in FP16 as TensorRT reads it."""
    path = tmp_path / "model.onnx"
    write(zoo.load("gidrn", scale), path, scale, size_hw=size_hw, frames=frames)
    source = to_tensorrt.read_source(path)
    profile = None if size_hw else parse_profile("b100", scale)
    built = to_tensorrt.build(source, tmp_path / "model.plan", Request(profile), api, None)
    convolutions = sum(node.op_type == "Conv" for node in source.model.graph.node)
    assert built.facts["layers"]["convolutions"] == {"fp16": convolutions}
    assert convolutions >= 90
    assert built.facts["layers"]["network"]["fp16"] > convolutions
    assert built.path.stat().st_size == built.facts["plan_bytes"] > 1_000_000


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_shipped_models_become_fp32_engines(tmp_path: Path, api: Api, scale: int) -> None:
    source = to_tensorrt.read_source(models.shipped()[f"gidrn_x{scale}"])
    profile = parse_profile("b100", scale)
    built = to_tensorrt.build(source, tmp_path / "model.plan", Request(profile), api, None)
    assert set(built.facts["layers"]["convolutions"]) == {"fp32"}
    assert "fp16" not in built.facts["layers"]["network"]


def test_the_sidecar_says_what_the_plan_is(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source
) -> None:
    out = tmp_path / "tiny.plan"
    request = Request(PROFILE, workspace_mib=512, targets=("8.6", "8.9"))
    built = to_tensorrt.build(tiny, out, request, api, None)
    facts = json.loads(plans.sidecar_path(out).read_text())
    assert facts == built.facts
    assert facts["format"] == "gidrn-plan/1"
    assert facts["metadata"]["scale"] == "2"
    assert facts["key"]["library"] == "tensorrt-rtx"
    assert facts["key"]["library_version"] == api.version
    assert facts["key"]["onnx_sha256"] == tiny.sha256
    assert facts["key"]["profile"]["most"] == [1, 32, 32]
    assert facts["key"]["targets"] == ["8.6", "8.9"]
    assert facts["key"]["gpu"] is None
    assert facts["layers"]["engine"] is None
    shown = to_tensorrt.report(built)
    assert "built in" in shown
    assert "for 8.6, 8.9" in shown
    assert "was not read" in shown
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {".tiny.plan.lock"} == {"tiny.plan", "tiny.plan.json"}


def test_a_plan_that_is_there_is_not_built_again(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file, library version, GPU, profile or option, a damaged plan: each is built anew."""
    out, request = tmp_path / "tiny.plan", Request(PROFILE)
    builds: list[Request] = []
    real = to_tensorrt.build_plan

    def counted(source: to_tensorrt.Source, request: Request, api: Api) -> Any:
        builds.append(request)
        return real(source, request, api)

    monkeypatch.setattr(to_tensorrt, "build_plan", counted)
    # A GPU is made up below, so its report must not be asked for.
    layer = layer_types.EngineLayer("a", "kgen", None, "fp16")
    monkeypatch.setattr(to_tensorrt, "inspect", lambda plan, shape, api: [layer])

    def is_new(
        source: to_tensorrt.Source = tiny,
        request: Request = request,
        api: Api = api,
        device: Device | None = None,
        force: bool = False,
    ) -> bool:
        before = len(builds)
        built = to_tensorrt.build(source, out, request, api, device, force=force)
        assert built.is_new == (len(builds) > before)
        assert built.facts["plan_sha256"] == checkpoints.sha256(out)
        return built.is_new

    assert is_new()
    assert not is_new()
    assert is_new(force=True)
    assert is_new(source=dataclasses.replace(tiny, sha256="another"))
    assert is_new(api=dataclasses.replace(api, version="1.7.2"))
    assert is_new(device=GPU)
    assert not is_new(device=GPU)
    assert is_new(device=dataclasses.replace(GPU, driver="13.1"))
    assert is_new(request=Request(parse_profile("16x24", 2)))
    assert is_new(request=Request(PROFILE, optimization_level=2))
    assert is_new(request=Request(PROFILE, tf32=True))
    assert is_new()
    out.write_bytes(out.read_bytes()[:-1])
    assert is_new()
    sidecar = plans.sidecar_path(out)
    sidecar.write_text(sidecar.read_text()[:40])
    assert is_new()
    sidecar.unlink()
    assert is_new()
    out.unlink()
    assert is_new()
    assert not is_new()


def test_a_write_that_fails_leaves_the_plan_before(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tiny.plan"
    to_tensorrt.build(tiny, out, Request(PROFILE), api, None)
    before = out.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            to_tensorrt.build(tiny, out, Request(PROFILE), api, None, force=True)
    assert out.read_bytes() == before
    assert not to_tensorrt.build(tiny, out, Request(PROFILE), api, None).is_new


def test_a_process_killed_between_plan_and_sidecar_is_noticed(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source
) -> None:
    out = tmp_path / "tiny.plan"
    to_tensorrt.build(tiny, out, Request(PROFILE), api, None)
    child = f"""
import os, signal, sys
from pathlib import Path
from export import to_tensorrt
from export.profiles import parse_profile
from gidrn_runtime import tensorrt_api
Path.write_text = lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL)
to_tensorrt.build(
    to_tensorrt.read_source(Path({str(tiny.path)!r})), Path({str(out)!r}),
    to_tensorrt.Request(parse_profile("16x24", 2)), tensorrt_api.open_api("tensorrt-rtx"), None,
)
"""
    dead = subprocess.run([sys.executable, "-c", child], cwd=ROOT, env=environment(), timeout=120)
    assert dead.returncode == -signal.SIGKILL
    facts = json.loads(plans.sidecar_path(out).read_text())
    assert facts["plan_sha256"] != checkpoints.sha256(out)
    assert to_tensorrt.build(tiny, out, Request(PROFILE), api, None).is_new


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_two_processes_build_a_plan_once(tmp_path: Path, rtx: ModuleType, tiny_path: Path) -> None:
    command = [
        *(sys.executable, str(ROOT / "export" / "to_tensorrt.py"), str(tiny_path)),
        *("--library", "tensorrt-rtx", "--profile", "8x8,16x24,32x32"),
        *("--cache", str(tmp_path / "plans")),
    ]
    both = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = sorted(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert sum("built in" in text for text in told) == 1
    assert sum("there already" in text for text in told) == 1
    assert len(list((tmp_path / "plans").glob("tiny-*.plan"))) == 1


def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = to_tensorrt._Bar.begin

    def interrupt(self: to_tensorrt._Bar, *given: Any) -> None:
        begin(self, *given)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(to_tensorrt._Bar, "begin", interrupt)
    asked: list[bool] = []
    step = to_tensorrt._Bar.step

    def noted(self: to_tensorrt._Bar, name: str) -> bool:
        asked.append(step(self, name))
        return asked[-1]

    monkeypatch.setattr(to_tensorrt._Bar, "step", noted)
    with pytest.raises(KeyboardInterrupt):
        to_tensorrt.build(tiny, tmp_path / "tiny.plan", Request(PROFILE), api, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert asked == [False]  # cancelled at its first step, not waited for to its end
    assert [path.name for path in tmp_path.iterdir()] == [".tiny.plan.lock"]


def test_outside_the_main_thread_no_signal_is_touched(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source
) -> None:
    built = []
    thread = threading.Thread(
        target=lambda: built.append(
            to_tensorrt.build(tiny, tmp_path / "tiny.plan", Request(PROFILE), api, None)
        )
    )
    thread.start()
    thread.join(120)
    assert built[0].is_new


def change(source: to_tensorrt.Source, edit: Callable[[onnx.ModelProto], Any]) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    edit(model)
    return dataclasses.replace(source, model=model)


def test_the_library_s_reasons_come_through(api: Api, tiny: to_tensorrt.Source) -> None:
    def rename(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Frobnicate"

    with pytest.raises(BuildError, match=r"cannot read .*tiny\.onnx: Frobnicate node_conv2d"):
        to_tensorrt.build_plan(change(tiny, rename), Request(PROFILE), api)


def test_a_build_that_fails_says_why(
    api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No profile for a free size: the library's own words. check_request stops users before."""
    with monkeypatch.context() as patched:
        patched.setattr(to_tensorrt.Source, "fixed_size", (1, 16, 24))
        with pytest.raises(BuildError, match=r"no engine was built: .*no optimization profile"):
            to_tensorrt.build_plan(tiny, Request(None), api)
    messages = tensorrt_api.Messages(errors=["Error Code 2: OutOfMemory (requested 9 GiB)"])
    told = to_tensorrt._failure("no engine was built", api, messages, Request(PROFILE))
    assert "raise --workspace, or take a smaller --profile (1x8x8 to 1x32x32" in told
    told = to_tensorrt._failure("no engine was built", api, tensorrt_api.Messages(), Request(None))
    assert told.endswith("it gave no reason")


def test_types_that_are_not_the_file_s_are_refused(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer of the network played FP32: named, and no file."""
    real = layer_types.of_network
    name = next(node.name for node in tiny.model.graph.node if node.op_type == "Conv")
    monkeypatch.setattr(layer_types, "of_network", lambda network: {**real(network), name: "fp32"})
    with pytest.raises(layer_types.OtherTypesError, match=f"{name} is fp32, not fp16"):
        to_tensorrt.build(tiny, tmp_path / "tiny.plan", Request(PROFILE), api, None)
    assert [path.name for path in tmp_path.iterdir()] == [".tiny.plan.lock"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(None), "takes any size: say which with --profile"),
        (Request(PROFILE, optimization_level=6), "0 to 5, not 6"),
        (Request(PROFILE, workspace_mib=0), "at least 1 MiB"),
        (Request(PROFILE, targets=("9.0",)), r"7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1, not 9\.0"),
        (Request(PROFILE, timing_cache=Path("t")), "measures nothing at a build"),
    ],
)
def test_requests_that_cannot_be(
    api: Api, tiny: to_tensorrt.Source, request_: Request, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        to_tensorrt.check_request(tiny, request_, api)


def test_a_file_of_one_size_takes_no_other_profile(
    api: Api, tiny: to_tensorrt.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_tensorrt.Source, "sides", (1, 16, 24))
    to_tensorrt.check_request(tiny, Request(None), api)
    to_tensorrt.check_request(tiny, Request(parse_profile("16x24", 2)), api)
    with pytest.raises(ValueError, match="of 1x16x24 alone, not 1x8x8 to 1x32x32"):
        to_tensorrt.check_request(tiny, Request(PROFILE), api)
    monkeypatch.setattr(to_tensorrt.Source, "sides", (0, 16, 24))
    to_tensorrt.check_request(tiny, Request(parse_profile("16x24", 2, 8)), api)
    with pytest.raises(ValueError, match="of anyx16x24 alone, not 1x8x8 to 1x32x32"):
        to_tensorrt.check_request(tiny, Request(PROFILE), api)


def test_a_plan_for_other_gpus_is_not_opened_on_this_one(
    tmp_path: Path, api: Api, tiny: to_tensorrt.Source
) -> None:
    """A GPU made up: to open the plan on it would fail."""
    request = Request(PROFILE, targets=("8.6",))
    assert to_tensorrt.opens_on(GPU, dataclasses.replace(request, targets=("8.6", "8.9")), api)
    built = to_tensorrt.build(tiny, tmp_path / "tiny.plan", request, api, GPU)
    assert built.facts["layers"]["engine"] is None


@pytest.mark.parametrize("most", [1, 64 * 72])
def test_the_golden_frame_is_of_a_size_that_the_plan_takes(
    tmp_path: Path,
    api: Api,
    tiny: to_tensorrt.Source,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    patch = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    text = Golden(patch, (24, 32), patch.repeat(2, axis=0).repeat(2, axis=1)).to_text()
    source = dataclasses.replace(tiny, metadata={**tiny.metadata, "golden": text})
    monkeypatch.setattr(to_tensorrt, "MOST_GOLDEN_PIXELS", most)

    def built(sizes: str) -> to_tensorrt.Built:
        request = Request(parse_profile(sizes, 2))
        return to_tensorrt.build(source, tmp_path / "tiny.plan", request, api, None)

    same = built("8x8,24x32,32x32")
    assert same.facts["metadata"]["golden"] == text
    assert "no golden frame" not in to_tensorrt.report(same)
    other = built("64x72")
    if most == 1:  # too large to run on a CPU
        assert "golden" not in other.facts["metadata"]
        assert "no golden frame" in to_tensorrt.report(other)
        return
    golden = Golden.from_text(other.facts["metadata"]["golden"])
    assert (golden.size_hw, golden.window.shape) == ((64, 72), (48, 64, 3))
    with pytest.warns(UserWarning, match="random"), Upscaler(tiny.path, color="rgb") as upscale:
        np.testing.assert_array_equal(golden.window, upscale(golden.low)[:48, :64])
    least = Golden.from_text(built("5x7,9x9,9x9").facts["metadata"]["golden"])
    assert (least.size_hw, least.window.shape) == ((5, 7), (10, 14, 3))


def test_files_that_are_not_ours(tmp_path: Path, tiny: to_tensorrt.Source) -> None:
    path = tmp_path / "other.onnx"
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        to_tensorrt.read_source(path)
    path.write_bytes(b"\xff\x00 no protobuf")
    with pytest.raises(ValueError, match="is no ONNX file"):
        to_tensorrt.read_source(path)
    unlabelled = change(tiny, lambda model: model.metadata_props.clear())
    path.write_bytes(unlabelled.model.SerializeToString())
    with pytest.raises(ValueError, match="wanted metadata format='gidrn-onnx/1', came None"):
        to_tensorrt.read_source(path)


def test_a_file_that_onnx_runtime_optimized_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    shipped = models.shipped()["gidrn_x4"]
    onnxruntime.InferenceSession(str(shipped), options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "optimized.onnx")
    if not model.metadata_props:
        model.metadata_props.extend(onnx.load(shipped).metadata_props)
        onnx.save(model, tmp_path / "optimized.onnx")
    with pytest.raises(ValueError, match="as ONNX Runtime writes them"):
        to_tensorrt.read_source(tmp_path / "optimized.onnx")


def test_without_a_gpu_plain_tensorrt_is_never_started(
    monkeypatch: pytest.MonkeyPatch, rtx: ModuleType
) -> None:
    def nothing() -> Any:
        raise EngineUnavailable("no GPU can be used here")

    monkeypatch.setattr(cuda_devices, "find_device", nothing)
    assert to_tensorrt.find_device(Api("tensorrt-rtx", rtx, "1.7")) is None
    with pytest.raises(EngineUnavailable, match="no GPU"):
        to_tensorrt.find_device(Api("tensorrt", rtx, "11.4"))


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["to_tensorrt", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        command_line.run(to_tensorrt.main)
    assert isinstance(left.value.code, int)
    return left.value.code


def test_the_command(
    tmp_path: Path,
    api: Api,
    tiny_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rtx = ("--library", "tensorrt-rtx")
    assert run(tiny_path, *rtx, "--profile", "8x8,16x24,32x32", monkeypatch=monkeypatch) == 0
    assert "tiny_8x8_16x24_32x32_rtx.plan: " in capsys.readouterr().out
    assert Path("tiny_8x8_16x24_32x32_rtx.plan").is_file()
    for arguments, message in (
        ([*rtx, "--out", "tiny.onnx"], "a plan is called .plan or .engine"),
        ([*rtx, "--out", "no/tiny.plan"], "there is no folder no"),
        ([*rtx, "--out", "a.plan", "--cache", "b"], "leave out one"),
        ([*rtx, "--profile", "4k"], "a profile is b100"),
        ([*rtx, "--compute-capability", "9.0"], "not 9.0"),
    ):
        assert run(tiny_path, *arguments, monkeypatch=monkeypatch) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(tiny_path, monkeypatch=monkeypatch) == 2
    assert "install TensorRT 10.3 or later as NVIDIA ships it" in capsys.readouterr().err


@pytest.mark.parametrize("version", list(VERSIONS))
def test_other_versions_have_every_name_that_is_used(
    tmp_path: Path,
    rtx: ModuleType,
    tiny: to_tensorrt.Source,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10.3, 10.16 and 11.4 by their own names: a whole build with all options, and the report."""
    conv = next(node.name for node in tiny.model.graph.node if node.op_type == "Conv")
    layer = {
        "Name": conv,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Format/Datatype": "Half"}],
        "Outputs": [{"Format/Datatype": "Half"}],
        "Weights": {"Type": "Half", "Count": 9},
    }
    fake = Restricted(rtx, version, json.dumps({"Layers": [layer]}))
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    plain = tensorrt_api.open_api("tensorrt")
    assert (plain.version, plain.compute_capabilities()) == (version, {})
    timings = tmp_path / "timings"
    request = Request(PROFILE, workspace_mib=256, timing_cache=timings)
    to_tensorrt.check_request(tiny, request, plain)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_tensorrt.check_request(tiny, Request(PROFILE, timing_cache=tmp_path / "a/b"), plain)
    with pytest.raises(ValueError, match="leave out --compute-capability"):
        to_tensorrt.check_request(tiny, Request(PROFILE, targets=("8.9",)), plain)
    built = to_tensorrt.build(tiny, tmp_path / "tiny.plan", request, plain, GPU)
    assert built.facts["layers"]["engine"] == {"fp16": 1}
    assert built.facts["key"]["gpu"]["name"] == "Made-up GPU"
    assert timings.is_file()
    shown = to_tensorrt.report(built)
    assert "layers of the engine: 1 fp16" in shown
    assert "it says so itself of 1, of the others it does not tell" in shown

    layer["Weights"] = {"Type": "Float", "Count": 9}
    fake.report = json.dumps({"Layers": [layer]})
    out = tmp_path / "fp32.plan"
    with pytest.raises(layer_types.OtherTypesError, match=f"in FP32: {conv}"):
        to_tensorrt.build(tiny, out, request, plain, GPU)
    assert not out.exists()
    fake.report = ""
    with pytest.raises(BuildError, match="cannot open the engine it built"):
        to_tensorrt.build(tiny, out, request, plain, GPU)
    assert not out.exists()


def test_a_name_that_a_version_lacks_is_noticed(rtx: ModuleType) -> None:
    """The stand-in itself: 11.4 has no EXPLICIT_BATCH, 10.3 no ComputeCapability."""
    old, new = Restricted(rtx, "10.3.0"), Restricted(rtx, "11.4.0.106")
    assert hasattr(old.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    assert not hasattr(new.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    assert not hasattr(old, "ComputeCapability")
    builder = new.Builder(tensorrt_api.open_api("tensorrt-rtx").logger(tensorrt_api.Messages()))
    assert not hasattr(builder, "platform_has_fast_fp16")
    config = builder.create_builder_config()
    with pytest.raises(AttributeError, match=r"no IBuilderConfig\.num_compute_capabilities"):
        config.num_compute_capabilities = 1
