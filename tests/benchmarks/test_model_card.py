"""Model cards say what records, ledger and weights say, and refuse what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import model_card, records
from gidrn import zoo

X4 = zoo.VARIANTS["gidrn_x4"]


def test_the_cards_are_those_that_the_command_writes() -> None:
    model_card.main(check=True)


def test_a_stale_card_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / X4.path.name
    weights.write_bytes(X4.path.read_bytes())
    variant = dataclasses.replace(X4, path=weights)
    monkeypatch.setattr(zoo, "VARIANTS", {"gidrn_x4": variant})
    model_card.main()
    written = weights.with_suffix(".md")
    assert written.read_text(encoding="utf-8") == X4.path.with_suffix(".md").read_text("utf-8")
    written.write_text("# Better than ever\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"stale: gidrn_x4\.md"):
        model_card.main(check=True)
    assert written.read_text(encoding="utf-8") == "# Better than ever\n"


def test_only_the_runs_behind_the_weights_count() -> None:
    ledger = model_card.read_ledger()
    side_road = dataclasses.replace(ledger[-1], scale=2, started_from=1, steps=500, of_steps=None)
    recipe = dataclasses.replace(
        model_card.recipe_of(X4), scale=2, steps=500, learning_rate=side_road.learning_rate
    )
    variant = zoo.VARIANTS["gidrn_x2"]
    assert model_card.lineage(variant, recipe, [*ledger, side_road]) == [1, len(ledger) + 1]


def test_weights_without_their_run_are_refused() -> None:
    ledger = model_card.read_ledger()
    own = max(number for number, run in enumerate(ledger) if run.scale == 4)
    ledger[own] = dataclasses.replace(ledger[own], learning_rate=1.0)
    with pytest.raises(ValueError, match=r"the last of x4, has steps, .*: add its run"):
        model_card.card(X4, records.read_records(model_card.QUALITY), ledger)
    with pytest.raises(ValueError, match="has no run of x4"):
        model_card.card(X4, records.read_records(model_card.QUALITY), [])


def test_where_bicubic_is_better_the_card_says_so() -> None:
    quality = records.read_records(model_card.QUALITY)
    swapped = [
        dataclasses.replace(
            record,
            what=dataclasses.replace(
                record.what,
                model={"gidrn": "bicubic", "bicubic": "gidrn"}[record.what.model],
            ),
        )
        for record in quality
    ]
    words = model_card.beside_bicubic(X4, swapped)
    assert "but for Set5's baby and Set5's bird" in words
    assert "(-" in words


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"from": None, "scale": 4}, "run 1 is not whole"),
        ({"scale": 4}, "run 1 is not whole: 'from'"),
        ({"from": 1}, "run 1 is not whole"),
    ],
)
def test_a_ledger_that_is_not_whole(tmp_path: Path, entry: object, words: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=words):
        model_card.read_ledger(path)


def test_a_run_starts_from_one_before_it(tmp_path: Path) -> None:
    entries = json.loads(model_card.LEDGER.read_text(encoding="utf-8"))
    entries[2]["from"] = 3
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="run 3 starts from run 3, which is not before it"):
        model_card.read_ledger(path)
