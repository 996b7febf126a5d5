"""Networks by name, and weights files good and bad."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gidrn
from gidrn import checkpoints, recipes, zoo
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.imdn import IMDNConfig
from tests.small_networks import SMALL

TINY = IMDNConfig(channels=4, blocks=1, distilled=2, attention_reduction=2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are quickest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return zoo.create("imdn", 2, config=TINY).state_dict()


def load_tiny(path: Path) -> torch.nn.Module:
    return zoo.load("imdn", 2, weights=path, config=TINY)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("gidnr", "gidrn"), ("rfdnl", "rfdn_l"), ("EDSR2", None), ("rcam", "rcan")],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, nearest: str | None) -> None:
    with pytest.raises(ValueError, match="no network is called") as caught:
        gidrn.create(name, 4)
    message = str(caught.value)
    assert (f"did you mean {nearest!r}?" in message) == (nearest is not None)
    assert all(known in message for known in zoo.NETWORKS)


@pytest.mark.parametrize("scale", [0, 1, 5, 8, -2])
def test_wrong_scale_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match=f"scale is one of 2, 3, 4, not {scale}"):
        gidrn.create("gidrn", scale)


def test_wrong_config_class_is_refused() -> None:
    with pytest.raises(ValueError, match="configured by a GIDRNConfig, not a IMDNConfig"):
        gidrn.create("gidrn", 2, config=TINY)


def test_config_replaces_the_names_own() -> None:
    plain = gidrn.create("gidrn", 2)
    narrow = gidrn.create("gidrn", 2, config=GIDRNConfig(channels=8))
    assert len(plain.state_dict()) == len(narrow.state_dict())
    assert sum(p.numel() for p in narrow.parameters()) < 40_000


NARROW: dict[str, dict[str, Any]] = {  # as deep as published; every network without a mean
    "pan": {"channels": 2, "up_channels": 1},
    "carn": {"channels": 1},
    "carn_m": {"channels": 4},
    "edsr": {"channels": 1},
    "srmdnf": {"channels": 1, "components": 1},
    "idn": {"channels": 16},
    "memnet": {"channels": 1},
    "drrn": {"channels": 1},
    "drcn": {"channels": 1},
    "lapsrn": {"channels": 1},
    "vdsr": {"channels": 1},
    "fsrcnn": {"channels": 1, "shrunk": 1},
    "srcnn": {"widths": (1, 1)},
    "bicubic": {},
}


def reach(network: nn.Module, scale: int, width: int) -> int:
    """How far the outermost input pixel is that an output pixel in the middle answers to."""
    centre = width // 2
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    image = torch.rand(1, 3, 1, width, dtype=torch.double, requires_grad=True)
    output = network(image)
    found = 0
    for column in range(scale * centre, scale * (centre + 1)):
        (slope,) = torch.autograd.grad(output[0, 0, 0, column], image, retain_graph=True)
        touched = slope.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        found = max(found, centre - int(touched.min()), int(touched.max()) - centre)
    return found


@pytest.mark.parametrize("name", NARROW)
def test_a_network_reaches_as_far_as_the_zoo_says(name: str) -> None:
    """With nothing negative inside, the gradient's support is the reach, and not one pixel less."""
    known = zoo.NETWORKS[name]
    assert isinstance(known.context, int)
    reaches = []
    for config in (known.config, *known.others):
        narrow = dataclasses.replace(config, **NARROW[name])
        for scale in zoo.SCALES:
            network = zoo.create(name, scale, config=narrow)
            reaches.append(reach(network, scale, 2 * known.context + 7))
    assert max(reaches) == known.context


