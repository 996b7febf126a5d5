"""Weights in MATLAB files, laid out as SRCNN's, VDSR's and LapSRN's authors do it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from torch import Tensor, nn

from gidrn import matlab, zoo
from gidrn.networks.lapsrn import LapSRN, LapSRNConfig
from gidrn.networks.srcnn import SRCNN, SRCNNConfig
from gidrn.networks.srmdnf import SRMDNF
from gidrn.networks.vdsr import VDSR

Array = NDArray[Any]


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def srcnn_file(path: Path, middle: int = 5) -> dict[str, Array]:
    arrays = {
        "weights_conv1": random(81, 64),
        "biases_conv1": random(64, 1),
        "weights_conv2": random(64, middle**2, 32),
        "biases_conv2": random(32, 1),
        "weights_conv3": random(32, 25),
        "biases_conv3": random(1, 1),
    }
    savemat(path, arrays)
    return arrays


def filtered(plane: Array, patch: Array) -> float:
    """The middle of a plane under a patch that was unfolded column after column."""
    side = round(len(patch) ** 0.5)
    folded = patch.reshape(side, side, order="F")
    top = (plane.shape[0] - side) // 2
    return float((plane[top : top + side, top : top + side] * folded).sum())


@pytest.mark.parametrize(("middle", "count"), [(1, 8_129), (5, 57_281)])
def test_srcnns_matrices_are_unfolded_patches(tmp_path: Path, middle: int, count: int) -> None:
    arrays = srcnn_file(tmp_path / "x3.mat", middle)
    network = zoo.load("srcnn", 3, weights=tmp_path / "x3.mat")
    assert isinstance(network, SRCNN)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    planes = random(64, 9, 9)

    def at_the_middle(conv: nn.Conv2d, planes: Array, channel: int) -> float:
        with torch.inference_mode():
            output = conv(torch.from_numpy(planes).float()[None])
        return float(output[0, channel, 4, 4])

    first = filtered(planes[0], arrays["weights_conv1"][:, 7]) + arrays["biases_conv1"][7, 0]
    assert at_the_middle(network.extract, planes[:1], 7) == pytest.approx(first, rel=1e-4)
    second = sum(filtered(planes[c], arrays["weights_conv2"][c, :, 3]) for c in range(64))
    second += arrays["biases_conv2"][3, 0]
    assert at_the_middle(network.map, planes, 3) == pytest.approx(second, rel=1e-4)
    third = sum(filtered(planes[c], arrays["weights_conv3"][c]) for c in range(32))
    third += arrays["biases_conv3"][0, 0]
    assert at_the_middle(network.reconstruct, planes[:32], 0) == pytest.approx(third, rel=1e-4)


def cells(arrays: list[Array]) -> Array:
    found = np.empty((1, len(arrays)), dtype=object)
    for i, array in enumerate(arrays):
        found[0, i] = array
    return found


def test_vdsrs_cells_are_matconvnets_arrays(tmp_path: Path) -> None:
    widths = [1, *[64] * 19, 1]
    # as MATLAB has them: the last one's trailing side of 1 is gone
    kernels = [random(3, 3, widths[i], widths[i + 1]) for i in range(20)]
    kernels[-1] = kernels[-1][..., 0]
    biases = [random(widths[i + 1], 1) for i in range(20)]
    model = {"weight": cells(kernels), "bias": cells(biases)}
    savemat(tmp_path / "VDSR_Official.mat", {"model": model})
    network = zoo.load("vdsr", 2, weights=tmp_path / "VDSR_Official.mat")
    assert isinstance(network, VDSR)
    for i, (height, width, narrow, wide) in ((0, (0, 2, 0, 5)), (1, (2, 1, 40, 6))):
        kernel = network.deep[2 * i].weight[wide, narrow, height, width]  # type: ignore[index]
        assert kernel.item() == pytest.approx(kernels[i][height, width, narrow, wide])
    last: Any = network.deep[38]
    assert last.weight[0, 9, 1, 2].item() == pytest.approx(kernels[19][1, 2, 9])
    assert last.bias.item() == pytest.approx(biases[19].item())


def lapsrn_file(path: Path, levels: int, depth: int = 10) -> dict[str, Array]:
    arrays = {"input_conv_f": random(3, 3, 1, 64), "input_conv_b": random(1, 64)}
    for level in range(levels, 0, -1):
        for layer in [f"conv{d + 1}" for d in range(depth)] + ["upconv"]:
            arrays[f"level{level}_{layer}_f"] = random(3, 3, 64, 64) + level
            arrays[f"level{level}_{layer}_b"] = random(1, 64)
        arrays[f"level{level}_residual_conv_f"] = random(3, 3, 64)
        arrays[f"level{level}_residual_conv_b"] = random(1, 1)
        arrays[f"level{level}_img_up_f"] = random(4, 4) + level
    params = np.empty((1, len(arrays)), dtype=[("name", object), ("value", object)])
    for i, (name, value) in enumerate(arrays.items()):
        params[0, i] = (name, value)
    savemat(path, {"net": {"params": params, "vars": []}})
    return arrays


@pytest.mark.parametrize(("scale", "levels", "count"), [(2, 1, 407_441), (4, 2, 814_242)])
def test_lapsrns_levels_are_counted_from_the_largest(
    tmp_path: Path, scale: int, levels: int, count: int
) -> None:
    arrays = lapsrn_file(tmp_path / "LapSRN.mat", levels)
    network = zoo.load("lapsrn", scale, weights=tmp_path / "LapSRN.mat")
    assert isinstance(network, LapSRN)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    for i, level in enumerate(network.levels):
        theirs = f"level{levels - i}"
        state = level.state_dict()
        for ours, name in (
            *(("deep.0.weight", "conv1_f"), ("deep.18.weight", "conv10_f")),
            *(("enlarge.weight", "upconv_f"), ("residual.bias", "residual_conv_b")),
            ("enlarge_image.weight", "img_up_f"),
        ):
            array = arrays[f"{theirs}_{name}"]
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            came = state[ours].numpy().reshape(array.shape)
            np.testing.assert_allclose(came, array, rtol=1e-6)
    if scale == 4:  # serves x3 as well
        by_three = zoo.load("lapsrn", 3, weights=tmp_path / "LapSRN.mat")
        assert by_three.state_dict().keys() == network.state_dict().keys()


def matconvnet_transposed(x: Array, kernel: Array) -> Array:
    """Each input pixel adds its kernel (h, w, out, in) to the output, two pixels apart."""
    height, width, _ = x.shape
    output = np.zeros((2 * height + 1, 2 * width + 1, kernel.shape[2]))
    for h in range(height):
        for w in range(width):
            output[2 * h : 2 * h + 3, 2 * w : 2 * w + 3] += kernel @ x[h, w]
    return output[: 2 * height, : 2 * width]  # their crop of one row below and column right


def test_a_transposed_convolution_is_matconvnets(tmp_path: Path) -> None:
    arrays = lapsrn_file(tmp_path / "LapSRN.mat", 1)
    network = zoo.load("lapsrn", 2, weights=tmp_path / "LapSRN.mat")
    enlarge: Any = network.levels[0].enlarge  # type: ignore[index,union-attr]
    x = random(3, 4, 64)
    with torch.inference_mode():
        came = enlarge(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0, :, :6, :8]
    expected = matconvnet_transposed(x, arrays["level1_upconv_f"]) + arrays["level1_upconv_b"][0]
    np.testing.assert_allclose(came.permute(1, 2, 0).numpy(), expected, rtol=1e-3, atol=1e-3)


def kair_weights() -> dict[str, Tensor]:
    widths = [18, *[128] * 11, 48]
    state: dict[str, Tensor] = {}
    for i in range(12):
        state[f"model.{2 * i}.weight"] = torch.rand(widths[i + 1], widths[i], 3, 3)
        state[f"model.{2 * i}.bias"] = torch.rand(widths[i + 1])
    return state


def test_srmdnf_takes_its_blur_from_the_file_beside(tmp_path: Path) -> None:
    state = kair_weights()
    torch.save(state, tmp_path / "srmdnf_x4.pth")
    with pytest.raises(ValueError, match=r"says nothing of the blur: .* srmd_pca_matlab.mat or"):
        zoo.load("srmdnf", 4, weights=tmp_path / "srmdnf_x4.pth")
    assert zoo.recognise(tmp_path / "srmdnf_x4.pth") == [("srmdnf", 4)]
    projection = random(15, 225)
    savemat(tmp_path / "srmd_pca_matlab.mat", {"P": projection})
    network = zoo.load("srmdnf", 4, weights=tmp_path / "srmdnf_x4.pth")
    assert isinstance(network, SRMDNF)
    blur = np.zeros((15, 15))
    blur[7, 7] = 1
    np.testing.assert_allclose(network.degradation.numpy(), projection @ blur.flatten(), rtol=1e-6)
    assert torch.equal(network.reconstruct.weight, state["model.22.weight"])
    assert torch.equal(network.state_dict()["deep.20.weight"], state["model.20.weight"])
    own = tmp_path / "own.pth"  # ours say it themselves
    torch.save(network.state_dict(), own)
    assert zoo.load("srmdnf", 4, weights=own).state_dict().keys() == network.state_dict().keys()
    savemat(tmp_path / "srmd_pca_matlab.mat", {"P": projection.T})
    with pytest.raises(ValueError, match=r"no matrix P of \(15, 225\), but \(225, 15\)"):
        zoo.load("srmdnf", 4, weights=tmp_path / "srmdnf_x4.pth")


@pytest.mark.parametrize(
    ("network", "variables", "says"),
    [
        ("imdn", {"a": 1}, "imdn has no weights in MATLAB files, only srcnn, vdsr, lapsrn"),
        ("srcnn", {"a": 1, "b": 2}, r"authors of srcnn do it \('weights_conv1'\); there is a, b"),
        ("vdsr", {"model": 1}, "authors of vdsr do it"),
        ("lapsrn", {"net": 1}, "authors of lapsrn do it"),
    ],
)
def test_another_layout_is_refused(
    tmp_path: Path, network: str, variables: dict[str, Any], says: str
) -> None:
    savemat(tmp_path / "other.mat", variables)
    with pytest.raises(ValueError, match=says):
        zoo.load(network, 2, weights=tmp_path / "other.mat")


def test_a_file_of_another_size_is_refused_with_its_layers(tmp_path: Path) -> None:
    lapsrn_file(tmp_path / "LapSRN.mat", levels=1, depth=9)
    with pytest.raises(ValueError, match=r"does not fit this network: missing levels\.0\.deep"):
        zoo.load(
            "lapsrn",
            2,
            weights=tmp_path / "LapSRN.mat",
            config=LapSRNConfig(depth=10, up_kernel=3),
        )
    srcnn_file(tmp_path / "srcnn.mat", middle=3)
    with pytest.raises(ValueError, match=r"map.weight is \(3, 3, 64, 32\), not \(32, 64, 1, 1"):
        zoo.load("srcnn", 2, weights=tmp_path / "srcnn.mat", config=SRCNNConfig())


def test_a_file_is_recognised_by_its_variables(tmp_path: Path) -> None:
    srcnn_file(tmp_path / "x3.mat")
    assert zoo.recognise(tmp_path / "x3.mat") == [("srcnn", 2), ("srcnn", 3), ("srcnn", 4)]
    savemat(tmp_path / "other.mat", {"a": 1})
    assert zoo.recognise(tmp_path / "other.mat") == []


@pytest.mark.parametrize("cut", [0, 40, 200, 5_000])
def test_a_file_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    srcnn_file(tmp_path / "srcnn.mat")
    data = (tmp_path / "srcnn.mat").read_bytes()
    (tmp_path / "srcnn.mat").write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"srcnn.mat is (no whole MATLAB file|not laid out)"):
        zoo.load("srcnn", 2, weights=tmp_path / "srcnn.mat")


def test_hdf5_is_refused_with_the_remedy(tmp_path: Path) -> None:
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    (tmp_path / "new.mat").write_bytes(head.ljust(600, b"\0"))
    with pytest.raises(ValueError, match=r"version 7\.3: save it again"):
        matlab.read(tmp_path / "new.mat")


def test_without_scipy_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    srcnn_file(tmp_path / "srcnn.mat")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"pip install gidrn\[matlab\]"):
        zoo.load("srcnn", 2, weights=tmp_path / "srcnn.mat")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights file .*gone\.mat"):
        zoo.load("srcnn", 2, weights=tmp_path / "gone.mat")
