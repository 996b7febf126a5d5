"""Checkpoints of networks that are not the zoo's, through spandrel or a stand-in for it."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export import foreign, to_onnx
from export.proof import NotProvedError
from export.rewrites import RefusedError
from gidrn import zoo
from gidrn.networks.imdn import IMDNConfig
from gidrn_runtime import Upscaler


@dataclass
class SizeRequirements:
    """As spandrel has it."""

    minimum: int = 0
    multiple_of: int = 1
    square: bool = False


@dataclass
class ImageModelDescriptor:
    """What the code under test reads of spandrel's."""

    model: nn.Module
    scale: int = 2
    input_channels: int = 3
    output_channels: int = 3
    size_requirements: SizeRequirements = field(default_factory=SizeRequirements)
    architecture: Any = field(default_factory=lambda: types.SimpleNamespace(id="Toy"))


class UnsupportedModelError(Exception):
    """As spandrel's."""


class Toy(nn.Module):
    """One convolution and a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        pixels: Tensor = self.body(x)
        return pixels


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a stand-in in spandrel's place; what it is called with, a checkpoint turns out to be."""
    known: list[Any] = []

    class ModelLoader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, state: dict[str, Tensor]) -> Any:
            if not known:
                raise UnsupportedModelError
            known[0].model.load_state_dict(state)
            return known[0]

    stand_in = types.SimpleNamespace(
        __version__="0.4.2",
        ModelLoader=ModelLoader,
        ImageModelDescriptor=ImageModelDescriptor,
        UnsupportedModelError=UnsupportedModelError,
    )
    monkeypatch.setitem(sys.modules, "spandrel", stand_in)
    return known.append


def saved(network: nn.Module, folder: Path) -> Path:
    path = folder / "some_model.pth"
    torch.save(network.state_dict(), path)
    return path


def test_a_checkpoint_becomes_a_proved_file_with_its_padding_inside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spandrel: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    network = Toy()
    spandrel(ImageModelDescriptor(network, size_requirements=SizeRequirements(12, 6)))
    monkeypatch.chdir(tmp_path)
    assert to_onnx.main(weights=saved(network, tmp_path)) == 0
    assert "Toy x2" in capsys.readouterr().out
    metadata = {one.key: one.value for one in onnx.load("Toy_x2.onnx").metadata_props}
    assert (metadata["model"], metadata["scale"], metadata["context"]) == ("Toy", "2", "global")
    assert metadata["weights"] == "some_model.pth"
    image = torch.rand(1, 3, 5, 7)
    padded = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 7), (0, 5)), "edge"))
    with torch.inference_mode():
        expected = network(padded)[:, :, :10, :14].numpy()
    with Upscaler("Toy_x2.onnx", engine="ort-cpu") as upscale:
        np.testing.assert_allclose(upscale.run_tensor(image.numpy()), expected, atol=1e-5)


def test_a_network_of_the_zoo_is_recognised_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = IMDNConfig(channels=16, blocks=1, distilled=4, attention_reduction=4)
    line = zoo.NETWORKS["imdn"]
    narrow = type(line)(line.build, config, line.context, line.source)
    monkeypatch.setattr(zoo, "NETWORKS", {"pan": zoo.NETWORKS["pan"], "imdn": narrow})
    path = saved(zoo.create("imdn", 3), tmp_path)
    assert zoo.recognise(path) == [("imdn", 3)]
    assert to_onnx.main(weights=path, size="8x8", out=tmp_path / "out.onnx") == 0
    assert "imdn x3" in capsys.readouterr().out


def test_a_file_that_fits_several_factors_wants_the_factor(tmp_path: Path) -> None:
    """PAN's file for x3 has the tensors of that for x2."""
    path = saved(zoo.create("pan", 3), tmp_path)
    assert zoo.recognise(path) == [("pan", 2), ("pan", 3)]
    with pytest.raises(ValueError, match=r"fits pan at each factor of 2, 3, .*with --scale"):
        to_onnx.open_network(None, None, path, False)
    network, labels = to_onnx.open_network(None, 3, path, False)
    assert (labels.model, labels.scale) == ("pan", 3)
    assert network(torch.zeros(1, 3, 4, 5)).shape == (1, 3, 12, 15)


@pytest.mark.parametrize("scale", [2, 8])
def test_a_zoo_file_of_another_factor_is_named(tmp_path: Path, scale: int) -> None:
    path = saved(zoo.create("imdn", 4), tmp_path)
    with pytest.raises(
        ValueError, match=rf"is of imdn x4, imdn_jdsr x4, not of a factor of {scale}"
    ):
        to_onnx.open_network(None, scale, path, False)


def test_counters_alone_are_of_no_network(tmp_path: Path, spandrel: Callable[[Any], None]) -> None:
    torch.save({"iteration": torch.tensor(3)}, tmp_path / "counter.pth")
    with pytest.raises(ValueError, match="is of none of the networks here"):
        to_onnx.main(weights=tmp_path / "counter.pth", out=tmp_path / "out.onnx")


@pytest.mark.parametrize("scale", [1, 8])
def test_a_factor_that_the_zoo_has_not_is_welcome(
    tmp_path: Path, spandrel: Callable[[Any], None], scale: int
) -> None:
    toy = Toy()
    spandrel(ImageModelDescriptor(toy, scale=scale))
    _, labels = to_onnx.open_network(None, scale, saved(toy, tmp_path), False)
    assert labels.scale == scale


