"""The measurements of tiles, on a network of milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks import records, tile_memory, tiles
from export import proof, tile_model, to_onnx
from export.rewrites.tiles import TileNetwork
from export.to_onnx import Labels
from gidrn import zoo
from gidrn.images import write_image
from gidrn.networks.gidrn import GIDRNConfig
from gidrn_runtime.tiles import Span, spans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain file and its tile file."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1)
    network = zoo.create("gidrn", 2, config=config).eval()
    labels = Labels("gidrn", 2, "tests", "1" * 64, "global")
    on = proof.cases(proof.read_photos(), 2)[:1]
    changed, _ = to_onnx.rewritten(network, "exact", on)
    plain = to_onnx.to_model(changed, 2, opset=17)
    to_onnx.label(plain, labels, "exact", None)
    onnx.save(plain, folder / "gidrn_x2.onnx")
    told = TileNetwork(to_onnx.rewritten(network, "exact", on)[0], 2).eval()
    model = tile_model.to_model(told, 2)
    to_onnx.label(model, labels, "exact", None, more=tile_model.metadata(told))
    onnx.save(model, folder / "gidrn_x2_tiles.onnx")
    return folder


def test_deviations_and_cost_are_measured(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.png"
    write_image(photo, np.ascontiguousarray(proof.read_photos()[0][:81, :101]))
    monkeypatch.setattr("gidrn.benchmark_sets.find_images", lambda *_: [photo])
    out = tmp_path / "tiles.json"
    tiles.main(
        *("gidrn", "2", "B100", 1, False, "12", "0,6", "0,2", 1),
        folder=folder,
        data_root=tmp_path,
        out=out,
    )
    found = records.read_records(out)
    manners = [(r.values["form"], r.values["halo"], r.values["blend"]) for r in found[:5]]
    assert manners == [
        ("plain", 0, "crop"),
        ("plain", 6, "crop"),
        ("plain", 6, "ramp"),
        ("told", 6, "crop"),
        ("told", 6, "crop"),
    ]
    most = [float(str(r.values["most_levels"])) for r in found[:5]]
    assert most[0] > 1  # seams
    assert most[4] < 0.01  # as many rounds as statistics
    assert isinstance(found[0].values["largest_truth_change_db"], float)
    assert float(str(found[5].values["ratio_p50"])) > 0
    assert "told, halo 6, 2 rounds" in capsys.readouterr().out


def test_ramps_sum_to_one_and_end_at_inner_borders() -> None:
    found = tiles.ramps(spans(40, 8, 4), 40)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    assert found[0, 0] == 1
    first: Span = spans(40, 8, 4)[0]
    assert 0 < found[0, first.window.stop - 1] < 0.2
    assert found[0, first.window.stop] == 0


def test_memory_is_measured_whole_and_in_tiles(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "memory.json"
    tile_memory.main(sizes="200x300", folder=folder, out=out)
    tile_memory.main(sizes="200x300", side="40x40", rounds=0, folder=folder, out=out)
    whole, tiled = records.read_records(out)
    assert (whole.values["tiles"], tiled.values["tiles"]) == ("never", "40x40")
    assert float(str(tiled.values["taken_mib"])) < float(str(whole.values["taken_mib"]))
    assert "200x300" in capsys.readouterr().out
