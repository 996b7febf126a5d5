"""The INT8 trial: what it quantises, what it writes, and the script on a small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import gidrn
from benchmarks import file_forms, int8_trial, records
from export import to_onnx
from export.to_onnx import Labels
from gidrn.images import write_image
from gidrn.networks.gidrn import GIDRNConfig
from gidrn_runtime import engines

BLOCKS = 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """G-IDRN x2 of one block as a file, unproved: the export's tests prove others like it."""
    torch.manual_seed(0)
    config = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=BLOCKS)
    network = gidrn.create("gidrn", 2, config=config).eval()
    changed, _ = to_onnx.rewritten(network, "exact", [])
    model = to_onnx.to_model(changed, 2, opset=17)
    to_onnx.label(model, Labels("gidrn", 2, "random", "", "global"), "exact", None)
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos to calibrate on."""
    folder = tmp_path_factory.mktemp("train")
    for i in range(3):
        random = np.random.default_rng(i)
        write_image(folder / f"{i}.png", random.integers(0, 256, (140, 150, 3), np.uint8))
    return folder


@pytest.mark.parametrize(("form", "a_block"), [("all", 8), ("1x1", 4)])
def test_a_form_names_its_convolutions(small: Path, form: str, a_block: int) -> None:
    model = onnx.load(small)
    named = int8_trial.convolutions(model, form)
    assert len(named) == BLOCKS * a_block
    taken = {node.input[1] for node in model.graph.node if node.name in named}
    assert not [name for name in taken if any(part in name for part in int8_trial.KEPT)]
    del model.graph.node[:]
    with pytest.raises(ValueError, match="no convolution that the trial quantises"):
        int8_trial.convolutions(model, form)


@pytest.mark.parametrize(("bits", "most"), [("reduced", 64), ("full", 127)])
def test_weights_become_int8_and_the_rest_stays(
    small: Path, train: Path, tmp_path: Path, bits: str, most: int
) -> None:
    inputs = int8_trial.calibration(train, 2, 2)
    assert [x.shape for x in inputs] == [(1, 3, int8_trial.SIDE, int8_trial.SIDE)] * 2
    made = int8_trial.quantise(small, tmp_path / "q.onnx", "all", bits, inputs, "minmax")
    assert made.convolutions == 8 * BLOCKS
    model = onnx.load(made.path)
    kernels = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
    }
    assert len(kernels) == made.convolutions
    assert max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels.values()) == most
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["dtype"] == "int8"
    assert "golden" not in facts
    assert "native" not in engines.that_open(made.path)  # it would compute in FP32


def test_too_few_or_too_small_photos_are_named(train: Path) -> None:
    with pytest.raises(ValueError, match="has 3 photos and --photos wants 4"):
        int8_trial.calibration(train, 2, 4)
    with pytest.raises(ValueError, match="150x140 pixels, under 256"):
        int8_trial.calibration(train, 4, 1)


def test_the_script_scores_and_clocks(
    small: Path,
    train: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(int8_trial, "PLAIN", {"fp32 ort-cpu": "ort-cpu"})  # native may not be built
    folder = tmp_path / "data" / "Set5"
    folder.mkdir(parents=True)
    for i in range(5):
        random = np.random.default_rng(i)
        write_image(folder / f"{i}.png", random.integers(0, 256, (32, 40, 3), np.uint8))
    out = tmp_path / "out.json"
    int8_trial.main(
        train,
        model=str(small),
        forms="1x1",
        bits="reduced",
        dataset="Set5",
        data_root=tmp_path / "data",
        photos=2,
        sizes="8x12",
        threads="1",
        runs=2,
        out=out,
    )
    scored, plain, clocked = records.read_records(out)
    assert scored.what.precision == clocked.what.precision == "int8"
    psnr_db = scored.values["psnr_int8_db"], scored.values["psnr_fp32_db"]
    assert psnr_db[0] != psnr_db[1]
    assert scored.values["change_db"] == pytest.approx(float(psnr_db[0]) - float(psnr_db[1]))  # type: ignore[arg-type]
    assert plain.values["time_over_reference"] == 1
    assert len(clocked.figure("end_to_end_ms").samples) == 2
    assert "ms of QLinearConv" in clocked.values
    assert "ms of QLinearConv" not in plain.values
    assert "int8 1x1, reduced, minmax" in capsys.readouterr().out


def test_files_are_timed_in_turns(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(small.read_bytes())
    out = tmp_path / "out.json"
    file_forms.main(f"{small},{other}", sizes="8x12,5x7", runs=2, out=out)
    found = records.read_records(out)
    assert [one.values["name"] for one in found] == ["small", "other"] * 2
    assert [one.what.size_hw for one in found] == [(8, 12), (8, 12), (5, 7), (5, 7)]
    assert {one.values["reference"] for one in found} == {"small"}
    assert [one.values["time_over_reference"] == 1 for one in found[::2]] == [True, True]
    assert "other" in capsys.readouterr().out
    with pytest.raises(ValueError, match="two or more files of different names"):
        file_forms.main(str(small))
    with pytest.raises(ValueError, match="tensorrt"):
        file_forms.main(f"{small},{other}", engine="tensorrt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"forms": "3x3"}, "no form is called '3x3'"),
        ({"bits": ""}, "no choice of bits is named: there are reduced, full"),
        ({"ranges": "minmx"}, "did you mean 'minmax'"),
        ({"photos": 0}, "at least 1, not 0 and 11"),
        ({"dataset": "Set6"}, "no benchmark set is called 'Set6'"),
        ({"sizes": "80"}, "HEIGHTxWIDTH"),
    ],
)
def test_mistakes_are_named_before_the_work(
    arguments: dict[str, object], message: str, train: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        int8_trial.main(train, **arguments)  # type: ignore[arg-type]
