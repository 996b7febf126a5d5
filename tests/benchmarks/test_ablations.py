"""Ablations: the same crops for all rows, runs that are kept and gone on with, and directions."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import ablations, published, quality, records
from benchmarks.ablations import HELD_OUT, Plan
from benchmarks.records import Figure, Record
from gidrn import command_line, photos, recipes, runs, zoo
from gidrn.crops import CropStore
from gidrn.evaluation import mean_psnr, to_tensor
from gidrn.images import write_image
from gidrn.networks.anrb import ANRB
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.rfdn import RFDNConfig
from gidrn.resize import imresize

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"steps": 2, "batch": 1, "patch": 8, "held_out": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of milliseconds, and small photos that may be held out."""
    configs = {
        "gidrn": GIDRNConfig(channels=8, groups_of_blocks=1, blocks_per_group=1),
        "rfdn": RFDNConfig(channels=8, blocks=2),
    }
    for name, config in configs.items():
        line = dataclasses.replace(zoo.NETWORKS[name], config=config)
        monkeypatch.setitem(zoo.NETWORKS, name, line)
    monkeypatch.setattr(photos, "HELD_OUT_SIDE", 32)
    for variable in ("GIDRN_DATA", "GIDRN_TRACEBACK"):
        monkeypatch.delenv(variable, raising=False)


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth and colourful."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    fine = np.asarray(imresize(imresize(coarse, 4), 3), dtype=np.uint8)
    return fine[:height, :width]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of three photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        write_image(folder / f"{seed}.png", picture(48, 60, seed))
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A data root whose Set5 is five pictures of odd sizes, one of them gray."""
    root = tmp_path / "sets"
    (root / "Set5").mkdir(parents=True)
    for seed in range(5):
        image = picture(41, 50 + seed, seed + 10)
        write_image(root / "Set5" / f"{seed}.png", image if seed else image[:, :, 0])
    return root


def command(table: Literal[1, 2, 3], data: Path, out: Path, **changed: Any) -> None:
    ablations.main(table=table, data=(data,), out=out, **{**SETTINGS, **changed})


def plan_of(table: int, data: Path, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    budget: dict[str, Any] = {**SETTINGS, "autocast": None, "compiled": False}
    return ablations.make_plan(table, [data], {}, seeds=seeds, **budget)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_command_trains_every_row_and_prints_the_paper_beside(
    data: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    command(3, data, out, data_root=sets)
    found = records.read_records(out)
    rows = list(recipes.ABLATIONS[3])
    assert [(entry.values["row"], entry.values["seed"]) for entry in found] == [
        (row, seed) for seed in (0, 1) for row in rows
    ]
    (apart,) = plan_of(3, data).sets[HELD_OUT]
    for entry in found:
        assert entry.figure("held_out_psnr_y_border2_db").labels == (apart.name,)
        assert entry.figure("Set5_psnr_y_border2_db").labels == tuple(f"{i}.png" for i in range(5))
        recipe = recipes.from_dict(json.loads(str(entry.values["recipe"])))
        assert (recipe.steps, recipe.batch, recipe.patch, recipe.seed) == (
            *(2, 1, 8),
            entry.values["seed"],
        )
    assert found[3].published["Table 3 psnr_db Urban100"] == 31.878
    scores = {ablations.mean_score(entry, "Set5") for entry in found}
    assert len(scores) == len(found)  # no row is another's double
    text = capsys.readouterr().out
    assert text.startswith(
        "### Table 3, x2: 2 steps of 1 crops of 8x8 from 2 photos, 1 more held out, seeds 0, 1; "
    )
    assert "Read the direction, not the decimals" in text
    lines = [line for line in text.splitlines() if line.startswith("| table3_alpha_0.4")]
    assert len(lines) == 2  # of the photos held out, and of Set5
    row = cells(lines[1])
    both = [ablations.mean_score(found[i], "Set5") for i in (3, 8)]
    first = [ablations.mean_score(found[i], "Set5") for i in (0, 5)]
    assert row[1:5] == [
        *(f"{score:.3f}" for score in both),
        f"{sum(both) / 2:.3f}",
        f"{(sum(both) - sum(first)) / 2:+.3f}",
    ]
    signs = {b > f for b, f in zip(both, first, strict=True)}
    assert row[5] == ("undecided" if len(signs) == 2 else "agrees" if True in signs else "opposite")
    assert row[6:] == ["37.975", "+0.068"]


def test_a_broken_off_command_goes_on_to_the_same_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    command(2, data, whole)
    measure = ablations.measure
    taken: list[tuple[str, int]] = []

    def until_the_third(plan: Plan, row: str, seed: int) -> Record:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append((row, seed))
        return measure(plan, row, seed)

    monkeypatch.setattr(ablations, "measure", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        command(2, data, parts)
    kept = records.read_records(parts)
    assert [(entry.values["row"], entry.values["seed"]) for entry in kept] == taken
    monkeypatch.setattr(ablations, "measure", measure)
    command(2, data, parts)
    found = records.read_records(parts)
    assert found[:3] == kept
    assert [entry.figures for entry in found] == [
        entry.figures for entry in records.read_records(whole)
    ]
    monkeypatch.setattr(ablations, "measure", None)  # nothing is missing, so nothing is trained
    command(2, data, parts)
    command(2, data, parts, seeds="1")
    assert records.read_records(parts) == found


OTHER_SETTINGS = [
    ({"steps": 3}, "holds runs with steps 2, and those asked for have steps 3"),
    ({"patch": 9, "batch": 2}, "batch 1, patch 8, and those asked for have batch 2, patch 9"),
    ({"autocast": "bf16"}, "autocast none"),
    ({"held_out": 2}, "photos 2, photos_sha256"),
    ({"data_root": "sets"}, "have photos_sha256 .*, scored_on held out,Set5"),
]


@pytest.mark.parametrize(("changed", "message"), OTHER_SETTINGS)
def test_runs_made_another_way_are_refused(
    data: Path, sets: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    out = tmp_path / "a.json"
    plan = plan_of(3, data)
    records.write_records(out, [ablations.measure(plan, "table3_alpha_0.4", 0)])
    before = out.read_bytes()
    changed = {key: sets if key == "data_root" else value for key, value in changed.items()}
    with pytest.raises(ValueError, match=message) as caught:
        command(3, data, out, **changed)
    assert "or another --out" in str(caught.value)
    assert out.read_bytes() == before


def test_a_recipe_that_has_changed_and_another_table_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.json"
    records.write_records(out, [ablations.measure(plan_of(3, data), "table3_alpha_0.4", 0)])
    assert list(ablations.finished(plan_of(3, data), out)) == [("table3_alpha_0.4", 0)]
    with pytest.raises(ValueError, match="table 3, and those asked for have table 2"):
        command(2, data, out)
    row = recipes.ABLATIONS[3]["table3_alpha_0.4"]
    monkeypatch.setitem(
        recipes.ABLATIONS[3], "table3_alpha_0.4", dataclasses.replace(row, learning_rate=1.0)
    )
    with pytest.raises(ValueError, match=r"a run of table3_alpha_0\.4 by another recipe"):
        command(3, data, out)


def test_all_rows_of_a_seed_see_the_same_crops(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    draw = CropStore.draw

    def kept(self: CropStore, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        low, high = draw(self, *arguments, **options)
        drawn.append(low)
        return low, high

    monkeypatch.setattr(CropStore, "draw", kept)
    plan = plan_of(1, data)
    crops = {}
    for row, seed in [("table1_rfdb", 0), ("table1_rfdb_dp_ds_anrb", 0), ("table1_rfdb", 1)]:
        drawn.clear()
        run = ablations.trained(plan.recipe(row, seed), plan.store, compiled=False, name=row)
        assert run.step == len(drawn) == 2
        crops[row, seed] = torch.stack(drawn)
    first, other, next_seed = crops.values()
    assert torch.equal(first, other)
    assert not torch.equal(first, next_seed)


def test_the_averaged_weights_are_scored(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, scored = plan_of(3, data), []
    finished: list[runs.Run] = []
    trained = ablations.trained

    def keep_run(*arguments: Any, **options: Any) -> runs.Run:
        finished.append(trained(*arguments, **options))
        return finished[-1]

    def keep_network(network: nn.Module, *arguments: Any, **options: Any) -> float:
        scored.append(network)
        return mean_psnr(network, *arguments, **options)

    monkeypatch.setattr(ablations, "trained", keep_run)
    monkeypatch.setattr(ablations, "mean_psnr", keep_network)
    ablations.measure(plan, "table3_alpha_0.4", 0)
    assert scored == [finished[0].average]


def test_a_run_that_diverges_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = recipes.ABLATIONS[3]["table3_alpha_0.4"]
    broken = dataclasses.replace(row, learning_rate=1e30, clip_gradient_norm=None, warmup_steps=0)
    monkeypatch.setitem(recipes.ABLATIONS[3], "table3_alpha_0.4", broken)
    with pytest.raises(runs.DivergedError, match=r"table3_alpha_0\.4, seed 1: the loss is"):
        ablations.measure(plan_of(3, data), "table3_alpha_0.4", 1)


def test_a_run_that_diverges_does_not_end_the_others(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a.json"
    measure = ablations.measure

    def but_one(plan: Plan, row: str, seed: int) -> Record:
        if (row, seed) == ("table3_alpha_0.6", 0):
            raise runs.DivergedError("the loss is nan at step 1")
        return measure(plan, row, seed)

    monkeypatch.setattr(ablations, "measure", but_one)
    with pytest.raises(ValueError, match=r"1 of 10 runs .*table3_alpha_0\.6, seed 0"):
        command(3, data, out)
    pairs = [(row, seed) for seed in (0, 1) for row in recipes.ABLATIONS[3]]
    pairs.remove(("table3_alpha_0.6", 0))
    found = records.read_records(out)
    assert [(entry.values["row"], entry.values["seed"]) for entry in found] == pairs
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "_0.6" in one]
    assert cells(line)[1] == "none"
    assert cells(line)[2] == f"{ablations.mean_score(found[6], HELD_OUT):.3f}"
    monkeypatch.setattr(ablations, "measure", measure)
    command(3, data, out)  # tries again what has no score
    assert len(records.read_records(out)) == 10


def test_other_low_photos_are_other_data(data: Path) -> None:
    photo = plan_of(3, data).sets[HELD_OUT][0]
    other = dataclasses.replace(photo, low=255 - photo.low)
    digests = {
        ablations.pixels_sha256(parts)
        for parts in ([[photo], [other]], [[other], [photo]], [[photo, other], []], [[photo]])
    }
    assert len(digests) == 4
    assert ablations.pixels_sha256([[photo, other]]) == ablations.pixels_sha256([[other, photo]])


def test_compile_hands_each_network_to_torch_compile(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[nn.Module] = []

    def compile_(network: nn.Module) -> nn.Module:
        asked.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    plan = plan_of(3, data)
    for compiled in (False, True):
        recipe = plan.recipe("table3_alpha_0.4", 0)
        run = ablations.trained(recipe, plan.store, compiled=compiled, name="")
    assert asked == [run.network]


def test_sets_are_scored_as_the_quality_table_scores_them(sets: Path) -> None:
    torch.manual_seed(0)
    network = zoo.create("gidrn", 2).eval()
    (of_set5,) = ablations.benchmark_photos(None, sets).values()
    for photo in of_set5:
        wanted = quality.score_network(network, photo.high, 2).psnr_db
        assert mean_psnr(network, [photo], scale=2) == wanted
    assert ablations.benchmark_photos(None, None) == {}
    with pytest.raises(ValueError, match="give --data-root"):
        ablations.benchmark_photos("Set5", None)


@torch.inference_mode()
def test_attention_over_all_points_is_tabulated_for_whole_photos(data: Path) -> None:
    plan = plan_of(2, data)
    (photo,) = plan.sets[HELD_OUT]
    for row, is_copied in (("table2_samples_110", False), ("table2_samples_infinite", True)):
        network = runs.begin(plan.recipe(row, 0), "cpu").average
        for part in network.modules():
            if isinstance(part, ANRB):  # as far from flat as a trained network's, and further
                part.query.weight.mul_(3)
                part.key.weight.mul_(3)
        fit = ablations.scorable(network, [photo], "cpu")
        assert (fit is not network) == is_copied
        x = to_tensor(photo.low)
        assert 255 * (fit(x) - network(x)).abs().max() <= 0.01  # attention.BUDGET_LEVELS
        assert any(isinstance(part, ANRB) for part in network.modules())
        assert any(isinstance(part, ANRB) for part in fit.modules()) != is_copied


DIRECTIONS = [  # differences of the seeds, the paper's, what is said
    ([0.1, 0.2], [0.068], "agrees"),
    ([-0.1, -0.2], [-0.02], "agrees"),
    ([-0.1, -0.2], [0.068], "opposite"),
    ([0.1, 0.2], [-0.02], "opposite"),
    ([0.1, -0.2], [0.068], "undecided"),
    ([0.1, 0.0], [0.068], "undecided"),
    ([0.0], [0.068], "undecided"),
    ([0.1, 0.2], [0.0], "the paper has hardly any"),
    ([0.1, 0.2], [-0.019], "the paper has hardly any"),
    ([0.1, 0.2], [None], "not printed"),
    ([0.1], [0.068], "agrees (one seed)"),
    ([-0.1], [0.068], "opposite (one seed)"),
    ([0.1, 0.2], [0.068, 0.05, -0.019], "agrees"),
    ([0.1, 0.2], [0.068, 0.05, -0.02], "the paper's sets differ"),
    ([0.1, 0.2], [-0.068, -0.05, 0.02], "the paper's sets differ"),
]


@pytest.mark.parametrize(("differences", "paper", "wanted"), DIRECTIONS)
def test_direction(differences: list[float], paper: list[Any], wanted: str) -> None:
    assert ablations.direction(differences, *paper) == wanted


def test_a_set_stands_beside_the_papers_own_or_set5(data: Path) -> None:
    entry = ablations.measure(plan_of(2, data), "table2_no_anrb", 0)
    found = [
        dataclasses.replace(
            entry,
            values={**entry.values, "row": row},
            figures=tuple(
                Figure.of(ablations.figure_name(name), [30.0 + i])
                for name in (HELD_OUT, "Manga109", "B100")
            ),
        )
        for i, row in enumerate(recipes.ABLATIONS[2])
    ]
    for name, paper_set, last in (
        (HELD_OUT, "Set5", ["the paper has hardly any", "37.883", "-0.005"]),
        ("Manga109", "Manga109", ["not printed", "none", ""]),
        ("B100", "Set5", ["the paper has hardly any", "37.883", "-0.005"]),
    ):
        lines = ablations.direction_table(found, name).splitlines()
        assert cells(lines[0])[5] == f"the paper, {paper_set}"
        assert cells(lines[2])[:5] == ["table2_no_anrb", "30.000", "30.000", "", ""]
        assert cells(lines[-1]) == ["table2_samples_infinite", "34.000", "34.000", "+4.000", *last]


def test_the_papers_ablations_are_read_whole() -> None:
    one, two, three = published.table1(), published.table2(), published.table3()
    assert [len(rows) for rows in (one, two, three)] == [8, 5, 5]
    assert [row.psnr_db["Set5"] for row in one][-2:] == [37.955, 37.965]
    assert [row.params_k for row in one][-2:] == [449.4, 383.2]
    assert [sum(size**2 for size in row.pool_sizes) for row in two] == [0, 50, 110, 222, 0]
    assert two[-1].psnr_db == {"Set5": 37.883}
    assert two[-1].memory_mb == {128: 2266, 180: 8431}
    assert all(set(row.psnr_db) == set(published.DATASETS) for row in three)
    assert [(row.alpha, row.beta) for row in three][3] == (0.4, 0.6)


BAD_INPUT: list[tuple[list[str], str]] = [
    (["--data", "none-such"], "no data folder none-such"),
    (["--data", "photos", "--seeds", "one"], "--seeds wants whole numbers such as 0,1, not 'one'"),
    (["--data", "photos", "--steps", "0"], "steps is at least 1"),
    (["--data", "photos", "--batch", "0"], "batch is at least 1"),
    (["--data", "photos", "--held-out", "3"], "3 photos of at least 32 pixels a side"),
    (["--data", "photos", "--dataset", "Set5"], "give --data-root or set GIDRN_DATA"),
    (["--data", "photos", "--out", "none/a.json"], "there is no folder none"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line(
    data: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(data.parent)
    common = ["ablations.py", "--table", "3", "--patch", "8", "--out", "a.json"]
    monkeypatch.setattr(sys, "argv", [*common, *arguments])
    with pytest.raises(SystemExit) as left:
        command_line.run(ablations.main)
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("error: ")
    assert not Path("a.json").exists()


def test_help_names_the_flags() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "ablations.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for flag in ("--table", "--data", "--steps", "--seeds", "--data-root", "--dataset", "--out"):
        assert flag in done.stdout
