"""The authors' weight files: made-up ones in their layout, and real ones where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gidrn import benchmark_sets, evaluation, official, zoo
from gidrn.images import read_image
from gidrn.metrics import luma, psnr
from gidrn.networks.carn import CARN, CARNConfig
from gidrn.networks.latticenet import LatticeBlock, LatticeNetConfig
from gidrn.networks.pan import SCPA
from gidrn.resize import crop_to_multiple, downscale

Shapes = dict[str, tuple[int, ...]]


def conv(name: str, narrow: int, wide: int, kernel: int = 3, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (wide, narrow, kernel, kernel)}
    return shapes | ({f"{name}.bias": (wide,)} if bias else {})


def imdn(scale: int) -> Shapes:
    made = conv("fea_conv", 3, 64)
    for i in range(1, 7):
        block = f"IMDB{i}"
        made |= conv(f"{block}.c1", 64, 64) | conv(f"{block}.c2", 48, 64)
        made |= conv(f"{block}.c3", 48, 64) | conv(f"{block}.c4", 48, 16)
        made |= conv(f"{block}.c5", 64, 64, 1)
        made |= conv(f"{block}.cca.conv_du.0", 64, 4, 1) | conv(f"{block}.cca.conv_du.2", 4, 64, 1)
    made |= conv("c.0", 384, 64, 1) | conv("LR_conv", 64, 64)
    return made | upsampler(64, scale)


def pan(scale: int) -> Shapes:
    made = conv("conv_first", 3, 40)
    for i in range(16):
        block = f"SCPA_trunk.{i}"
        made |= conv(f"{block}.conv1_a", 40, 20, 1, False)
        made |= conv(f"{block}.conv1_b", 40, 20, 1, False)
        made |= conv(f"{block}.k1.0", 20, 20, 3, False)
        made |= conv(f"{block}.PAConv.k2", 20, 20, 1)
        made |= conv(f"{block}.PAConv.k3", 20, 20, 3, False)
        made |= conv(f"{block}.PAConv.k4", 20, 20, 3, False)
        made |= conv(f"{block}.conv3", 40, 40, 1, False)
    made |= conv("trunk_conv", 40, 40) | conv("upconv1", 40, 24)
    made |= conv("att1.conv", 24, 24, 1) | conv("HRconv1", 24, 24)
    if scale == 4:
        made |= conv("upconv2", 24, 24) | conv("att2.conv", 24, 24, 1) | conv("HRconv2", 24, 24)
    return made | conv("conv_last", 24, 3)


def carn(scale: int, *, mobile: bool = False, multi: bool = True) -> Shapes:
    made = conv("sub_mean.shifter", 3, 3, 1) | conv("add_mean.shifter", 3, 3, 1)
    made |= conv("entry", 3, 64) | conv("exit", 64, 3)
    groups = 4 if mobile else 1
    for i in (1, 2, 3):
        for j in (1,) if mobile else (1, 2, 3):
            made |= conv(f"b{i}.b{j}.body.0", 64 // groups, 64)
            made |= conv(f"b{i}.b{j}.body.2", 64 // groups, 64)
            made |= conv(f"b{i}.b{j}.body.4", 64, 64, 1) if mobile else {}
        for j in (1, 2, 3):
            made |= conv(f"b{i}.c{j}.body.0", 64 * (j + 1), 64, 1)
        made |= conv(f"c{i}.body.0", 64 * (i + 1), 64, 1)
    for factor in (2, 3, 4) if multi else (scale,):
        way = f"upsample.up{factor if multi else ''}.body"
        step = 2 if factor == 4 else factor
        made |= conv(f"{way}.0", 64 // groups, 64 * step**2)
        made |= conv(f"{way}.3", 64 // groups, 256) if factor == 4 else {}
    return made


def carn_m(scale: int) -> Shapes:
    return carn(scale, mobile=True)


def means() -> Shapes:
    return conv("sub_mean", 3, 3, 1) | conv("add_mean", 3, 3, 1)


def latticenet(scale: int) -> Shapes:
    made = means() | conv("conv1", 3, 64) | conv("conv2", 64, 64)
    for i in range(1, 5):
        block = f"body_unit{i}"
        for j in (0, 1):
            made |= conv(f"{block}.conv_block{j}.0", 64, 48)
            made |= conv(f"{block}.conv_block{j}.2", 48, 48)
            made |= conv(f"{block}.conv_block{j}.4", 48, 64)
        for name in ("fea_ca1", "x_ca1", "fea_ca2", "x_ca2"):
            for branch in ("conv_mean", "conv_std"):
                made |= conv(f"{block}.{name}.{branch}.0", 64, 4, 1)
                made |= conv(f"{block}.{name}.{branch}.2", 4, 64, 1)
        made |= conv(f"{block}.compress", 128, 64, 1)
    for i in (1, 2, 3):
        made |= conv(f"T_tdm{i}.0", 64, 32, 1) | conv(f"L_tdm{i}.0", 64, 32, 1)
    return made | conv("tail.0", 64, 64) | conv("tail.1", 64, 3 * scale**2)


def tail(channels: int, scale: int) -> Shapes:
    step = 2 if scale == 4 else scale
    made = conv("tail.0.0", channels, step**2 * channels) | conv("tail.1", channels, 3)
    return made | (conv("tail.0.2", channels, 4 * channels) if scale == 4 else {})


def edsr(scale: int) -> Shapes:
    made = means() | conv("head.0", 3, 256) | conv("body.32", 256, 256) | tail(256, scale)
    for i in range(32):
        made |= conv(f"body.{i}.body.0", 256, 256) | conv(f"body.{i}.body.2", 256, 256)
    return made


def rcan(scale: int) -> Shapes:
    made = means() | conv("head.0", 3, 64) | conv("body.10", 64, 64) | tail(64, scale)
    for i in range(10):
        made |= conv(f"body.{i}.body.20", 64, 64)
        for j in range(20):
            block = f"body.{i}.body.{j}.body"
            made |= conv(f"{block}.0", 64, 64) | conv(f"{block}.2", 64, 64)
            made |= conv(f"{block}.3.conv_du.0", 64, 4, 1)
            made |= conv(f"{block}.3.conv_du.2", 4, 64, 1)
    return made


def rfdn_aim(scale: int) -> Shapes:
    made = conv("fea_conv", 3, 50)
    for i in range(1, 5):
        for j in (1, 2, 3):
            made |= conv(f"B{i}.c{j}_d", 50, 25, 1) | conv(f"B{i}.c{j}_r", 50, 50)
        made |= conv(f"B{i}.c4", 50, 25) | conv(f"B{i}.c5", 100, 50, 1)
        made |= conv(f"B{i}.esa.conv1", 50, 12, 1) | conv(f"B{i}.esa.conv_f", 12, 12, 1)
        for name in ("conv_max", "conv2", "conv3", "conv3_"):
            made |= conv(f"B{i}.esa.{name}", 12, 12)
        made |= conv(f"B{i}.esa.conv4", 12, 50, 1)
    return made | conv("c.0", 200, 50, 1) | conv("LR_conv", 50, 50) | upsampler(50, scale)


def upsampler(channels: int, scale: int) -> Shapes:
    return conv("upsampler.0", channels, 3 * scale**2)


def smsr(scale: int) -> Shapes:
    made = means() | conv("head.0", 3, 64) | conv("head.2", 64, 64)
    for i in range(5):
        block = f"body.{i}"
        made |= conv(f"{block}.spa_mask.0", 64, 16) | conv(f"{block}.spa_mask.3", 16, 16)
        made |= {f"{block}.spa_mask.5.weight": (16, 2, 3, 3), f"{block}.spa_mask.5.bias": (2,)}
        made |= {f"{block}.body.ch_mask": (1, 64, 4, 2)}
        for j in range(4):
            made |= conv(f"{block}.body.body.{j}", 64, 64, bias=False)
        made |= conv(f"{block}.body.collect", 256, 64, 1)
        made |= conv(f"{block}.ca.conv_du.0", 64, 4, 1) | conv(f"{block}.ca.conv_du.2", 4, 64, 1)
    made |= conv("collect.0", 320, 64, 1) | conv("collect.2", 64, 64)
    return made | conv("tail.0", 64, 3 * scale**2)


LAYOUTS: dict[str, Callable[[int], Shapes]] = {
    "imdn": imdn,
    "imdn_jdsr": imdn,
    "rfdn_aim": rfdn_aim,
    "pan": pan,
    "smsr": smsr,
    "carn": carn,
    "carn_m": carn_m,
    "latticenet": latticenet,
    "edsr": edsr,
    "rcan": rcan,
}
"""Names and shapes of the authors' state dicts."""

