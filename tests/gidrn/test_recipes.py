"""Recipes are what the paper says, and learning rates follow their paths."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gidrn import recipes
from gidrn.recipes import Recipe, learning_rate_at


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
        ({"scale": 8}, "scale"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"log_every": 0}, "log_every"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"warmup_steps": 9, "steps": 9}, "warmup_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_unknown_names_and_fields_are_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'quick_x4'"):
        recipes.find("quick4")
    with pytest.raises(ValueError, match="speed"):
        recipes.from_dict({**dataclasses.asdict(Recipe()), "speed": 1})
