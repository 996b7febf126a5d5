"""The export and its proof, on small networks and on the real one."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import gidrn
from export import golden_frames, proof, to_onnx
from export.exaggeration import exaggerate
from export.proof import Dtype
from export.rewrites import RefusedError
from export.rewrites.attention import Attention
from export.rewrites.frames import Color, FramesNetwork
from export.to_onnx import Exported, Labels
from gidrn import checkpoints, evaluation, zoo
from gidrn.networks.anrb import ANRB
from gidrn.networks.fixed_convolution import FixedConvolution
from gidrn_runtime import Upscaler, processor
from gidrn_runtime.golden import Golden
from tests.small_networks import ONE_BLOCK, SMALL, trained_like

ROOT = Path(__file__).resolve().parents[2]
LABELS = Labels("gidrn", 2, "random", "", "global")


def tiny() -> nn.Module:
    return trained_like(2)


def plain() -> nn.Module:
    """A network without attention, which is exported in a moment.

    In opset 17 where only what becomes of the file matters: PyTorch's older exporter is quicker.
    """
    torch.manual_seed(0)
    return gidrn.create("fsrcnn", 2, config=SMALL["fsrcnn"]).eval()


@pytest.fixture(scope="session")
def exported(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Exported:
    """The tiny network as it is exported without options."""

    def fill(folder: Path) -> None:
        (folder / "file").mkdir()
        result = to_onnx.export(tiny(), folder / "file" / "tiny.onnx", LABELS)
        (folder / "result").write_bytes(pickle.dumps(result))

    folder = made_once("exported", fill)
    result: Exported = pickle.loads((folder / "result").read_bytes())
    return dataclasses.replace(result, path=folder / "file" / "tiny.onnx")


def is_proved(result: Exported, opset: int) -> None:
    """At every size, and the file is plain ONNX alone in its folder."""
    path = result.path
    sizes = {deviation.size_hw for deviation in result.deviations}
    assert set(proof.SIZES_HW) <= sizes
    for deviation in result.deviations + result.exaggerated.deviations:
        assert deviation.levels < 0.02  # FP32 in another order; a level is 1
    model = onnx.load(path)
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {opset}
    assert not [node for node in model.graph.node if node.domain]
    assert list(path.parent.iterdir()) == [path]


def test_an_export_is_proved_at_every_size(exported: Exported) -> None:
    is_proved(exported, 18)


@pytest.mark.parametrize(("how", "opset"), [("exact", 18), ("curve", 17)])
def test_another_form_is_proved_at_every_size(tmp_path: Path, how: Attention, opset: int) -> None:
    is_proved(to_onnx.export(tiny(), tmp_path / "tiny.onnx", LABELS, how=how, opset=opset), opset)


def test_the_file_says_what_it_is(exported: Exported) -> None:
    model = onnx.load(exported.path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["format"] == "gidrn-onnx/1"
    assert said["weights"] == "random"
    assert (said["model"], said["scale"], said["dtype"]) == ("gidrn", "2", "fp32")
    assert said["attention"].startswith("curve, ")
    dims = [d.dim_param for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["batch", "", "2*height", "2*width"]


def test_a_fixed_size_is_fixed(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    result = to_onnx.export(tiny(), path, LABELS, size_hw=(12, 20))
    assert {deviation.size_hw for deviation in result.deviations} == {(12, 20)}
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 3, 12, 20]
    with pytest.warns(UserWarning, match="random"):
        upscale = Upscaler(path)
    with upscale:
        assert upscale(np.zeros((12, 20, 3), np.uint8)).shape == (24, 40, 3)
        with pytest.raises(ValueError, match="12x20"):
            upscale(np.zeros((13, 20, 3), np.uint8))


def test_the_file_carries_a_golden_frame_of_its_network(exported: Exported) -> None:
    carries_a_golden_frame(exported, tiny(), (24, 32))


@pytest.mark.parametrize("size_hw", [(40, 51), (5, 70)])
def test_a_golden_frame_has_the_file_s_size(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    network, labels = plain(), Labels("fsrcnn", 2, "random", "", "local")
    result = to_onnx.export(network, tmp_path / "plain.onnx", labels, size_hw=size_hw)
    carries_a_golden_frame(result, network, size_hw)


def carries_a_golden_frame(result: Exported, network: nn.Module, size_hw: tuple[int, int]) -> None:
    """A part of the network's own picture of a frame of that size."""
    said = {entry.key: entry.value for entry in onnx.load(result.path).metadata_props}
    assert 0 <= float(said["proof_levels"]) < 0.1
    assert int(said["proof_inputs"]) == len(result.deviations)
    golden = Golden.from_text(said["golden"])
    assert golden.size_hw == size_hw
    height, width = golden.window.shape[:2]
    wanted = evaluation.upscale(network, golden.low)[:height, :width]
    np.testing.assert_array_equal(golden.window, wanted)
    assert len(np.unique(golden.patch.reshape(-1, 3), axis=0)) > 100
    assert len(said["golden"]) < 100_000


