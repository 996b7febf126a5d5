"""The rivals by their formulas: interpolation, luma, masks, padding, alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gidrn import zoo
from gidrn.networks.bicubic import Resize
from gidrn.networks.drcn import DRCN, DRCNConfig
from gidrn.networks.drrn import DRRN, DRRNConfig
from gidrn.networks.fsrcnn import FSRCNN
from gidrn.networks.idn import IDN
from gidrn.networks.lapsrn import LapSRN, LapSRNConfig
from gidrn.networks.luma import LumaNetwork
from gidrn.networks.memnet import MemNet, MemNetConfig
from gidrn.networks.padding import mirror, pad_to
from gidrn.networks.rfdn_aim import RFDNAIMConfig
from gidrn.networks.smsr import SMSRConfig, SparseMaskModule
from gidrn.networks.srcnn import SRCNN, SRCNNConfig
from gidrn.networks.srmdnf import SRMDNF, SRMDNFConfig
from gidrn.networks.vdsr import VDSR
from gidrn.resize import imresize
from tests.small_networks import SMALL

LUMA = ("idn", "memnet", "drrn", "drcn", "lapsrn", "vdsr", "fsrcnn", "srcnn")


def run(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        output: Tensor = network.eval()(x)
    return output


def silence(*layers: nn.Module) -> None:
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5), (2, 3), (4, 8), (24, 36)])
@pytest.mark.parametrize(("up", "down"), [(2, 1), (3, 1), (4, 1), (3, 4)])
def test_a_resize_is_imresize_unrounded(up: int, down: int, size_hw: tuple[int, int]) -> None:
    height, width = (down * length for length in size_hw)
    image = np.random.default_rng(0).random((height, width))
    expected = imresize(image, up / down)
    came = run(Resize(1, up, down), torch.from_numpy(image)[None, None].float())[0, 0]
    # FP32 beside float64: 2.4e-7 is the most seen.
    np.testing.assert_allclose(came.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scale", zoo.SCALES)
def test_bicubic_is_imresize_of_each_channel(scale: int) -> None:
    image = np.random.default_rng(1).random((7, 9, 3))
    came = run(zoo.load("bicubic", scale), torch.from_numpy(image).permute(2, 0, 1)[None].float())
    np.testing.assert_allclose(came[0].permute(1, 2, 0).numpy(), imresize(image, scale), atol=1e-6)


@pytest.mark.parametrize(
    ("size_hw", "least", "multiple", "padded_hw"),
    [
        ((5, 7), 1, 1, (5, 7)),
        ((5, 8), 1, 2, (6, 8)),
        ((5, 20), 15, 1, (15, 20)),
        ((15, 1), 15, 4, (16, 16)),
        ((17, 15), 15, 4, (20, 16)),
    ],
)
def test_padding_repeats_the_last_row_and_column(
    size_hw: tuple[int, int], least: int, multiple: int, padded_hw: tuple[int, int]
) -> None:
    x = torch.rand(2, 3, *size_hw)
    after = (padded_hw[0] - size_hw[0], padded_hw[1] - size_hw[1])
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, after[0]), (0, after[1])), mode="edge")
    assert np.array_equal(pad_to(x, least, multiple).numpy(), expected)


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_a_mirror_repeats_the_edge(pixels: int) -> None:
    x = torch.rand(1, 2, 3, 5)
    around = ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels))
    assert np.array_equal(mirror(x, pixels).numpy(), np.pad(x.numpy(), around, mode="symmetric"))


def test_a_mirror_of_less_than_it_wants_ends_at_the_edge() -> None:
    row = torch.tensor([[[[1.0, 2.0]]]])
    assert mirror(row, 3)[0, 0, 0].tolist() == [2, 2, 1, 1, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("rfdn_aim", RFDNAIMConfig(channels=8, blocks=1)),
        ("smsr", SMSRConfig(channels=4, modules=1, layers=2, attention_reduction=2)),
    ],
)
@pytest.mark.parametrize("size_hw", [(1, 4), (9, 31), (17, 15), (16, 18)])
def test_a_network_of_whole_windows_pads_inside_and_cuts_behind(
    name: str, config: Any, size_hw: tuple[int, int]
) -> None:
    network, scale = zoo.create(name, 3, config=config), 3
    known = zoo.NETWORKS[name]
    image = torch.rand(1, 3, *size_hw)
    height, width = size_hw
    padded = pad_to(image, known.least_side, known.multiple)
    assert all(n >= known.least_side and n % known.multiple == 0 for n in padded.shape[2:])
    expected = run(network, padded)[:, :, : scale * height, : scale * width]
    assert torch.equal(run(network, image), expected)


def test_all_luma_networks_are_looked_at() -> None:
    with torch.device("meta"):
        found = [n for n in zoo.NETWORKS if isinstance(zoo.create(n, 2), LumaNetwork)]
    assert found == list(LUMA)


@pytest.mark.parametrize("name", LUMA)
def test_a_luma_network_leaves_colour_to_bicubic(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.create(name, 3, config=SMALL[name])
    assert isinstance(network, LumaNetwork)
    image = torch.rand(1, 3, 6, 5)
    came = network.to_ycbcr(run(network, image))
    expected = network.to_ycbcr(run(zoo.load("bicubic", 3), image))
    torch.testing.assert_close(came[:, 1:], expected[:, 1:], atol=1e-5, rtol=0)
    assert (came[:, 0] - expected[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("name", LUMA)
def test_luma_is_matlabs(name: str) -> None:
    """16 to 235 of 255, whatever the network makes of it."""
    network = zoo.create(name, 2, config=SMALL[name])
    assert isinstance(network, LumaNetwork)
    seen: list[Tensor] = []

    def enhance(low: Tensor, enlarged: Tensor) -> Tensor:
        seen.extend([low, enlarged])
        return enlarged

    network.enhance = enhance  # type: ignore[method-assign]
    white, red = torch.ones(1, 3, 3, 3), torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    torch.testing.assert_close(run(network, white), torch.ones(1, 3, 6, 6), atol=1e-6, rtol=0)
    run(network, torch.zeros_like(white))
    run(network, red)
    for i, luma in enumerate((235, 16, 16 + 65.481)):
        for plane in seen[2 * i : 2 * i + 2]:
            torch.testing.assert_close(plane * 255, torch.full_like(plane, luma))


def residual_ends(network: nn.Module) -> list[nn.Module]:
    match network:
        case VDSR():
            return [network.deep[-1]]
        case DRCN():
            return [network.reconstruct[-1]]
        case _:
            assert isinstance(network, IDN | MemNet | DRRN)
            return [network.reconstruct]


@pytest.mark.parametrize("scale", zoo.SCALES)
@pytest.mark.parametrize("name", ["idn", "memnet", "drrn", "drcn", "vdsr"])
def test_a_silent_residual_leaves_the_bicubic_image(name: str, scale: int) -> None:
    network = zoo.create(name, scale, config=SMALL[name])
    silence(*residual_ends(network))
    image = torch.rand(1, 3, 5, 4)
    expected = run(zoo.load("bicubic", scale), image)
    torch.testing.assert_close(run(network, image), expected, atol=1e-5, rtol=0)


def test_drcn_averages_what_each_recursion_reconstructs() -> None:
    network = DRCN(2, DRCNConfig(channels=1, recursions=3))
    silence(network.embed, network.infer, network.reconstruct)
    with torch.no_grad():
        for name, kernel in network.named_parameters():
            if name.endswith("weight"):
                kernel[0, 0, 1, 1] = 2 if name.startswith("infer") else 1
        network.shares.copy_(torch.tensor([100.0, 10.0, 1.0]))
    enlarged = torch.full((1, 1, 4, 4), 0.5)
    with torch.inference_mode():
        luma = network.enhance(enlarged, enlarged)
    # The recursions give 2y, 4y and 8y, each of them on top of y.
    torch.testing.assert_close(luma, 0.5 * torch.full_like(luma, 3 * 100 + 5 * 10 + 9))


def test_drrns_units_share_convolutions_and_not_their_statistics() -> None:
    network = DRRN(2, DRRNConfig(channels=2, units=3)).train()
    calls: list[Tensor] = []
    network.first.register_forward_hook(lambda _m, _i, output: calls.append(output))
    network(torch.rand(1, 3, 6, 6))
    assert len(calls) == 3
    means = [unit.normalise.running_mean for unit in network.before_first]  # type: ignore[union-attr]
    assert not torch.equal(means[0], means[1])  # type: ignore[arg-type]


def test_a_gate_sees_all_memories_and_all_units() -> None:
    network = MemNet(2, MemNetConfig(channels=3, blocks=2, recursions=4))
    seen: list[Tensor] = []
    for block in network.blocks:
        block.gate.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    run(network, torch.rand(1, 3, 4, 4))
    assert [x.shape[1] // 3 for x in seen] == [4 + 1, 4 + 2]


def pass_first_channel(network: nn.Module) -> None:
    """Make every convolution give its first input channel, and nothing else, on all others."""
    silence(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            middle = layer.kernel_size[0] // 2
            with torch.no_grad():
                layer.weight[0, 0, middle, middle] = 1


@pytest.mark.parametrize("scale", zoo.SCALES)
def test_fsrcnns_middle_tap_is_each_first_pixel(scale: int) -> None:
    network = FSRCNN(scale, SMALL["fsrcnn"])
    pass_first_channel(network.deep)
    silence(network.reconstruct)
    with torch.no_grad():
        network.reconstruct.weight[0, 0, 4, 4] = 1
    low = torch.rand(1, 1, 3, 4)
    with torch.inference_mode():
        high = network.enhance(low, low)
    expected = torch.zeros(1, 1, 3 * scale, 4 * scale)
    expected[:, :, ::scale, ::scale] = low
    assert torch.equal(high, expected)


@pytest.mark.parametrize("scale", zoo.SCALES)
def test_idns_middle_tap_is_each_last_pixel(scale: int) -> None:
    """The authors' output lacks the first s - 1 rows and columns, and has its taps from there."""
    network = IDN(scale, SMALL["idn"])
    network.shallow = network.blocks = nn.Sequential()
    network.reconstruct.weight = nn.Parameter(torch.zeros(1, 1, 17, 17))
    silence(network.reconstruct)
    with torch.no_grad():
        network.reconstruct.weight[0, 0, 8, 8] = 1
        network.reconstruct.weight[0, 0, 8 - scale + 1, 8 - scale + 1] = 10
    low = torch.rand(1, 1, 3, 4)
    network.reconstruct.in_channels = 1
    with torch.inference_mode():
        high = network.enhance(low, torch.zeros(1, 1, 3 * scale, 4 * scale))
    expected = torch.zeros(1, 1, 3 * scale, 4 * scale)
    expected[:, :, scale - 1 :: scale, scale - 1 :: scale] = low
    expected[:, :, ::scale, ::scale] = 10 * low
    assert torch.equal(high, expected)


