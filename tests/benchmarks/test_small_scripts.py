"""The export comparison, the memory table and the picture, on networks of milliseconds."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import (
    export_comparison,
    exported_models,
    fp16_quality,
    frames_path,
    group_forms,
    memory,
    picture,
    quality,
    records,
)
from export import proof, to_onnx
from gidrn import checkpoints, zoo
from gidrn.images import read_image, write_image
from gidrn.resize import crop_to_multiple
from gidrn_runtime import engines
from tests.small_networks import ONE_BLOCK, trained_like


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """G-IDRN with 16 channels, one block and no shipped weights; a cache of its own."""
    entry = zoo.NETWORKS["gidrn"]
    config = dataclasses.replace(ONE_BLOCK, pool_sizes=(1, 3))
    small = dataclasses.replace(entry, config=config, build=trained_like)
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", small)
    monkeypatch.setattr(zoo, "VARIANTS", {})
    monkeypatch.setattr(exported_models, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)


@pytest.fixture
def older_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files by PyTorch's older exporter, the quicker one, where any will do."""
    monkeypatch.setattr(to_onnx, "to_model", functools.partial(to_onnx.to_model, opset=17))
    monkeypatch.setattr(
        to_onnx, "choose_groups", functools.partial(to_onnx.choose_groups, opset=17)
    )
    monkeypatch.setattr(to_onnx, "export", functools.partial(to_onnx.export, opset=17))


@pytest.mark.usefixtures("older_exporter")
def test_both_exports_are_compared_in_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export.json"
    export_comparison.main(scale=2, size="10x14", threads="1", runs=2, out=out)
    found = records.read_records(out)
    assert [entry.values["export"] for entry in found] == [
        "ours, curve",
        "ours, exact",
        "torch.onnx.export",
    ]
    for entry in found:
        assert entry.how.samples == len(entry.figure("network_only_ms").samples) == 2
        assert isinstance(entry.values["levels_from_torch"], float)
        assert entry.values["levels_from_torch"] < 0.05
        assert entry.what.weights.startswith("random")
    assert "torch.onnx.export" in capsys.readouterr().out


@pytest.mark.usefixtures("older_exporter")
def test_frames_are_converted_inside_and_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unproved(network: nn.Module, path: Path, labels: to_onnx.Labels) -> None:
        model = to_onnx.to_model(network, labels.scale, frames=labels.frames)
        to_onnx.label(model, labels, "exact", None)
        model.metadata_props.add(key="proof_levels", value="0")
        path.write_bytes(model.SerializeToString())

    monkeypatch.setattr(exported_models, "_export", unproved)  # the proof takes a minute
    out = tmp_path / "frames.json"
    frames_path.main(models="bicubic", scale=4, sizes="48x64", threads="1", rounds=2, out=out)
    found = records.read_records(out)
    forms = ["tensors", "tensors, out", "frames", "frames, out"]
    assert [entry.values["form"] for entry in found] == forms
    peaks = {str(entry.values["form"]): entry.values["python_peak_mib"] for entry in found}
    for form, at_least in (("tensors", 48 * 64 * 12 / 2**20), ("frames, out", 0.0)):
        peak = peaks[form]
        assert isinstance(peak, float)
        assert at_least <= peak < at_least + 0.15
    for entry in found:
        assert len(entry.figure("end_to_end_ms").samples) == 2
        assert entry.values["levels_from_tensors"] in (0, 1)
    assert "frames, out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at least 1, not 0"):
        frames_path.main(rounds=0)


@pytest.mark.usefixtures("older_exporter")
def test_forms_of_the_groups_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.group_forms.REST_S", 0)
    out = tmp_path / "forms.json"
    group_forms.main(scale=2, sizes="10x14,12x9", out=out)
    found = records.read_records(out)
    forms = [(entry.what.size_hw, entry.values["merged_groups"]) for entry in found]
    assert forms == [(size, form) for size in ((10, 14), (12, 9)) for form in ("1", "all")]
    for entry in found:
        assert entry.what.engine == "ort-cpu"
        assert entry.how.samples == len(entry.figure("end_to_end_ms").samples)
    assert sum(bool(entry.values["chosen"]) for entry in found) == 2
    assert [entry.values["time_over_plain"] for entry in found[::2]] == [1, 1]
    assert "| 10x14" in capsys.readouterr().out