def test_a_golden_frame_of_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = plain()
    right = golden_frames.make(network, proof.read_photos()[0], 2)
    other = Golden(right.patch, right.size_hw, np.ascontiguousarray(right.window[..., ::-1]))
    monkeypatch.setattr(golden_frames, "make", lambda *given: other)
    with pytest.raises(proof.NotProvedError, match=r"BGR for RGB.*no file was written"):
        to_onnx.export(network, tmp_path / "plain.onnx", LABELS, opset=17)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fixed_windows")
def test_a_wrong_pooling_is_refused(tmp_path: Path) -> None:
    """Fixed windows in place of adaptive ones: the fault that other exporters make silently."""
    path = tmp_path / "tiny.onnx"
    with pytest.raises(proof.NotProvedError, match="levels on photo"):
        to_onnx.export(tiny(), path, LABELS, opset=17)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_a_failed_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(proof, "LIMIT_LEVELS", -1.0)
    with pytest.raises(proof.NotProvedError):
        to_onnx.export(plain(), path, LABELS, opset=17)
    assert path.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_output_that_is_not_finite_is_refused() -> None:
    case = proof.Case("noise", torch.rand(1, 3, 4, 4))
    with pytest.raises(proof.NotProvedError, match="not finite"):
        proof.compare(nn.Identity(), lambda x: np.full_like(x, np.nan), [case])


def test_output_of_another_shape_is_refused() -> None:
    case = proof.Case("noise", torch.rand(1, 3, 4, 4))
    with pytest.raises(proof.NotProvedError, match="not \\(1, 3, 4, 4\\)"):
        proof.compare(nn.Identity(), lambda x: x[:, :, :3], [case])


class Growing(nn.Module):
    """x1, lost on what is brighter than `limit` on average: values of 1e11, 1e4 from FP64's."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.weight = nn.Parameter(torch.tensor(1 / 3))

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean() > self.limit).to(x.dtype)
        return x + bright * x * self.weight * 1e12


@pytest.mark.parametrize("frames", [None, "rgb"])
def test_inputs_on_which_a_network_is_lost_prove_nothing(
    frames: Color | None, tmp_path: Path
) -> None:
    """As PAN's published weights are on noise: no export could agree to a level there."""
    path = tmp_path / "growing.onnx"
    labels = Labels("growing", 1, "random", "", "global", frames=frames)
    result = to_onnx.export(Growing(0.999), path, labels)
    assert [(one.case, one.size_hw) for one in result.diverged] == [("white", (24, 36))]
    assert result.diverged[0].levels > 1e4
    assert max(one.levels for one in result.deviations) < 0.01
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert said["proof_diverged"] == "white 24x36"
    assert int(said["proof_inputs"]) == len(result.deviations)
    assert "white        24x36   proves nothing" in to_onnx.report(result, labels, "curve")


