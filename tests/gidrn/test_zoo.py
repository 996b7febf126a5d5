"""Networks by name, and weights files good and bad."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gidrn
from gidrn import checkpoints, zoo
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.imdn import IMDNConfig

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


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "weights.pth"
    torch.save({"shallow.weight": Intruder(mark)}, path)
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
    with pytest.raises(ValueError, match=r"is no whole|holds more than tensors"):
        load_tiny(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"<html>404: not found</html>" * 9)
    with pytest.raises(ValueError, match=r"is no whole|holds more than tensors"):
        load_tiny(path)


def test_a_list_of_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match="is not a state dict"):
        load_tiny(path)


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
