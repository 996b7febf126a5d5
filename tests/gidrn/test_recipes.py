"""Recipes are what the paper says, and learning rates follow their paths."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import published
from gidrn import checkpoints, recipes, runs, zoo
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.rfdn import RFDN, RFDNConfig
from gidrn.recipes import ABLATIONS, Recipe, learning_rate_at

TABLE_1 = {  # parameters without the shortcut's scalars, scalars
    "table1_rfdb": (534_036, 0),
    "table1_rfdb_dp": (514_164, 0),
    "table1_rfdb_ds": (520_164, 12),
    "table1_rfdb_anrb": (534_279, 0),
    "table1_rfdb_dp_anrb": (514_407, 0),
    "table1_rfdb_dp_ds_anrb": (500_535, 12),
    "table1_gidb": (449_400, 0),
    "table1_gidb_dp_ds_anrb": (372_771, 12),  # the paper prints 383.2 K: see gidrn.networks.rfdn
}

SMALL = Recipe(
    "rfdn",
    2,
    config={"channels": 8, "blocks": 2, "anrb": True, "pool_sizes": (1, 2)},
    steps=2,
    batch=1,
    patch=8,
)


def test_the_papers_recipe_is_section_3_2() -> None:
    recipe = recipes.find("paper_x4")
    assert (recipe.batch, recipe.patch, recipe.steps) == (32, 64, 1_000 * 1_000)
    assert (recipe.adam_betas, recipe.adam_epsilon) == ((0.9, 0.999), 1e-8)
    assert (recipe.alpha, recipe.beta) == (0.4, 0.6)
    rates = [learning_rate_at(recipe, step) for step in (0, 199_999, 200_000, 999_999)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 5e-4 / 16]


def test_a_cosine_rises_falls_and_ends_where_it_says() -> None:
    recipe = Recipe(
        steps=101, schedule="cosine", learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10
    )
    rates = [learning_rate_at(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_recipe_survives_json(name: str) -> None:
    recipe = recipes.find(name)
    text = json.dumps(dataclasses.asdict(recipe), allow_nan=False)
    assert recipes.from_dict(json.loads(text)) == recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "gidn"}, "did you mean 'gidrn'"),
        ({"network": "bicubic"}, "bicubic is not trained here: it has no weights"),
        ({"network": "smsr"}, "smsr is not trained here: its masks"),
        ({"scale": 8}, "scale"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"log_every": 0}, "log_every"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"warmup_steps": 9, "steps": 9}, "warmup_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"schedule": "linear"}, "schedule is halve or cosine, not 'linear'"),
        ({"autocast": "fp16"}, "autocast is none or bf16, not 'fp16'"),
        ({"clip_gradient_norm": 0.0}, "clip_gradient_norm is above 0"),
        ({"network": "rfdn", "config": {"dualpath": True}}, "did you mean 'dual_path'"),
        ({"network": "rfdn", "config": {"channels": 7}}, "channels is an even number"),
        ({"network": "rfdn", "config": {"anrb": "no"}}, "anrb of rfdn is of the kind bool"),
        ({"network": "rfdn", "config": {"channels": True}}, "channels of rfdn is of the kind int"),
        ({"config": {"pool_sizes": "1 3"}}, "gidrn cannot be configured with"),
        ({"config": {"pool_sizes": [[1], [3]]}}, "gidrn cannot be configured with"),
        ({"config": {"pool_sizes": [0]}}, "pool_sizes are positive"),
        ({"network": "imdn", "config": {"anrb": True}}, "no field of imdn's configuration"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_a_recipe_without_a_configuration_has_its_networks_own() -> None:
    saved = dataclasses.asdict(recipes.find("paper_x4"))
    del saved["config"]  # as they were saved before there was one
    recipe = recipes.from_dict(saved)
    assert recipe == recipes.find("paper_x4")
    assert recipe.network_config == zoo.find("gidrn").config


def test_a_configuration_is_kept_as_json_holds_it() -> None:
    given: dict[str, Any] = {"pool_sizes": (1, 2)}
    recipe = Recipe(config=given)
    given["pool_sizes"] = (9,)
    assert recipe.config == {"pool_sizes": [1, 2]}
    assert recipe.network_config == GIDRNConfig(pool_sizes=(1, 2))
    assert recipe == Recipe(config={"pool_sizes": [1, 2]})
    assert hash(recipe) == hash(Recipe(config={"pool_sizes": [1, 2]}))
    assert recipe != Recipe()


def test_a_run_trains_and_keeps_the_network_of_its_configuration(tmp_path: Path) -> None:
    run = runs.begin(SMALL, "cpu")
    small = RFDN(2, RFDNConfig(channels=8, blocks=2, anrb=True, pool_sizes=(1, 2)))
    shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    for network in (run.network, run.average):
        assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes
    runs.save(run, tmp_path / "last.pt")
    resumed = runs.resume(tmp_path / "last.pt", "cpu")
    assert resumed.recipe == SMALL
    for ours, theirs in zip(run.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    runs.save_best(run, tmp_path / "best.safetensors")
    metadata = checkpoints.read_metadata(tmp_path / "best.safetensors")
    assert recipes.from_dict(json.loads(metadata["recipe"])) == SMALL


@pytest.mark.parametrize("name", sorted(TABLE_1))
def test_table_1s_recipes_have_its_networks(name: str) -> None:
    recipe = recipes.find(name)
    with torch.device("meta"):
        network = zoo.create(recipe.network, recipe.scale, config=recipe.network_config)
    assert sum(p.numel() for p in network.parameters()) == sum(TABLE_1[name])


def test_ablations_are_the_papers_rows() -> None:
    assert set(ABLATIONS[1]) == set(TABLE_1)
    for (name, recipe), row1 in zip(ABLATIONS[1].items(), published.table1(), strict=True):
        config = recipe.network_config
        switched = (config.channels, config.dual_path, config.dense_shortcut, config.anrb)
        assert switched == (row1.channels, row1.dual_path, row1.dense_shortcut, row1.anrb)
        assert config.block == row1.block.lower().replace("-", "")
        if name != "table1_gidb_dp_ds_anrb":
            assert f"{TABLE_1[name][0] / 1000:.1f}" == f"{row1.params_k:.1f}"
    for (name, recipe), row2 in zip(ABLATIONS[2].items(), published.table2(), strict=True):
        config = recipe.network_config
        assert config.anrb == (row2.samples != "none")
        assert dataclasses.replace(config, anrb=False, pool_sizes=()) == RFDNConfig(pool_sizes=())
        if config.anrb:
            assert config.pool_sizes == row2.pool_sizes
            assert name.endswith(row2.samples)
    for (name, recipe), row3 in zip(ABLATIONS[3].items(), published.table3(), strict=True):
        assert (recipe.alpha, recipe.beta) == (row3.alpha, row3.beta)
        assert name.endswith(str(row3.alpha))
        assert (recipe.network, recipe.config) == ("gidrn", {})


def test_rows_of_a_table_differ_in_nothing_else() -> None:
    varied = {"network": "gidrn", "config": {}, "alpha": 1.0, "beta": 0.0}
    rows = [recipe for table in ABLATIONS.values() for recipe in table.values()]
    assert len({dataclasses.replace(recipe, **varied) for recipe in rows}) == 1  # type: ignore[arg-type]
    assert {recipe.scale for recipe in rows} == {2}
    assert all(recipe in recipes.RECIPES.values() for recipe in rows)


def test_unknown_names_and_fields_are_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'quick_x4'"):
        recipes.find("quick4")
    with pytest.raises(ValueError, match="speed"):
        recipes.from_dict({**dataclasses.asdict(Recipe()), "speed": 1})


def test_a_shorter_run_halves_its_learning_rate_as_often() -> None:
    short = recipes.with_steps(recipes.find("paper_x4"), 1_000)
    rates = [recipes.learning_rate_at(short, step) for step in (0, 199, 200, 999)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 5e-4 / 16]