def test_srcnn_sees_the_edge_repeated() -> None:
    network = SRCNN(2, SRCNNConfig(widths=(1, 1), kernels=(3, 1, 1)))
    silence(network)
    with torch.no_grad():
        network.extract.weight.fill_(1 / 9)
        network.map.weight.fill_(1)
        network.reconstruct.weight.fill_(1)
    flat = torch.full((1, 1, 4, 6), 0.7)
    with torch.inference_mode():
        torch.testing.assert_close(network.enhance(flat, flat), flat)


@pytest.mark.parametrize("up_kernel", [3, 4])
def test_a_level_of_lapsrn_is_its_residual_on_the_bilinear_image(up_kernel: int) -> None:
    network = LapSRN(4, LapSRNConfig(channels=2, depth=1, up_kernel=up_kernel))
    for level in network.levels:
        silence(level.residual)  # type: ignore[arg-type]
    low = torch.rand(1, 1, 5, 6)
    with torch.inference_mode():
        luma = network.enhance(low, low)
        expected = low
        for _ in range(2):
            expected = nn.functional.interpolate(expected, scale_factor=2, mode="bilinear")
    # Beyond the border PyTorch repeats pixels, and a transposed convolution has zeros.
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    torch.testing.assert_close(luma[inner], expected[inner])