TENSORS = {"imdn": 92, "rfdn_aim": 128, "pan": 146, "smsr": 99, "latticenet": 208}
"""How many tensors the authors' x4 files have, counted there."""

PLACES = [  # of a few tensors, whose place in the network the names themselves say
    ("imdn", "IMDB3.c2.weight", "blocks.2.steps.1.0.weight"),
    ("imdn", "IMDB1.cca.conv_du.2.bias", "blocks.0.attention.weigh.2.bias"),
    ("rfdn_aim", "B4.c3_r.bias", "deep.body.blocks.3.steps.2.refine.bias"),
    ("rfdn_aim", "B1.esa.conv3_.weight", "deep.body.blocks.0.attention.body.4.weight"),
    ("smsr", "body.4.body.ch_mask", "blocks.4.channel_logits"),
    ("smsr", "body.0.body.body.3.weight", "blocks.0.body.3.weight"),
    ("smsr", "collect.0.weight", "fuse.0.weight"),
    ("pan", "SCPA_trunk.15.PAConv.k3.weight", "deep.15.weighted.weight"),
    ("pan", "HRconv2.bias", "upsample.1.refine.bias"),
    ("carn", "b2.b3.body.2.weight", "deep.stages.1.stages.2.body.2.weight"),
    ("carn", "b3.c1.body.0.weight", "deep.stages.2.mix.0.0.weight"),
    ("carn", "upsample.up4.body.3.weight", "upsample.x4.3.weight"),
    ("carn_m", "b1.b1.body.4.weight", "deep.stages.0.stages.0.body.4.weight"),
    (
        "latticenet",
        "body_unit4.x_ca2.conv_std.0.weight",
        "blocks.3.of_input.1.of_deviation.0.weight",
    ),
    ("latticenet", "body_unit1.conv_block1.4.bias", "blocks.0.second.4.bias"),
    ("latticenet", "L_tdm3.0.weight", "fuse.own.2.0.weight"),
    ("edsr", "body.31.body.2.weight", "deep.31.body.2.weight"),
    ("edsr", "body.32.weight", "deep.32.weight"),
    ("edsr", "tail.0.2.weight", "upsample.2.weight"),
    ("rcan", "body.9.body.20.bias", "deep.9.body.20.bias"),
    ("rcan", "body.4.body.7.body.3.conv_du.0.weight", "deep.4.body.7.body.3.weigh.0.weight"),
]