def test_a_network_lost_on_most_inputs_is_refused(tmp_path: Path) -> None:
    labels = Labels("growing", 1, "random", "", "global")
    with pytest.raises(proof.NotProvedError, match=r"itself diverges on 1\d of 15"):
        to_onnx.export(Growing(0.1), tmp_path / "growing.onnx", labels)
    assert not list(tmp_path.iterdir())


def test_large_values_alone_are_no_divergence() -> None:
    """Where FP64 agrees, the file must too."""
    case = proof.Case("noise", torch.rand(1, 3, 4, 4))
    network = nn.Hardtanh(5, 6)
    with pytest.raises(proof.NotProvedError, match="differs"):
        proof.require(proof.compare(network, np.zeros_like, [case]), title="proof")


@pytest.mark.parametrize(("frames", "opset"), [("bgr", 18), ("rgb", 17)])
def test_a_frames_file_is_proved_and_enlarges_frames(
    tmp_path: Path, exported: Exported, frames: Color, opset: int
) -> None:
    path = tmp_path / "frames.onnx"
    labels = Labels("gidrn", 2, "shipped", "", "global", frames)
    result = to_onnx.export(tiny(), path, labels, opset=opset)
    assert set(proof.SIZES_HW) <= {deviation.size_hw for deviation in result.deviations}
    assert max(one.levels for one in result.deviations + result.exaggerated.deviations) < 0.02
    model = onnx.load(path)
    for value, names in (
        (model.graph.input[0], ["batch", "height", "width", ""]),
        (model.graph.output[0], ["batch", "2*height", "2*width", ""]),
    ):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == names
    photo = proof.read_photos()[2][:40, :51]
    for color in ("bgr", "rgb"):
        with pytest.warns(UserWarning, match="random"):
            tensors_file = Upscaler(exported.path, color=color)
        with Upscaler(path, color=color) as of_frames, tensors_file as of_tensors:
            assert of_frames.describe()["frames"] == frames
            ours, wanted = of_frames(photo), of_tensors(photo)
        assert np.abs(ours.astype(int) - wanted).max() <= 1
        assert (ours != wanted).mean() < 0.001


def test_a_frames_file_of_one_size(tmp_path: Path) -> None:
    path = tmp_path / "frames.onnx"
    labels = Labels("gidrn", 2, "shipped", "", "global", "bgr")
    to_onnx.export(tiny(), path, labels, opset=17, size_hw=(12, 20))
    with Upscaler(path) as upscale:
        assert upscale.size_hw == (12, 20)
        assert upscale(np.zeros((12, 20, 3), np.uint8)).shape == (24, 40, 3)
        with pytest.raises(ValueError, match="12x20"):
            upscale(np.zeros((20, 12, 3), np.uint8))


@pytest.mark.parametrize(("io", "opset"), [("fp32", 18), ("fp16", 17)])
def test_an_fp16_file_is_typed_and_proved(
    tmp_path: Path, exported: Exported, io: Dtype, opset: int
) -> None:
    path = tmp_path / "half.onnx"
    labels = Labels("gidrn", 2, "shipped", "", "global", dtype="fp16", io=io)
    photos = [proof.read_photos()[1]]
    result = to_onnx.export(tiny(), path, labels, opset=opset, photos=photos)
    assert result.plan is not None
    assert "FP32: 3 of 24 parts" in to_onnx.report(result, labels, "curve")
    assert 0.001 < max(one.levels for one in result.deviations) < 1
    assert max(one.levels for one in result.exaggerated.deviations) < 0.02
    model = onnx.load(path)
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert ends == [half if io == "fp16" else full] * 2
    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    types = {one.name: one.data_type for one in model.graph.initializer}
    assert {types[name] for name in kernels} == {half}
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    of_value = {one.name: one.type.tensor_type.elem_type for one in typed.graph.value_info}
    means = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    assert {of_value[node.output[0]] for node in means} == {full}
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["dtype"] == "fp16"
    assert json.loads(said["precision_plan"])["fp32"] == dict(result.plan.fp32)
    photo = proof.read_photos()[2][:40, :51]
    with pytest.warns(UserWarning, match="random"):
        full_precision = Upscaler(exported.path)
    with Upscaler(path) as ours, full_precision as wanted:
        assert ours.describe()["precision"] == "fp16"
        assert np.abs(ours(photo).astype(int) - wanted(photo)).max() <= 1
        high = ours.run_tensor(np.zeros((1, 3, 4, 5), np.float32))
        assert high.dtype == np.float32
        assert high.shape == (1, 3, 8, 10)
    assert path.stat().st_size < exported.path.stat().st_size


