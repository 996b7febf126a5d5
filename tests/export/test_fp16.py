"""FP16: the emulation, and the choice of what stays FP32."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gidrn
from export import fp16, precision, proof, to_onnx
from export.fp16 import Emulator
from export.rewrites import RefusedError, channel_attention
from gidrn.networks.gidrn import GIDRNConfig

TINY = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1)
BLOCK = "deep.bodies.0.bodies.0"


def rewritten() -> nn.Module:
    torch.manual_seed(0)
    network = gidrn.create("gidrn", 2, config=TINY).eval()
    changed, _ = to_onnx.rewritten(network, "curve", proof.cases(proof.read_photos(), 2)[4:6])
    assert channel_attention.apply(changed) == 1
    return changed


def plan_of(network: nn.Module) -> precision.Plan:
    return precision.make_plan(network, 2, [proof.read_photos()[1][:64, :80]], [])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + x.flip(0),
        lambda x: x * 3.3,
        lambda x: x / 7,
        lambda x: nn.functional.leaky_relu(x, 0.05),
        lambda x: torch.cat([x, -x]).clamp(-0.5, 0.5),
    ],
)
def test_single_operations_are_those_of_half_precision(operation: object) -> None:
    assert callable(operation)
    x = random(64, 50).half()
    with Emulator():
        came = operation(x)
    assert came.dtype == torch.float16
    assert torch.equal(came, operation(x))  # PyTorch's own FP16 kernels


def test_promotion_is_pytorchs() -> None:
    x = random(4, 5)
    with Emulator():
        assert (x.half() + x).dtype == torch.float32
        assert (x.half() + torch.tensor(2.0)).dtype == torch.float16
        assert torch.equal(x * 2, x + x)  # FP32 is left alone


def test_in_place_operations_stay_in_place() -> None:
    x = random(3, 4).half()
    wanted = nn.functional.leaky_relu(x, 0.05)
    with Emulator():
        nn.functional.leaky_relu(x, 0.05, inplace=True)
    assert torch.equal(x, wanted)


def test_sums_overflow_as_those_of_a_whole_frame() -> None:
    x = torch.full((1, 2, 40, 50), 1.0).half()
    with Emulator():
        assert float(x.mean(dim=(2, 3))[0, 0]) == 1
        assert torch.isinf((x * 40).mean(dim=(2, 3))).all()  # 80,000 and more than FP16 holds
        assert torch.isinf((x * 300) * 300).all()
    with Emulator(frame_pixels=1920 * 1080):
        assert torch.isinf(x.mean(dim=(2, 3))).all()
        assert torch.isfinite((x / 64).mean(dim=(2, 3))).all()


@pytest.mark.parametrize("accumulation", ["fp32", "fp16"])
def test_inference_mode_is_emulated_alike(accumulation: fp16.Accumulation) -> None:
    network = fp16.typed(rewritten(), fp16.always_fp32(rewritten()))
    x = random(1, 3, 10, 12)
    found = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), Emulator(accumulation=accumulation):
            found.append(network(x).clone())
    assert torch.equal(*found)


def in_both_sums(part: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a part gives in FP16 when it adds up in FP32, and in FP16."""
    half = fp16.Typed(part, torch.float16)
    with torch.no_grad():
        with Emulator():
            wide = half(x)
        with Emulator(accumulation="fp16"):
            narrow = half(x)
    assert not torch.equal(wide, narrow)
    return wide, narrow


