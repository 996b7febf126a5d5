"""Tile files against the whole frame: attentions exaggerated, so that no wrong statistic hides."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export import proof, tile_model, to_onnx
from export.exaggeration import exaggerate, exaggerate_contrast
from export.rewrites import RefusedError
from export.rewrites.attention import ExportedANRB
from export.rewrites.tiles import Run, TileNetwork, ToldANRB
from export.to_onnx import Labels
from gidrn import zoo
from gidrn.evaluation import to_tensor
from gidrn.networks.gidrn import GIDRN, GIDRNConfig
from gidrn_runtime import ModelError, Upscaler, tiles
from gidrn_runtime.frames import upscale_image
from tests.small_networks import SMALL

LABELS = Labels("gidrn", 2, "tests", "1" * 64, "global")
TINY = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def loud(config: GIDRNConfig) -> nn.Module:
    torch.manual_seed(0)
    images = torch.cat([to_tensor(photo[:40, :60].copy()) for photo in proof.read_photos()])
    network = zoo.create("gidrn", 2, config=config).eval()
    return exaggerate(exaggerate_contrast(network, images), [image[None] for image in images])


@dataclass(frozen=True)
class Pair:
    """A network, its plain file and the tile file beside it."""

    network: nn.Module
    plain: Path
    tiles: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Five statistics, the last of them an ANRB's points."""
    folder = tmp_path_factory.mktemp("pair")
    network = loud(SMALL["gidrn"])
    on = proof.cases(proof.read_photos(), 2)[:1]
    made = Pair(network, folder / "loud.onnx", folder / "loud_tiles.onnx")
    changed, curve = to_onnx.rewritten(network, "exact", on)
    plain = to_onnx.to_model(changed, 2, opset=17)  # by the quicker of PyTorch's exporters
    to_onnx.label(plain, LABELS, "exact", curve)
    onnx.save(plain, made.plain)
    changed, curve = to_onnx.rewritten(network, "exact", on)
    tile_network = TileNetwork(changed, 2).eval()
    model = tile_model.to_model(tile_network, 2)
    to_onnx.label(model, LABELS, "exact", curve, more=tile_model.metadata(tile_network))
    onnx.save(model, made.tiles)
    return made


@pytest.fixture
def photo() -> np.ndarray:
    """uint8 BGR (63, 90, 3), of odd and even side."""
    return np.ascontiguousarray(proof.read_photos()[2][-63:, -90:, ::-1])


def levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())


def test_every_case_of_the_proof_is_exact(pair: Pair) -> None:
    on = tile_model.cases(proof.read_photos(), reach=18)
    found = tile_model.compare(pair.network, pair.tiles, on, title="test")
    assert max(one.tiles for one in found) >= 6
    for one in found:
        assert one.levels < 0.01, one  # FP32 in another order; a level is 1


def test_halos_that_count_twice_are_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it(span: tiles.Span) -> np.ndarray:
        length = span.window.stop - span.window.start
        return np.full(length, 1 / length, np.float32)

    monkeypatch.setattr(tiles, "_core_weights", all_of_it)
    on = tile_model.cases(proof.read_photos(), reach=18)[:1]
    found = tile_model.compare(pair.network, pair.tiles, on, title="test")
    with pytest.raises(proof.NotProvedError, match=r"photo of 57x82 .* levels, and 0\.1 is"):
        tile_model.require(found, title="test")


def test_pooling_of_tiles_alone_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def last_tile(self: tiles.Points, part: np.ndarray, *_: np.ndarray) -> None:
        self._sums, self._covered = part.astype(np.float64), np.ones(part.shape[1])

    monkeypatch.setattr(tiles.Points, "add", last_tile)
    on = tile_model.cases(proof.read_photos(), reach=18)[:1]
    found = tile_model.compare(pair.network, pair.tiles, on, title="test")
    with pytest.raises(proof.NotProvedError):
        tile_model.require(found, title="test")


def test_frames_on_which_the_network_is_lost_prove_nothing(pair: Pair) -> None:
    lost = copy.deepcopy(pair.network)
    assert isinstance(lost, GIDRN)
    with torch.no_grad():
        lost.fine.conv.weight.mul_(1e7)  # FP32 then errs by more than a level
    on = tile_model.cases(proof.read_photos(), reach=18)[:3]
    found = tile_model.compare(lost, pair.tiles, on, title="test")
    assert [one.diverged for one in found] == [True] * 3
    with pytest.raises(proof.NotProvedError, match="itself diverges on 3 of 3 frames"):
        tile_model.require(found, title="test")
    assert "the network diverges" in tile_model.in_words(found, found)
    kept = tile_model.compare(pair.network, pair.tiles, on, title="test")
    tile_model.require([*kept, found[0]], title="test")