@pytest.mark.usefixtures("older_exporter")
def test_both_attentions_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "memory.json"
    named = [name for name in ("native", "ort-cpu") if engines.status(name).available]
    memory.main(scale=2, engine=",".join(named), sizes="10x14", threads=1, runs=1, out=out)
    found = records.read_records(out)
    pairs = [(entry.what.engine, entry.values["attention"]) for entry in found]
    assert pairs == [(name, how) for name in named for how in ("exact", "curve")]
    for entry in found:
        peak, baseline = entry.values["peak_memory_mib"], entry.values["memory_baseline_mib"]
        assert isinstance(peak, float)
        assert isinstance(baseline, float)
        assert peak > baseline > 0
        assert len(entry.figure("end_to_end_ms").samples) == 1
        assert entry.values["max_levels_between_forms"] in (0, 1)
    assert "10x14" in capsys.readouterr().out


@pytest.mark.usefixtures("older_exporter")
def test_memory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(memory, "_in_turns")
    out = tmp_path / "memory.json"
    memory.main(scale=2, sizes="10x14", threads=1, runs=0, out=out)
    assert [entry.figures for entry in records.read_records(out)] == [(), ()]


def test_a_picture_shows_three_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, out = tmp_path / "w.safetensors", tmp_path / "picture.png"
    checkpoints.save_weights(zoo.create("gidrn", 2).state_dict(), weights, metadata={})
    picture.main(scale=2, weights=weights, size=(20, 30), out=out)
    shape = read_image(out).shape
    assert shape == (40 + picture.CAPTION_HEIGHT, 3 * 60 + 2 * picture.MARGIN, 3)
    with pytest.raises(ValueError, match="leaves the photo"):
        picture.main(scale=2, weights=weights, at=(390, 0), size=(20, 30), out=out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": -1}, "--runs"),
        ({"sizes": "10"}, "HEIGHTxWIDTH"),
        ({"model": "gidr"}, "gidrn"),
        ({"engine": "tensorrt"}, "--engine wants some of native, .*not 'tensorrt'"),
    ],
)
def test_bad_arguments_of_the_memory_table(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        memory.main(out=tmp_path / "m.json", **arguments)  # type: ignore[arg-type]


def test_fp16_is_scored_beside_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = zoo.create("gidrn", 4).eval()
    weights = tmp_path / "gidrn_x4.safetensors"
    checkpoints.save_weights(network.state_dict(), weights, metadata={})
    monkeypatch.setattr(zoo, "shipped_weights", lambda name, scale: weights)
    (tmp_path / "Set5").mkdir()
    photos = proof.read_photos()
    for i, photo in enumerate([*photos, photos[0][::-1]]):
        write_image(tmp_path / "Set5" / f"{i}.png", photo[:80, :96])
    out = tmp_path / "fp16.json"
    fp16_quality.main(
        dataset="Set5", accumulation="fp16,fp32", images=2, data_root=tmp_path, out=out
    )
    found = records.read_records(out)
    assert [entry.values["accumulation"] for entry in found] == ["fp32", "fp16"]
    for entry in found:
        full, half = (entry.figure(f"psnr_y_border4_{dtype}_db") for dtype in ("fp32", "fp16"))
        assert full.labels == half.labels == ("0.png", "2.png")
        high = crop_to_multiple(proof.read_photos()[0][:80, :96], 4)
        assert full.samples[0] == quality.score_network(network, high, 4).psnr_db
        assert 0 < abs(half.samples[0] - full.samples[0]) < 0.01
        assert 0 < float(str(entry.values["largest_difference_levels"])) < 1
    assert found[0].figures[2].samples != found[1].figures[2].samples  # in levels
    assert re.search(r"gidrn x4 *[|] *Set5 .2. *[|] *fp16 *[|]", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"accumulation": "bf16"}, "--accumulation is fp32, fp16 or fp32,fp16, not 'bf16'"),
        ({"images": 0}, "--images is at least 1, not 0"),
        ({"models": "imdn"}, "no weights ship for imdn"),
    ],
)
def test_bad_arguments_of_the_fp16_table(
    arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    (tmp_path / "Set5").mkdir()
    for i in range(5):
        write_image(tmp_path / "Set5" / f"{i}.png", proof.read_photos()[0][:40, :40])
    with pytest.raises(ValueError, match=says):
        fp16_quality.main(dataset="Set5", data_root=tmp_path, **arguments)