def test_what_an_architecture_says_of_its_tensors_is_one_line(
    tmp_path: Path, spandrel: Callable[[Any], None]
) -> None:
    spandrel(ImageModelDescriptor(Toy()))
    torch.save({"body.0.weight": torch.zeros(12, 3, 3, 3)}, tmp_path / "some_model.pth")
    with pytest.raises(ValueError, match=r"can open: RuntimeError: .*Missing key.*body\.0\.bias"):
        to_onnx.open_network(None, None, tmp_path / "some_model.pth", False)


def test_training_branches_are_folded_once(tmp_path: Path, spandrel: Callable[[Any], None]) -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.folded = nn.Conv2d(3, 3, 1)
            self.folds = 0

        def update_params(self) -> None:
            self.folds += 1
            self.folded.load_state_dict(self.conv.state_dict())

        def forward(self, x: Tensor) -> Tensor:
            self.update_params()
            output: Tensor = self.folded(x)
            return output

    network = Folding()
    spandrel(ImageModelDescriptor(network, scale=1))
    loaded = foreign.load(saved(network, tmp_path))
    loaded(torch.rand(1, 3, 4, 4))
    assert network.folds == 1
    assert torch.equal(network.folded.weight, network.conv.weight)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"input_channels": 1}, "a Toy from 1 channels to 3; files here take and give RGB"),
        ({"size_requirements": SizeRequirements(square=True)}, "for square images alone"),
    ],
)
def test_what_is_no_enlargement_of_rgb_is_refused(
    tmp_path: Path, spandrel: Callable[[Any], None], changes: dict[str, Any], says: str
) -> None:
    network = Toy()
    spandrel(ImageModelDescriptor(network, **changes))
    with pytest.raises(ValueError, match=says):
        foreign.load(saved(network, tmp_path))


def test_what_nobody_knows_is_refused(tmp_path: Path, spandrel: Callable[[Any], None]) -> None:
    with pytest.raises(ValueError, match=r"none of the networks here, nor of one that spandrel 0"):
        to_onnx.main(weights=saved(Toy(), tmp_path))


def test_a_mask_beside_the_image_is_refused(
    tmp_path: Path, spandrel: Callable[[Any], None]
) -> None:
    network = Toy()
    masked = types.SimpleNamespace(model=network, architecture=types.SimpleNamespace(id="LaMa"))
    spandrel(masked)
    with pytest.raises(ValueError, match="a LaMa, which needs more than an image"):
        foreign.load(saved(network, tmp_path))


def test_another_factor_than_the_files_is_refused(
    tmp_path: Path, spandrel: Callable[[Any], None]
) -> None:
    network = Toy()
    spandrel(ImageModelDescriptor(network))
    with pytest.raises(ValueError, match="a Toy of factor 2, not 4: leave out --scale"):
        to_onnx.main(weights=saved(network, tmp_path), scale=4)


def test_without_spandrel_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"pip install gidrn\[spandrel\]"):
        to_onnx.main(weights=saved(Toy(), tmp_path))


def test_fp16_wants_parts_that_are_known(tmp_path: Path, spandrel: Callable[[Any], None]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(1, 12), nn.PixelShuffle(2))
    spandrel(ImageModelDescriptor(network))
    with pytest.raises(RefusedError, match=r"Toy cannot be written in FP16: .* GroupNorm behave"):
        to_onnx.main(weights=saved(network, tmp_path), dtype="fp16")
    foreign.require_types(foreign.Foreign(Toy(), name="Toy", scale=2))


class Frozen(Toy):
    """Computes for the size that it is traced at."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_max_pool2d(x, (int(x.shape[2]) // 2, int(x.shape[3]) // 2))
        pixels: Tensor = self.body(x + nn.functional.interpolate(pooled, size=x.shape[2:]))
        return pixels


class Hidden(Toy):
    """PyTorch's older exporter takes it for one of all sizes."""

    def forward(self, x: Tensor) -> Tensor:
        pixels: Tensor = self.body(x)
        return pixels + 0.1 * int(x.shape[2] == 20)


@pytest.mark.parametrize(
    ("kind", "opset", "says"),
    [
        (Frozen, 18, r"the size that it is traced at, 20x28: fix one, with --size HEIGHTxWIDTH"),
        (Hidden, 17, r"differs .* some of Toy may hold for one size alone: try --size HEIGHTx"),
    ],
)
def test_a_network_of_one_size_is_told_to_fix_it(
    tmp_path: Path, spandrel: Callable[[Any], None], kind: type[Toy], opset: Any, says: str
) -> None:
    network = kind()
    spandrel(ImageModelDescriptor(network))
    with pytest.raises((RefusedError, NotProvedError), match=says):
        to_onnx.main(weights=saved(network, tmp_path), out=tmp_path / "out.onnx", opset=opset)
    assert not (tmp_path / "out.onnx").exists()
    path = saved(network, tmp_path)
    assert to_onnx.main(weights=path, out=tmp_path / "out.onnx", size="16x24") == 0


def test_spandrels_own_architectures(tmp_path: Path) -> None:
    """The real one, where it is installed (it brings torchvision, which the tests do without)."""
    real = pytest.importorskip("spandrel", exc_type=ImportError)
    made = importlib.import_module("spandrel.architectures.Compact.__arch.SRVGG")
    network = made.SRVGGNetCompact(num_feat=16, num_conv=4, upscale=4)
    path = saved(network, tmp_path)
    loaded = foreign.load(path)
    assert (loaded.name, loaded.scale) == ("Compact", 4)
    image = torch.rand(1, 3, 9, 10)
    with torch.inference_mode():
        expected = real.ModelLoader(device="cpu").load_from_file(path)(image)
        torch.testing.assert_close(loaded(image).clamp(0, 1), expected)
    assert to_onnx.main(weights=path, out=tmp_path / "out.onnx", dtype="fp16", size="16x24") == 0