def test_each_round_makes_one_more_statistic_exact(
    pair: Pair, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the last of them is exact whatever the first were."""
    monkeypatch.setattr(tiles, "SAMPLE_SIDE", 4)  # else a frame so small is its own sample
    whole = Upscaler(pair.plain, "ort-cpu", threads=1)(photo)
    off = []
    for rounds in (0, 2, 5):
        with Upscaler(
            pair.plain, "ort-cpu", threads=1, tiles=(20, 25), tile_rounds=rounds
        ) as upscale:
            off.append(levels(upscale(photo), whole))
            way = upscale.tiling
        assert way is not None
        assert (way.form, way.tiles, way.rounds, way.halved) == ("told", 6, rounds, 0)
    assert off[0] > 2  # so that the others mean something
    assert off[1] < off[0]
    assert off[2] == 0


def test_plain_tiles_are_only_made_where_they_are_asked_for(
    pair: Pair, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(pair.plain.read_bytes())
    monkeypatch.setattr("gidrn_runtime.models.MODELS_DIR", tmp_path)
    with pytest.raises(ValueError, match=r"no tile file alone_tiles\.onnx .*up to 9 levels"):
        Upscaler(alone, tiles=(20, 25))
    monkeypatch.setattr("gidrn_runtime.memory.bytes_per_pixel", lambda *_, tile: 2_000)
    with (
        Upscaler(alone, threads=1, memory_mib=68) as upscale,
        pytest.raises(MemoryError, match=r"63x90 would take about 74 MiB, and 67 .*tile file"),
    ):
        upscale(photo)
    with Upscaler(alone, threads=1) as upscale:
        whole = upscale(photo)
    with Upscaler(alone, threads=1, tiles="plain", memory_mib=74) as upscale:
        monkeypatch.setattr("gidrn_runtime.tiling.PLAIN_HALO", 2)
        monkeypatch.setattr("gidrn_runtime.memory.bytes_per_pixel", lambda *_, tile: 2_500)
        tiled = upscale(photo)
        assert upscale.describe()["tiles"]["latest"]["form"] == "plain"  # type: ignore[index]
    assert levels(tiled, whole) > 2


@pytest.mark.parametrize("kind", ["colour", "16 bit", "gray", "alpha"])
def test_every_kind_of_image_goes_through_tiles(pair: Pair, photo: np.ndarray, kind: str) -> None:
    image = {
        "colour": photo,
        "16 bit": photo.astype(np.uint16) * 257,
        "gray": photo[..., 1],
        "alpha": np.dstack([photo, photo[..., 1]]),
    }[kind]
    with Upscaler(pair.plain, "ort-cpu", threads=1) as upscale:
        whole = upscale_image(upscale, image)
    with Upscaler(pair.plain, "ort-cpu", threads=1, tiles=(64, 30), tile_rounds=9) as upscale:
        tiled = upscale_image(upscale, image)
        assert upscale.tiling is not None
        assert (upscale.tiling.tiles, upscale.tiling.rounds) == (2, 5)
    assert tiled.dtype == whole.dtype
    assert levels(tiled, whole) <= (1 if image.dtype == np.uint8 else 3)  # of 65,535


def test_an_engine_without_tile_files_is_not_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gidrn_runtime.engines.ort_cpu.OrtCpu.tile_engine", None)
    with pytest.raises(ValueError, match=r"ort-cpu runs no tile files, .* tiles='plain' accepts"):
        Upscaler(pair.plain, "ort-cpu", threads=1, tiles=(20, 20))


def test_a_batch_is_tiled_frame_by_frame(pair: Pair, photo: np.ndarray) -> None:
    frames = [photo, 255 - photo]
    with Upscaler(pair.plain, "ort-cpu", threads=1) as upscale:
        whole = upscale.batch(frames)
    with Upscaler(pair.plain, "ort-cpu", threads=1, tiles=(64, 30), tile_rounds=5) as upscale:
        for tiled, wanted in zip(upscale.batch(frames), whole, strict=True):
            assert levels(tiled, wanted) <= 1


def test_a_tile_file_of_other_weights_is_refused(pair: Pair, tmp_path: Path) -> None:
    plain = tmp_path / "other.onnx"
    plain.write_bytes(pair.plain.read_bytes())
    model = onnx.load(pair.tiles)
    next(e for e in model.metadata_props if e.key == "weights_sha256").value = "2" * 64
    onnx.save(model, tmp_path / "other_tiles.onnx")
    with pytest.raises(ModelError, match=r"not of the weights of .*other\.onnx.* --tiles"):
        Upscaler(plain, tiles=(20, 20))
    (tmp_path / "other_tiles.onnx").write_bytes(pair.plain.read_bytes())
    with pytest.raises(ModelError, match="no tile file of format"):
        Upscaler(plain, tiles=(20, 20))


def test_a_tile_file_is_no_model(pair: Pair) -> None:
    with pytest.raises(ModelError, match="holds the tiles of a model"):
        Upscaler(pair.tiles)


def test_a_frame_that_needs_no_tiles_is_whole(pair: Pair, photo: np.ndarray) -> None:
    with Upscaler(pair.plain, "ort-cpu", threads=1) as upscale:
        upscale(photo)
        assert upscale.tiling is not None
        assert upscale.tiling.form == "whole"


def test_the_tool_proves_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = zoo.create("gidrn", 2, config=TINY)
    labels = replace(LABELS, weights="random")
    monkeypatch.setattr(to_onnx, "open_network", lambda *_: (network, labels))
    path = tmp_path / "tiny_tiles.onnx"
    assert to_onnx.main(tiles=True, out=path) == 0
    printed = capsys.readouterr().out
    assert "halo 6 pixels" in printed
    assert "half black, half white" in printed
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (said["format"], said["reach"], said["pool_sizes"]) == (
        "gidrn-tiles/1",
        "6",
        "[1, 3, 6, 8]",
    )
    assert float(said["proof_levels"]) < 0.05

    before = path.read_bytes()

    at_hand = ToldANRB.at_hand

    def swapped(self: ToldANRB) -> tuple[Run, Tensor]:
        run, points = at_hand(self)
        return run, points.flip(1)  # values for keys, keys for values

    with monkeypatch.context() as patched:
        patched.setattr(ToldANRB, "at_hand", swapped)
        with pytest.raises(proof.NotProvedError, match="no file was written"):
            to_onnx.export_tiles(network, path, labels)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rcan", "no contrast attention and no ANRB"), ("carn", "makes tiles of the plain file")],
)
def test_networks_that_cannot_be_told_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    network = zoo.create(name, 2, config=SMALL[name])
    with pytest.raises(RefusedError, match=reason):
        to_onnx.export_tiles(network, tmp_path / "no.onnx", replace(LABELS, model=name))
    assert not list(tmp_path.iterdir())


def test_a_part_that_still_looks_at_the_whole_image_is_found() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=(2, 3), keepdim=True)

    network = zoo.create("gidrn", 2, config=TINY).eval()
    network.deep = nn.Sequential(network.deep, Mean())  # type: ignore[arg-type]
    changed, _ = to_onnx.rewritten(network, "exact", proof.cases(proof.read_photos(), 2)[:1])
    with pytest.raises(RefusedError, match="still looks further than 128 pixels"):
        TileNetwork(changed, 2)


def test_an_attention_without_pooling_is_refused() -> None:
    config = replace(TINY, pool_sizes=())
    network = zoo.create("gidrn", 2, config=config).eval()
    changed, _ = to_onnx.rewritten(network, "exact", proof.cases(proof.read_photos(), 2)[:1])
    assert any(isinstance(part, ExportedANRB) for part in changed.modules())
    with pytest.raises(RefusedError, match="every pixel"):
        TileNetwork(changed, 2)


def test_the_halo_is_as_wide_as_the_network_reaches() -> None:
    network = zoo.load("gidrn", 2).eval()
    changed, _ = to_onnx.rewritten(network, "exact", proof.cases(proof.read_photos(), 2)[:1])
    found = TileNetwork(changed, 2)
    # A 3x3 convolution at either end, and four in each of the nine blocks.
    assert found.reach == 1 + 9 * 4 + 1
    contrasts = [one.reach for one in found.statistics if one.kind == "contrast"]
    assert contrasts == [1 + 4 * (i + 1) for i in range(9)]
    assert (found.statistics[-1].kind, found.statistics[-1].reach) == ("points", 37)