def test_all_reaches_are_looked_at() -> None:
    assert list(NARROW) == [n for n, known in zoo.NETWORKS.items() if known.context != "global"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"größe{suffix}"
    weights = tiny_weights()
    if suffix == ".safetensors":
        checkpoints.save_weights(weights, path, metadata={"steps": "7"})
        assert checkpoints.read_metadata(path) == {"steps": "7"}
    else:
        torch.save(weights, path)
    network = load_tiny(path)
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_every_misfit_is_listed(tmp_path: Path) -> None:
    weights = tiny_weights()
    del weights["smooth.bias"]
    weights["smooth.bais"] = torch.zeros(4)
    weights["shallow.bias"] = torch.zeros(5)
    path = tmp_path / "other.safetensors"
    checkpoints.save_weights(weights, path, metadata={})
    with pytest.raises(ValueError, match="does not fit this network") as caught:
        load_tiny(path)
    message = str(caught.value)
    assert str(path) in message
    assert "missing smooth.bias" in message
    assert "unknown smooth.bais" in message
    assert "shallow.bias" in message
    assert "5" in message
    assert "\n" not in message


def test_weights_of_another_scale_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x2.safetensors"
    checkpoints.save_weights(tiny_weights(), path, metadata={})
    with pytest.raises(ValueError, match=r"does not fit this network: upsample\.conv\.weight"):
        zoo.load("imdn", 3, weights=path, config=TINY)


class Intruder:
    """Unpickling this makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, as_zip: bool) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "weights.pth"
    state = {"shallow.weight": Intruder(mark)}
    torch.save(state, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(ValueError, match="holds more than tensors and is not loaded"):
        load_tiny(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # and it would have run
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.touch()
    with pytest.raises(ValueError, match="is empty: copy or make it again"):
        load_tiny(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        checkpoints.save_weights(tiny_weights(), path, metadata={})
    else:
        torch.save(tiny_weights(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match="is no whole"):
        load_tiny(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page: download the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS: fetch it"),
        (b"no weights at all, " * 9, "is no whole"),
        (b"\x80\x02}q\x00.", "is no whole"),
    ],
)
def test_file_of_another_kind_is_refused(
    tmp_path: Path, suffix: str, content: bytes, says: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        load_tiny(path)
    assert "weights_only" not in str(caught.value)  # torch.load's advice to run it


LOOP: dict[str, Any] = {}
LOOP["model"] = LOOP


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ([torch.zeros(1)], "it is a list"),
        ({}, "it is a dict of nothing"),
        ({1: torch.zeros(1)}, "it is a dict of 1"),
        ({"G": {"a": torch.zeros(1)}, "D": {"a": torch.zeros(1)}}, "it is a dict of G, D"),
        (LOOP, "it is a dict of model"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, saved: object, says: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(saved, path)
    with pytest.raises(ValueError, match=rf"is not a state dict \(names to tensors\): {says}"):
        load_tiny(path)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "bicubic"])
def test_every_network_takes_its_own_weights_back(tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    state = {
        key: torch.randn(tensor.shape).to(tensor.dtype)
        for key, tensor in zoo.create(name, 3, config=SMALL[name]).state_dict().items()
    }
    stripped = {key: value for key, value in state.items() if "num_batches" not in key}
    wrapped: dict[str, dict[str, Any]] = {
        "plain": state,
        "prefixed": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "averaged": {"params_ema": stripped, "epoch": 3},
        "beside": {**stripped, "epoch": 3, "name": name},
        "generator": {"generator": state, "optimizer": {"lr": 0.1, "state": {}}},
    }
    for kind, content in wrapped.items():
        torch.save(content, tmp_path / f"{kind}.pth")
        own = zoo.load(name, 3, weights=tmp_path / f"{kind}.pth", config=SMALL[name]).state_dict()
        assert own.keys() == state.keys()
        for key in stripped:
            assert torch.equal(own[key], state[key]), (kind, key)


@pytest.mark.parametrize("name", ["table1_rfdb_dp", "table2_samples_50", "table2_samples_222"])
def test_weights_of_an_ablation_bring_their_configuration(tmp_path: Path, name: str) -> None:
    recipe = recipes.find(name)
    torch.manual_seed(0)
    trained = zoo.create(recipe.network, recipe.scale, config=recipe.network_config).eval()
    path = tmp_path / "best.safetensors"
    words = {"recipe": json.dumps(dataclasses.asdict(recipe))}
    checkpoints.save_weights(trained.state_dict(), path, metadata=words)
    loaded = zoo.load(recipe.network, recipe.scale, weights=path)
    image = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        assert torch.equal(loaded(image), trained(image))  # pooling's sizes have no tensors
    assert zoo.recognise(path) == [(recipe.network, recipe.scale)]
    checkpoints.save_weights(trained.state_dict(), path, metadata={})
    with pytest.raises(ValueError, match="does not fit this network"):
        zoo.load(recipe.network, recipe.scale, weights=path)


def test_a_misfit_says_what_the_file_is_of(tmp_path: Path) -> None:
    path = tmp_path / "imdn.pth"
    torch.save(zoo.create("imdn", 2).state_dict(), path)
    with pytest.raises(ValueError, match=r"does not fit.*; it is of imdn x2, imdn_jdsr x2$"):
        zoo.load("imdn", 4, weights=path)
    with pytest.raises(ValueError, match=r"does not fit.*; it is of imdn x2, imdn_jdsr x2$"):
        zoo.load("srmdnf", 4, weights=path)  # and is not asked for a blur


def test_misfits_are_those_of_the_nearest_configuration(tmp_path: Path) -> None:
    """SRCNN's file with a middle of 5 lacks one tensor: nothing is said of a middle of 1."""
    five = next(one for one in zoo.NETWORKS["srcnn"].others if one.kernels[1] == 5)
    state = zoo.create("srcnn", 3, config=five).state_dict()
    del state["map.bias"]
    path = tmp_path / "srcnn.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"does not fit this network: missing map\.bias$"):
        zoo.load("srcnn", 3, weights=path)


def test_unknown_suffix_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_tiny(tmp_path / "none.safetensors")
    other = tmp_path / "weights.onnx"
    other.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"weights are \.safetensors, \.pth or \.pt files"):
        load_tiny(other)


def test_no_weights_are_made_up() -> None:
    with pytest.raises(ValueError, match="no weights ship for edsr x2, only for"):
        gidrn.load("edsr", 2)


def test_variants_match_their_networks() -> None:
    for variant in gidrn.variants().values():
        with torch.device("meta"):
            network = gidrn.create(variant.network, variant.scale)
        assert sum(p.numel() for p in network.parameters()) == variant.parameters
        assert zoo.shipped_weights(variant.network, variant.scale) == variant.path
