"""The export comparison, the memory table and the picture, on networks of milliseconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks import export_comparison, exported_models, memory, picture, records
from gidrn import checkpoints, zoo
from gidrn.images import read_image
from gidrn.networks.gidrn import GIDRNConfig


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """G-IDRN with 16 channels, one block and no shipped weights; a cache of its own."""
    entry = zoo.NETWORKS["gidrn"]
    config = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1, pool_sizes=(1, 3))
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", dataclasses.replace(entry, config=config))
    monkeypatch.setattr(zoo, "VARIANTS", {})
    monkeypatch.setattr(exported_models, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)


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


def test_both_attentions_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "memory.json"
    memory.main(scale=2, sizes="10x14", threads=1, runs=1, out=out)
    found = records.read_records(out)
    assert [entry.values["attention"] for entry in found] == ["exact", "curve"]
    for entry in found:
        peak, baseline = entry.values["peak_memory_mib"], entry.values["memory_baseline_mib"]
        assert isinstance(peak, float)
        assert isinstance(baseline, float)
        assert peak > baseline > 0
    assert "10x14" in capsys.readouterr().out


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
    [({"runs": 0}, "--runs"), ({"sizes": "10"}, "HEIGHTxWIDTH"), ({"model": "gidr"}, "gidrn")],
)
def test_bad_arguments_of_the_memory_table(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        memory.main(out=tmp_path / "m.json", **arguments)  # type: ignore[arg-type]