def made_up(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of which no two are alike, and which take hardly any memory."""
    return {
        name: torch.full((1,), float(i)).expand(shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("scale", zoo.SCALES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_of_the_authors_has_its_place(name: str, scale: int) -> None:
    shapes = LAYOUTS[name](scale)
    if scale == 4 and name in TENSORS:
        assert len(shapes) == TENSORS[name]
    with torch.device("meta"):
        wanted = zoo.create(name, scale).state_dict()
    weights = made_up(shapes)
    found = official.to_our_names(name, weights, wanted)
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in wanted.items()
    }
    values = {int(value.flatten()[0]) for value in found.values()}
    assert len(values) == len(weights)  # each of theirs once
    for network, theirs, ours in PLACES:
        assert network != name or scale != 4 or theirs in weights, theirs
        if network == name and theirs in weights:
            assert found[ours] is weights[theirs]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"module.model.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": state, "epoch": 7, "optimizer": {"lr": 0.1}},
        lambda state: {"params": {"a": torch.zeros(1)}, "params_ema": state},
        lambda state: {"model": {"state_dict": {f"module.{n}": t for n, t in state.items()}}},
        lambda state: {**state, "step": 1000, "num_batches_tracked": torch.tensor(5)},
    ],
)
def test_wrapped_files_are_opened(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, object]]
) -> None:
    state = {name: torch.rand(shape) for name, shape in pan(2).items()}
    path = tmp_path / "pan.pth"
    torch.save(wrap(state), path)
    network = zoo.load("pan", 2, weights=path)
    own = network.state_dict()
    assert torch.equal(own["shallow.weight"], state["conv_first.weight"])
    assert torch.equal(own["deep.16.bias"], state["trunk_conv.bias"])


def test_a_single_scale_file_of_carn(tmp_path: Path) -> None:
    path = tmp_path / "carn.pth"
    shapes = carn(4, multi=False)
    torch.save({name: torch.rand(shape) for name, shape in shapes.items()}, path)
    network = zoo.load("carn", 4, weights=path)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_111_899
    with pytest.raises(ValueError, match=r"missing upsample.x2.0.weight"):
        zoo.load("carn", 4, weights=path, config=CARNConfig())


def test_a_file_of_vdsr_without_biases(tmp_path: Path) -> None:
    path = tmp_path / "vdsr.pth"
    shapes = conv("input", 1, 64, bias=False) | conv("output", 64, 1, bias=False)
    for i in range(18):
        shapes |= conv(f"residual_layer.{i}.conv", 64, 64, bias=False)
    state = {name: torch.rand(shape) for name, shape in shapes.items()}
    torch.save(state, path)
    own = zoo.load("vdsr", 3, weights=path).state_dict()
    assert len(own) == 20
    for theirs, place in (("input", 0), ("residual_layer.0.conv", 2), ("output", 38)):
        assert torch.equal(own[f"deep.{place}.weight"], state[f"{theirs}.weight"])
    assert torch.equal(own["deep.36.weight"], state["residual_layer.17.conv.weight"])


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "imdn.pth"
    state = {f"module.{name}": torch.rand(shape) for name, shape in imdn(4).items()}
    del state["module.IMDB2.c1.weight"]
    state["module.extra.weight"] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(
        ValueError, match=r"missing blocks.1.steps.0.0.weight; unknown extra.weight"
    ):
        zoo.load("imdn", 4, weights=path)
    with pytest.raises(ValueError, match=r"upsample.conv.weight is \(48, 64, 3, 3\), not \(12"):
        zoo.load("imdn", 2, weights=path)


TABLE_4 = [
    *(("imdn", 2, 38.00), ("imdn", 3, 34.36), ("imdn", 4, 32.21)),
    *(("pan", 2, 38.00), ("pan", 3, 34.40), ("pan", 4, 32.13)),
]


@pytest.mark.parametrize(("name", "scale", "psnr_db"), TABLE_4)
def test_official_weights_give_table_4(
    data_root: Path, weights_root: Path, name: str, scale: int, psnr_db: float
) -> None:
    """Set5, the authors' own files, to the two decimals that the paper prints."""
    network = zoo.load(name, scale, weights=weights_root / f"{name}_x{scale}.pth")
    assert set5_psnr(network, scale, data_root) == pytest.approx(psnr_db, abs=0.01)


def test_official_weights_of_rfdn_aim_are_of_its_class(data_root: Path, weights_root: Path) -> None:
    """No table has it; a fault of range, order or attention would cost decibels."""
    network = zoo.load("rfdn_aim", 4, weights=weights_root / "rfdn-aim_x4.pth")
    assert set5_psnr(network, 4, data_root) > 32.1


def set5_psnr(network: nn.Module, scale: int, data_root: Path) -> float:
    scores = []
    for path in benchmark_sets.find_images("Set5", data_root, scale):
        high = crop_to_multiple(read_image(path), scale)
        came = evaluation.upscale(network, downscale(high, scale))
        scores.append(psnr(luma(came), luma(high), border=scale))
    return float(np.mean(scores))


def test_scpa_is_its_formula() -> None:
    """One channel a half, every weight a number: by hand for a single pixel."""
    block = SCPA(2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.enter_plain.weight[0, 0] = 1  # the first channel
        block.enter_weighted.weight[0, 1] = 1  # the second
        for kernel in (block.plain, block.weighted, block.leave_weighted):
            kernel.weight[0, 0, 1, 1] = 3
        block.fuse.weight[0, 0] = block.fuse.weight[1, 1] = 1
    low = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1)
    with torch.inference_mode():
        high = block(low).flatten()
    # plain: lrelu(3 * lrelu(-1)) = 0.2 * -0.6; weighted: 3 * (3 * 2 * sigmoid(0)) = 9.
    torch.testing.assert_close(high, torch.tensor([-1 - 0.12, 2 + 9.0]))


def test_a_lattice_block_is_its_formula() -> None:
    """With silent convolutions P and Q are what the coefficients make of the input."""
    config = LatticeNetConfig(channels=2, inner_channels=1, blocks=1, attention_reduction=1)
    block = LatticeBlock(config)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        nn.init.constant_(block.first[4].bias, 4)  # type: ignore[arg-type]  # h = 4
        nn.init.constant_(block.second[4].bias, 8)  # type: ignore[arg-type]  # g = 8
        block.fuse.weight[0, 0] = 1  # P's first channel
        block.fuse.weight[1, 2] = 1  # Q's
    low = torch.full((1, 2, 3, 3), 2.0)
    with torch.inference_mode():
        high = block(low)
    # Coefficients are sigmoid(0) = 1/2: q = 4 + 2/2 = 5, P = 8 + 5/2, Q = 5 + 8/2.
    torch.testing.assert_close(high[:, 0], torch.full((1, 3, 3), 10.5))
    torch.testing.assert_close(high[:, 1], torch.full((1, 3, 3), 9.0))


def test_a_cascade_mixes_all_before() -> None:
    """Stage i sees the mixture before it, and each mixture every output so far."""
    network = CARN(2, CARNConfig(channels=4, multi_scale=False))
    seen: list[Tensor] = []
    for mix in network.deep.mix:
        mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    low = torch.rand(1, 3, 5, 6)
    with torch.inference_mode():
        network(low)
        shallow = network.shallow(network.subtract_mean(low))
        first = network.deep.stages[0](shallow)
        mixed = network.deep.mix[0](torch.cat([shallow, first], dim=1))
        second = network.deep.stages[1](mixed)
    assert [x.shape[1] for x in seen[:3]] == [8, 12, 16]
    torch.testing.assert_close(seen[1], torch.cat([shallow, first, second], dim=1))


def test_a_shared_block_serves_every_stage() -> None:
    network = CARN(2, CARNConfig(channels=8, groups=4, shared=True))
    first = network.deep.stages[0]
    assert len(first.stages) == 1  # type: ignore[arg-type]
    calls: list[Tensor] = []
    first.stages[0].register_forward_hook(lambda _m, _i, output: calls.append(output))  # type: ignore[index,union-attr]
    with torch.inference_mode():
        network(torch.rand(1, 3, 4, 4))
    assert len(calls) == 3