def check_sum(came: Tensor, products: list[np.float32], bias: Tensor) -> None:
    """Add up by hand in steps, and compare with one output."""
    total = np.float16(0)
    for start in range(0, len(products), fp16.PRODUCTS_A_STEP):
        step = np.sum(products[start : start + fp16.PRODUCTS_A_STEP], dtype=np.float32)
        total = np.float16(np.float32(total) + step)
    total = np.float16(np.float32(total) + np.float32(bias.item()))
    # One rounding of FP16 apart at most: FP32 sums in another order may fall on the other side.
    assert abs(float(came) - float(total)) <= abs(float(total)) * 2**-10


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, 4)])
def test_a_convolution_adds_up_in_steps(kernel: int, groups: int) -> None:
    conv = nn.Conv2d(24, 8, kernel, padding=kernel // 2, groups=groups)
    x = random(1, 24, 5, 6).half() * 8
    _, narrow = in_both_sums(conv, x)
    y, xx, out = 2, 3, 5  # one output, added up by hand
    weight, bias = conv.weight[out].numpy(force=True), conv.bias
    assert bias is not None
    width = 24 // groups
    first = out // (8 // groups) * width
    padded = np.pad(x[0].numpy(), ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    products = [
        np.float32(padded[first + c, y + i, xx + j]) * np.float32(weight[c, i, j])
        for i in range(kernel)
        for j in range(kernel)
        for c in range(width)
    ]
    check_sum(narrow[0, out, y, xx], products, bias[out])


@pytest.mark.parametrize("groups", [1, 4])
def test_a_transposed_convolution_adds_up_in_steps(groups: int) -> None:
    conv = nn.ConvTranspose2d(24, 8, 4, stride=2, padding=1, groups=groups)
    x = random(1, 24, 5, 6).half() * 8
    wide, narrow = in_both_sums(conv, x)
    # Each rounding moves the running sum by at most half a unit in its last place.
    roundings = 16 * (24 // groups) / fp16.PRODUCTS_A_STEP + 2
    assert (narrow - wide).abs().max() <= roundings * float(wide.abs().max()) * 2**-10
    y, xx, out = 4, 5, 5  # one output: input (y + 1 - i) / 2 by tap i, where that is whole
    weight, bias = conv.weight.numpy(force=True), conv.bias
    assert bias is not None
    width = 24 // groups
    first = out // (8 // groups) * width
    products = [
        np.float32(x[0, first + c, (y + 1 - i) // 2, (xx + 1 - j) // 2])
        * np.float32(weight[first + c, out % (8 // groups), i, j])
        * ((y + 1 - i) % 2 == 0 and (xx + 1 - j) % 2 == 0)
        for i in range(4)
        for j in range(4)
        for c in range(width)
    ]
    check_sum(narrow[0, out, y, xx], products, bias[out])


def test_statistics_alone_overflow_and_are_named() -> None:
    plan = plan_of(rewritten())
    assert plan.fp32 == {
        "anrb.pool": "averages of whole frames as matrix products",
        "anrb.attention": "positions on a curve, exponentials and logarithms",
        f"{BLOCK}.attention.statistic": "overflows on black",
    }
    for found in plan.distances.values():
        assert 0 < found.levels < 1
        assert found.psnr_db < 0.01
    assert plan.convolutions == {"fp16": 15, "fp32": 0}


@pytest.mark.parametrize("part", ["steps.1.grouped", "fuse"])
def test_a_planted_overflow_is_named_and_nothing_else(part: str) -> None:
    """A weight that FP16 cannot hold, on a channel that is always 0: nothing in FP32."""
    network = rewritten()
    before = set(plan_of(network).fp32)
    silent = network.get_submodule(f"{BLOCK}.steps.1.pointwise")
    planted = network.get_submodule(f"{BLOCK}.{part}")
    assert isinstance(silent, nn.Conv2d)
    assert isinstance(planted, nn.Conv2d)
    assert silent.bias is not None
    channel = 16 if part == "fuse" else 0  # steps.1's first, among those that fuse is given
    with torch.no_grad():
        silent.weight[0] = 0
        silent.bias[0] = 0
        planted.weight[0, channel] = 1e6
    plan = plan_of(network)
    assert set(plan.fp32) - before == {f"{BLOCK}.{part}"}
    assert plan.fp32[f"{BLOCK}.{part}"] == "overflows on black"
    assert all(found.levels < 1 for found in plan.distances.values())


def test_an_overflow_between_two_parts_names_both() -> None:
    network = rewritten()
    shallow, pointwise = (
        network.get_submodule(path) for path in ("shallow", f"{BLOCK}.steps.0.pointwise")
    )
    with torch.no_grad():
        for parameter in shallow.parameters():
            parameter.mul_(1e6)
    found = plan_of_overflows(network)
    assert "shallow" in found
    assert f"{BLOCK}.steps.0.pointwise" in found
    assert isinstance(pointwise, nn.Conv2d)


def plan_of_overflows(network: nn.Module) -> list[str]:
    """The parts of the first overflows, one kept in FP32 after another."""
    fp32 = dict.fromkeys(fp16.always_fp32(network), "")
    white = torch.ones(1, 3, 12, 12)
    with torch.no_grad():
        for _ in range(2):
            path = fp16.first_overflow(fp16.typed(network, fp32), white, Emulator())
            assert path
            fp32[path] = ""
    return list(fp32)


def test_parts_are_added_until_the_budget_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    network = rewritten()
    before = plan_of(network)
    worst = max(found.levels for found in before.distances.values())
    monkeypatch.setattr(precision, "BUDGET_LEVELS", worst * 0.9)
    plan = plan_of(network)
    more = set(plan.fp32) - set(before.fp32)
    assert 0 < len(more) < 12
    assert {plan.fp32[path] for path in more} == {"one of those that lose most"}
    assert max(found.levels for found in plan.distances.values()) <= worst * 0.9
    monkeypatch.setattr(precision, "BUDGET_LEVELS", 0.0)
    with pytest.raises(RefusedError, match="no convolution can be FP16 within"):
        plan_of(network)


def test_the_certificate_is_json() -> None:
    plan = plan_of(rewritten())
    said = json.loads(plan.as_json())
    assert said["fp32"] == dict(plan.fp32)
    assert said["parts"] == plan.parts
    assert said["emulated"]["sums in fp16"]["levels"] == pytest.approx(
        plan.distances["fp16"].levels, abs=1e-5
    )
    assert f"  {BLOCK}.attention.statistic: overflows on black" in plan.in_words()


def test_only_parts_have_types() -> None:
    with pytest.raises(ValueError, match=r"deep\.bodies is no part"):
        fp16.typed(rewritten(), {"deep.bodies"})


def test_a_graph_of_other_types_is_refused() -> None:
    network = rewritten()
    plan = plan_of(network)
    typed = fp16.Ends(fp16.typed(network, plan.fp32), torch.float32)
    model = to_onnx.to_model(typed, 2, opset=17)
    to_onnx.check_types(model, plan)
    with pytest.raises(proof.NotProvedError, match=r"'fp16': 0, 'fp32': 15\}, not \{'fp16': 15"):
        to_onnx.check_types(to_onnx.to_model(network, 2, opset=17), plan)
    other = dataclasses.replace(plan, convolutions={"fp16": 14, "fp32": 1})
    with pytest.raises(proof.NotProvedError, match="other types than planned"):
        to_onnx.check_types(model, other)