def test_frames_and_fp16_go_together(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    labels = Labels("gidrn", 2, "shipped", "", "global", frames="bgr", dtype="fp16")
    result = to_onnx.export(tiny(), path, labels, opset=17, photos=[proof.read_photos()[1]])
    assert max(one.levels for one in result.deviations) < 1
    assert onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


FRAMES_FAULTS = {
    "cut off, not rounded": lambda high: (high.clamp(0, 1) * 255).to(torch.uint8),
    "other channel order": lambda high: (high.flip(1).clamp(0, 1) * 255).round().to(torch.uint8),
    "not clipped": lambda high: (high * 255).round().to(torch.int32).to(torch.uint8),
}


@pytest.mark.parametrize("fault", sorted(FRAMES_FAULTS))
def test_a_wrong_conversion_of_frames_is_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d) and part.out_channels == 12:
                part.weight.mul_(4)  # outputs that leave [0, 1] widely

    def wrong(self: FramesNetwork, x: torch.Tensor) -> torch.Tensor:
        high = self.network(x.permute(0, 3, 1, 2).to(torch.float32) / 255)
        levels: torch.Tensor = FRAMES_FAULTS[fault](high).permute(0, 2, 3, 1)
        return levels

    monkeypatch.setattr(FramesNetwork, "forward", wrong)
    labels = Labels("gidrn", 2, "random", "", "global", "rgb")
    with pytest.raises(proof.NotProvedError, match="of the levels are not PyTorch's"):
        to_onnx.export(network, tmp_path / "frames.onnx", labels, opset=17)
    assert list(tmp_path.iterdir()) == []


def test_exaggerated_attention_sways_pixels() -> None:
    network = tiny()
    images = [torch.rand(1, 3, 40, 40), torch.rand(1, 3, 13, 9) ** 2, torch.ones(1, 3, 24, 24)]
    with torch.no_grad():
        loud = exaggerate(network, images)
        without = exaggerate(network, images)
        (block,) = [part for part in without.modules() if isinstance(part, ANRB)]
        block.expand.weight.zero_()
        moved = [float((loud(x) - without(x)).square().mean().sqrt()) * 255 for x in images]
    assert max(moved) == pytest.approx(25, rel=0.01)
    assert min(moved) > 1


def test_no_image_is_exaggerated_beyond_the_others() -> None:
    """Features of one image may be a thousand times another's: made-up keys must not follow."""
    network = gidrn.create("gidrn", 2, config=ONE_BLOCK).eval()
    image = torch.rand(1, 3, 20, 24)
    loud = exaggerate(network, [image, image * 1000])
    (block,) = [part for part in loud.modules() if isinstance(part, ANRB)]
    seen: list[torch.Tensor] = []
    block.query.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        loud(image * 1000)
    assert float(seen[0].square().mean().sqrt()) <= 4.01


def test_nothing_can_be_exaggerated_on_one_colour() -> None:
    with pytest.raises(ValueError, match="images that are all the same"):
        exaggerate(tiny(), [torch.zeros(1, 3, 1, 1)])


def test_the_real_network_stays_under_400_nodes() -> None:
    network = gidrn.create("gidrn", 4).eval()
    photos = proof.cases(proof.read_photos(), 4)[1:2]
    changed, curve = to_onnx.rewritten(network, "curve", photos)
    model = to_onnx.to_model(changed, 4)
    assert curve is not None
    assert len(model.graph.node) < 400
    kinds = {node.op_type for node in model.graph.node}
    assert "DepthToSpace" in kinds
    assert not kinds & {"If", "Loop", "Scan", "AveragePool"}