def test_lapsrns_threefold_is_its_fourfold_shrunk() -> None:
    torch.manual_seed(0)
    by_three, by_four = (LapSRN(scale, SMALL["lapsrn"]) for scale in (3, 4))
    by_four.load_state_dict(by_three.state_dict())
    low = torch.rand(1, 1, 4, 5)
    with torch.inference_mode():
        large = by_four.enhance(low, low)[0, 0].double().numpy()
        came = by_three.enhance(low, low)[0, 0].numpy()
    np.testing.assert_allclose(came, imresize(large, 3 / 4), atol=1e-6)


def test_srmdnf_is_told_of_its_blur() -> None:
    network = SRMDNF(2, SRMDNFConfig(channels=4, depth=2, components=3))
    network.degradation.copy_(torch.tensor([1.0, 2.0, 3.0]))
    seen: list[Tensor] = []
    network.deep.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    image = torch.rand(2, 3, 4, 5)
    run(network, image)
    assert torch.equal(seen[0][:, :3], image)
    planes = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert torch.equal(seen[0][:, 3:], planes)


def sparse_by_hand(module: SparseMaskModule, x: Tensor, mask: Tensor) -> list[Tensor]:
    """Each layer's features, pixel after pixel, only where something is asked for."""
    dense = module.channel_logits[0].argmax(dim=2) == 0  # (C, layers)
    channels, height, width = x.shape[1:]
    features, kept = x[0], []
    for i, conv in enumerate(module.body):
        around = nn.functional.pad(features, (1, 1, 1, 1))
        out = torch.zeros(channels, height, width)
        for o in range(channels):
            for h in range(height):
                for w in range(width):
                    asked = bool(mask[0, 0, h, w])
                    if not dense[o, i] and not asked:
                        continue
                    for c in range(channels):
                        if i == 0 or dense[c, i - 1] or asked:
                            window = around[c, h : h + 3, w : w + 3]
                            out[o, h, w] += (window * conv.weight[o, c]).sum()  # type: ignore[index]
        features = torch.relu(out)
        kept.append(features[None])
    return kept


def test_smsrs_masks_are_what_gathered_pixels_give() -> None:
    torch.manual_seed(0)
    config = SMSRConfig(channels=4, modules=1, layers=3, attention_reduction=2)
    module = SparseMaskModule(config).eval()
    x = torch.rand(1, 4, 4, 6)
    seen: list[Tensor] = []
    module.fuse.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        nn.init.zeros_(module.spatial_mask.body[-1].bias)  # type: ignore[arg-type]
        mask = module.spatial_mask(x)
        assert 0 < mask.mean() < 1
        shares = (module.channel_logits[0].argmax(dim=2) == 0).float().mean()
        assert 0 < shares < 1
        module(x)
        expected = torch.cat(sparse_by_hand(module, x, mask), dim=1)
    torch.testing.assert_close(seen[0], expected)
