"""What ships fits together: weights, the ONNX file made from them, and the model card."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import gidrn
from export import proof, tile_model
from gidrn import checkpoints, recipes, zoo
from gidrn.evaluation import to_tensor
from gidrn.metrics import luma, psnr
from gidrn.resize import crop_to_multiple, downscale, imresize
from gidrn_runtime import Upscaler, models
from gidrn_runtime.models import MODELS_DIR, TILES_SUFFIX


def test_the_runtime_ships_what_is_proved_and_nothing_else() -> None:
    assert sorted(models.shipped()) == sorted(zoo.VARIANTS)
    files = {path.name for path in MODELS_DIR.glob("*.onnx")}
    assert files == {f"{name}{end}" for name in zoo.VARIANTS for end in (".onnx", TILES_SUFFIX)}


@pytest.mark.parametrize("name", sorted(zoo.VARIANTS))
def test_the_runtimes_file_is_made_from_the_shipped_weights(name: str) -> None:
    variant = zoo.VARIANTS[name]
    model = onnx.load(MODELS_DIR / f"{name}.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    remedy = "the runtime's file is of other weights: run `make models`"
    assert said["weights_sha256"] == checkpoints.sha256(variant.path), remedy
    assert (said["model"], said["scale"]) == (variant.network, str(variant.scale))
    assert said["weights"] == "shipped"
    network = gidrn.load(variant.network, variant.scale)
    assert sum(p.numel() for p in network.parameters()) == variant.parameters
    photo = to_tensor(downscale(proof.read_photos()[1], variant.scale))
    with Upscaler(name, engine="ort-cpu", threads=1) as upscale:
        found = proof.compare(network, upscale.run_tensor, [proof.Case("photo", photo)])
    (deviation,) = found.deviations
    assert deviation.levels < 0.05  # FP32 in another order, and the curve's 0.01


@pytest.mark.parametrize("name", sorted(zoo.VARIANTS))
def test_the_tile_file_is_made_from_the_shipped_weights(name: str) -> None:
    variant = zoo.VARIANTS[name]
    path = MODELS_DIR / f"{name}{TILES_SUFFIX}"
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    remedy = "the tile file is of other weights: run `make models`"
    assert said["weights_sha256"] == checkpoints.sha256(variant.path), remedy
    assert float(said["proof_levels"]) <= tile_model.LIMIT_LEVELS
    low = downscale(proof.read_photos()[1], variant.scale)[-40:, -90:]
    with Upscaler(name, "ort-cpu", threads=1) as upscale:
        whole = upscale(low)
    with Upscaler(name, "ort-cpu", threads=1, tiles=(40, 10)) as upscale:
        tiled = upscale(low)
        assert upscale.tiling is not None
        assert (upscale.tiling.form, upscale.tiling.tiles) == ("told", 2)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("name", sorted(zoo.VARIANTS))
def test_the_card_belongs_to_the_weights(name: str) -> None:
    path = zoo.VARIANTS[name].path
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert checkpoints.sha256(path) in card
    metadata = checkpoints.read_metadata(path)
    recipe = recipes.from_dict(json.loads(metadata["recipe"]))
    assert (recipe.network, recipe.scale) == (zoo.VARIANTS[name].network, zoo.VARIANTS[name].scale)


@pytest.mark.parametrize("name", sorted(zoo.VARIANTS))
def test_a_sample_comes_out_better_than_bicubic(name: str) -> None:
    scale = zoo.VARIANTS[name].scale
    for photo in proof.read_photos():
        high = crop_to_multiple(photo, scale)
        low = downscale(high, scale)
        with Upscaler(name, color="rgb", threads=1) as upscale:
            ours = upscale(low)
        bicubic = imresize(low, scale).astype(np.uint8)
        scores = [psnr(luma(image), luma(high), border=scale) for image in (ours, bicubic)]
        assert scores[0] > scores[1] + 0.2