@pytest.mark.parametrize(("dtype", "opset"), [("fp32", 18), ("fp16", 17)])
def test_merged_groups_are_written_and_proved(tmp_path: Path, dtype: Dtype, opset: int) -> None:
    path = tmp_path / "wide.onnx"
    labels = dataclasses.replace(LABELS, merged_groups=None, dtype=dtype)
    result = to_onnx.export(tiny(), path, labels, opset=opset)
    limit = 0.02 if dtype == "fp32" else proof.LIMIT_LEVELS
    assert max(one.levels for one in result.deviations) < limit
    model = onnx.load(path)
    groups = {
        onnx.helper.get_node_attr_value(node, "group")
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    assert groups == {1}
    assert {e.key: e.value for e in model.metadata_props}["merged_groups"] == "all"
    assert ", all groups as one" in to_onnx.report(result, labels, "curve")


def test_a_blocked_file_is_proved_and_its_sums_are_in_convolutions(tmp_path: Path) -> None:
    path = tmp_path / "blocked.onnx"
    labels = dataclasses.replace(LABELS, blocked=True)
    network = trained_like(2, dataclasses.replace(ONE_BLOCK, blocks_per_group=2))
    result = to_onnx.export(network, path, labels)
    assert max(one.levels for one in result.deviations) < 0.02  # as of the plain file
    assert {e.key: e.value for e in onnx.load(path).metadata_props}["blocked"] == "8"
    assert ", for ONNX Runtime's blocked layout" in to_onnx.report(result, labels, "curve")
    if "avx2" in processor.features() and "avx512f" not in processor.features():
        nodes = as_onnxruntime_runs_it(path, tmp_path).graph.node
        assert not [node for node in nodes if node.op_type == "LeakyRelu"]
        with_sum = [node for node in nodes if node.op_type == "Conv" and len(node.input) == 4]
        # Three residual blocks and three of the fusion's parts a block, but the second block's
        # first, whose input comes from the attention.
        assert len(with_sum) >= 2 * 6 - 1


def as_onnxruntime_runs_it(path: Path, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this CPU
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


RIVALS = {name: config for name, config in SMALL.items() if name not in ("gidrn", "imdn_jdsr")}
"""Every kind of network beside our own."""


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_every_kind_of_network_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / f"{name}.onnx"
    labels = Labels(name, 3, "random", "", "global")
    config = RIVALS[name]
    network = trained_like(3, config) if name == "idrn" else gidrn.create(name, 3, config=config)
    result = to_onnx.export(network, path, labels, photos=[proof.read_photos()[1]])
    with_attention = name in ("idrn", "rfdn_l")  # the latter's small one has an ANRB too
    assert bool(result.exaggerated.deviations) == with_attention
    assert (result.curve is not None) == with_attention
    assert path.is_file()
    half = dataclasses.replace(labels, dtype="fp16")
    if name == "bicubic":
        with pytest.raises(RefusedError, match="nothing here can be FP16: colours and inter"):
            to_onnx.export(network, path, half, size_hw=(12, 20))
        return
    # By the older exporter, which takes a tenth of the time: what is typed is the network.
    photos, size_hw = [proof.read_photos()[1]], (12, 20)
    result = to_onnx.export(network, path, half, opset=17, photos=photos, size_hw=size_hw)
    assert result.plan is not None
    fixed = sum(isinstance(module, FixedConvolution) for module in network.modules())
    chosen = result.plan.convolutions["fp32"] - fixed
    assert result.plan.convolutions["fp16"] > 5 * chosen >= 0


def test_what_a_network_costs_is_its_multiply_adds() -> None:
    """A network with few parameters may use them often, and at the high resolution."""
    one = nn.Conv2d(3, 3, 3, padding=1)
    assert proof.multiply_adds_a_pixel(one) == 81
    thrice = nn.Sequential(one, one, nn.Upsample(scale_factor=2), one)
    assert proof.multiply_adds_a_pixel(thrice) == 6 * 81
    on = proof.cases(proof.read_photos(), 4)
    assert proof.affordable(gidrn.create("gidrn", 4), on) == (on, [])
    kept, left_out = proof.affordable(gidrn.create("vdsr", 4), on)
    assert proof.SIZES_HW[0] in [case.size_hw for case in kept]
    least = min(height * width for height, width in (case.size_hw for case in left_out))
    assert 100 * 150 == least > max(h * w for h, w in (case.size_hw for case in kept))


@pytest.mark.parametrize("name", ["bicubic", "lapsrn", "rfdn_aim", "smsr"])
def test_sizes_are_free_in_opset_17_too(name: str, tmp_path: Path) -> None:
    """Padding, mirrors and odd sides, through PyTorch's older exporter."""
    torch.manual_seed(0)
    labels = Labels(name, 3, "random", "", "global")
    network = gidrn.create(name, 3, config=RIVALS[name])
    photos = [proof.read_photos()[1]]
    result = to_onnx.export(network, tmp_path / "old.onnx", labels, opset=17, photos=photos)
    sizes = {deviation.size_hw for deviation in result.deviations}
    assert {(1, 1), (7, 5), (13, 9), (81, 117)} <= sizes


def test_the_command_exports_proves_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = zoo.NETWORKS["gidrn"]
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", dataclasses.replace(entry, config=ONE_BLOCK))
    weights, out = tmp_path / "mine.safetensors", tmp_path / "mine.onnx"
    checkpoints.save_weights(tiny().state_dict(), weights, metadata={})
    assert to_onnx.main(scale=2, weights=weights, out=out, size="10x14", attention="exact") == 0
    said = capsys.readouterr().out
    assert "gidrn x2" in said
    assert "weights mine.safetensors" in said
    assert said.count("10x14") == 4  # a photo, black, white and noise
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert metadata["weights_sha256"] == checkpoints.sha256(weights)


def test_a_single_pixel_can_be_the_fixed_size(tmp_path: Path) -> None:
    result = to_onnx.export(tiny(), tmp_path / "one.onnx", LABELS, opset=17, size_hw=(1, 1))
    assert all(deviation.within_limit for deviation in result.exaggerated.deviations)


BAD_COMMANDS = [
    (["--model", "gidm"], "did you mean 'gidrn'"),
    (["--model", "imdn"], "no weights ship for imdn x4"),
    (["--weights", "missing.pth"], "no weights file missing.pth"),
    (["--random-init", "--weights", "a.pth"], "--random-init"),
    (["--random-init", "--size", "80"], "HEIGHTxWIDTH"),
    (["--random-init", "--scale", "5"], "scale is one of 2, 3, 4"),
    (["--random-init", "--frames", "bgr", "--io", "fp16"], "leave out --io"),
    (["--random-init", "--merge-groups", "some"], "all or a number of groups, not 'some'"),
    (["--random-init", "--merge-groups", "5"], "groups, which do not merge 5 at a time"),
    (["--random-init", "--blocked", "--dtype", "fp16"], "plain FP32 file in opset 18"),
    (["--random-init", "--blocked", "--tiles"], "leave out --dtype, --io, --opset and --tiles"),
    (["--model", "imdn", "--random-init", "--blocked"], "this network has no LSRB"),
    (["--random-init", "--photos", "missing"], "no data folder"),
    (["--random-init", "--out", "missing/x.onnx", "--photos", "."], "no images under"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_COMMANDS)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from gidrn import command_line

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["to_onnx.py", *arguments])
    with pytest.raises(SystemExit) as left:
        command_line.run(to_onnx.main)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_target_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        to_onnx.export(tiny(), tmp_path / "missing" / "x.onnx", LABELS)


def test_the_script_runs_from_its_folder(help_of: Callable[..., str]) -> None:
    assert "--random-init" in help_of(str(ROOT / "export" / "to_onnx.py"))
