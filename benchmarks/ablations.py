"""Section 3.3's ablations at a small budget: which way each row of Tables 1, 2 and 3 points.

Every row is trained from fresh weights by `gidrn.train`'s own step. All rows of a seed see the same
crops in the same order; what differs is the row's loss, or its network, whose fresh weights are
drawn part after part, so that networks of other parts start elsewhere. The averaged weights of the
last step are scored on photos held out from training and, where they are there, on benchmark sets.

A run is one row with one seed; each is written as it ends. The same command goes on with those that
are missing, and refuses a file of runs made another way.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from benchmarks import published, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, Value, What
from export.rewrites import RefusedError, attention
from gidrn import benchmark_sets, command_line, recipes, runs, train, world
from gidrn.crops import CropStore
from gidrn.evaluation import mean_psnr, to_tensor
from gidrn.losses import HighFrequencyLoss
from gidrn.networks.anrb import ANRB
from gidrn.photos import Photo, PhotoFile, find_pairs, hold_out, load_photos, read_photo
from gidrn.recipes import Recipe

SCALE = 2
"""The factor of all three tables."""

HELD_OUT = "held out"
"""The name of the photos held out, among the sets that are scored."""

PAPER_SET = "Set5"
"""The set that all three tables print: what photos stand beside for which they print nothing."""

KNOT_SIDE = 64
"""Side in pixels of the images on which the spread of an attention without sampling is measured."""

PROTOCOL = (
    "gidrn.train.take_step from fresh weights, the same crops for all rows of a seed; averaged "
    "weights of the last step; PSNR on unrounded Y of the clamped, rounded output, 2 pixels cut "
    "from each side, low-resolution images by MATLAB's uint8 imresize unless --data has partners"
)

LEAST_DIFFERENCE_DB = 0.02
"""Differences that the paper prints below this have no direction: its rows are single runs, and
two of one network differ by about as much."""

PAPER_BUDGET = "The paper: 1,000,000 steps of 32 crops of 64x64 from 800 photos."


@dataclass(frozen=True)
class Budget:
    """What the rows of a table have in common, and runs must share to stand in one table."""

    table: int
    """1, 2 or 3."""
    steps: int
    batch: int
    """Crops a step."""
    patch: int
    """Side of a low-resolution crop in pixels."""
    autocast: Literal["none", "bf16"]
    """Arithmetic of the forward pass in training."""
    compile: bool
    """Whether by torch.compile."""
    device: str
    """The kind: cpu or cuda."""
    photos: int
    """How many are trained on."""
    photos_sha256: str
    """Digest of the pixels, low and high, that are trained on and of those scored on."""
    held_out: int
    """How many photos are held out."""
    scored_on: str
    """The sets, with commas between."""


@dataclass(frozen=True)
class Plan:
    """A table's runs, checked."""

    budget: Budget
    seeds: tuple[int, ...]
    store: CropStore
    """The crops that every run draws from."""
    sets: Mapping[str, Sequence[Photo]]
    """What to score on, the photos held out first."""
    data: str
    """The folders' names, for the records."""

    def recipe(self, row: str, seed: int) -> Recipe:
        """What a row's run follows."""
        budget = self.budget
        recipe = recipes.with_steps(recipes.ABLATIONS[budget.table][row], budget.steps)
        return dataclasses.replace(
            recipe,
            batch=budget.batch,
            patch=budget.patch,
            autocast=budget.autocast,
            held_out=budget.held_out,
            seed=seed,
        )

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """The runs' rows and seeds, seed after seed."""
        return [(row, seed) for seed in self.seeds for row in recipes.ABLATIONS[self.budget.table]]


def pixels_sha256(parts: Sequence[Sequence[Photo]]) -> str:
    """Digest of photos part by part, whatever their order and names within a part."""
    seen = [
        sorted([photo.digest, hashlib.sha256(photo.low.tobytes()).hexdigest()] for photo in part)
        for part in parts
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def published_psnr(table: int) -> dict[str, Mapping[str, float]]:
    """What the paper prints, by row of `recipes.ABLATIONS` and data set, in dB."""
    printed = {
        1: [row.psnr_db for row in published.table1()],
        2: [row.psnr_db for row in published.table2()],
        3: [row.psnr_db for row in published.table3()],
    }[table]
    return dict(zip(recipes.ABLATIONS[table], printed, strict=True))


def trained(recipe: Recipe, store: CropStore, *, compiled: bool, name: str) -> runs.Run:
    """A run taken to its last step. Raises DivergedError where the loss is no longer finite."""
    run = runs.begin(recipe, store.device)
    run.network.train()
    forward: Any = run.network
    if compiled:
        torch.compiler.reset()  # the ninth network of a kind would silently run uncompiled
        forward = torch.compile(run.network)
    loss_of = HighFrequencyLoss(recipe.alpha, recipe.beta, recipe.kernel_size, recipe.sigma)
    loss_of = loss_of.to(store.device)
    for _ in tqdm(range(recipe.steps), desc=name, unit="step", leave=False, disable=None):
        loss = train.take_step(run, forward, loss_of, *store.draw(recipe.batch, run.generator))
        if run.step % recipe.log_every == 0 or run.step == recipe.steps:
            value = float(loss)
            if not math.isfinite(value):
                raise runs.DivergedError(f"{name}: the loss is {value} at step {run.step}")
    return run


def scorable(network: nn.Module, photos: Sequence[Photo], device: str) -> nn.Module:
    """The network, fit for whole photos.

    Attention over all H*W points needs memory that grows with the square of the photo. Such a
    network is copied and its attention tabulated, within `attention.BUDGET_LEVELS` 8-bit levels of
    the output; how finely is measured on corners of `photos`. Raises RefusedError where no table
    is fine enough.
    """
    if not any(isinstance(part, ANRB) and not part.pool_sizes for part in network.modules()):
        return network
    network = copy.deepcopy(network)
    corners = [photo.low[:KNOT_SIDE, :KNOT_SIDE].copy() for photo in photos]
    curve = attention.choose_knots(network, [to_tensor(corner, device) for corner in corners])
    attention.apply(network, lambda: attention.CurveAttention(curve.knots).to(device))
    return network.to(device)


def measure(plan: Plan, row: str, seed: int) -> Record:
    """Train one row with one seed, and score it on every photo of every set."""
    budget, recipe = plan.budget, plan.recipe(row, seed)
    device = plan.store.device
    where, commit = records.here(torch.get_num_threads()), records.commit_of(records.PROJECT)
    began = time.monotonic()
    run = trained(recipe, plan.store, compiled=budget.compile, name=f"{row}, seed {seed}")
    seconds = time.monotonic() - began
    every = [photo for photos in plan.sets.values() for photo in photos]
    network = scorable(run.average, every, device)
    figures = []
    for name, photos in plan.sets.items():
        scores = [mean_psnr(network, [photo], scale=SCALE, device=device) for photo in photos]
        figures.append(Figure.of(figure_name(name), scores, [photo.name for photo in photos]))
    printed = published_psnr(budget.table)[row]
    return records.record(
        What(
            recipe.network,
            SCALE,
            f"torch-{budget.device}",
            precision="bf16 autocast in training" if recipe.autocast == "bf16" else "fp32",
            size_hw=(recipe.patch, recipe.patch),
            batch=recipe.batch,
            weights=f"trained here (seed {seed})",
            input=plan.data,
        ),
        How(PROTOCOL, clock="time.monotonic", samples=len(plan.sets[HELD_OUT])),
        figures=figures,
        values={
            **dataclasses.asdict(budget),
            "row": row,
            "seed": seed,
            "recipe": as_json(recipe),
            "tf32_convolutions": budget.device == "cuda" and torch.backends.cudnn.allow_tf32,
            "parameters": sum(p.numel() for p in run.network.parameters()),
            "train_s": round(seconds, 3),
        },
        published={f"Table {budget.table} psnr_db {name}": db for name, db in printed.items()},
        where=where,
        commit=commit,
    )


def as_json(recipe: Recipe) -> str:
    """A recipe as it stands in a record."""
    return json.dumps(dataclasses.asdict(recipe))


def figure_name(name: str) -> str:
    """What a set's scores are called in a record."""
    return f"{name.replace(' ', '_')}_psnr_y_border{SCALE}_db"


def finished(plan: Plan, out: Path) -> dict[tuple[str, int], Record]:
    """The runs that `out` holds, by row and seed; none where there is no such file.

    Raises ValueError where they were made another way than the plan's would be.
    """
    if not out.exists():
        return {}
    found: dict[tuple[str, int], Record] = {}
    for entry in records.read_records(out):
        wanted: dict[str, Value] = dataclasses.asdict(plan.budget)
        differing = [key for key in wanted if entry.values.get(key) != wanted[key]]
        if differing:
            there = ", ".join(f"{key} {entry.values.get(key)}" for key in differing)
            here = ", ".join(f"{key} {wanted[key]}" for key in differing)
            raise ValueError(
                f"{out} holds runs with {there}, and those asked for have {here}: "
                "give the same settings to go on with it, or another --out"
            )
        row, seed = str(entry.values["row"]), int(str(entry.values["seed"]))
        if entry.values["recipe"] != as_json(plan.recipe(row, seed)):
            raise ValueError(
                f"{out} holds a run of {row} by another recipe than {row} has now: "
                "give another --out"
            )
        found[row, seed] = entry
    return found


def measure_missing(plan: Plan, out: Path) -> tuple[list[Record], list[str]]:
    """Every run of the plan, those in `out` from there; writes `out` after each of the others.

    A run that diverges, or cannot be scored, does not end the others: what became of it comes
    second.
    """
    found = finished(plan, out)
    failed = []
    for row, seed in plan.pairs:
        if (row, seed) in found:
            continue
        try:
            found[row, seed] = measure(plan, row, seed)
        except (runs.DivergedError, RefusedError) as error:
            failed.append(f"{row}, seed {seed}, has no score: {error}")
            print(failed[-1], file=sys.stderr)
            continue
        records.write_records(out, found.values())
        score = mean_score(found[row, seed], HELD_OUT)
        minutes = train_minutes([found[row, seed]])
        print(
            f"{row}, seed {seed}: {score:.3f} dB on photos held out, {minutes:.1f} minutes; "
            f"{len(found)} runs in {out}",
            file=sys.stderr,
        )
    return [found[run] for run in plan.pairs if run in found], failed


def mean_score(entry: Record, name: str) -> float:
    """Mean PSNR of a run over a set's photos, in dB."""
    return statistics.fmean(entry.figure(figure_name(name)).samples)


def train_minutes(found: Sequence[Record]) -> float:
    """Time of training, all runs together."""
    return sum(float(str(entry.values["train_s"])) for entry in found) / 60


def direction(differences: Sequence[float], paper: float | None, *others: float) -> str:
    """Whether a row points the way that the paper's does, from one difference a seed, in dB.

    `paper` is its difference on the set beside which the row stands, `others` those on its other
    sets.
    """
    if paper is None:
        return "not printed"
    if abs(paper) < LEAST_DIFFERENCE_DB:
        return "the paper has hardly any"
    if any(other * paper < 0 and abs(other) >= LEAST_DIFFERENCE_DB for other in others):
        return "the paper's sets differ"
    if not (all(d > 0 for d in differences) or all(d < 0 for d in differences)):
        return "undecided"
    word = "agrees" if (differences[0] > 0) == (paper > 0) else "opposite"
    return word if len(differences) > 1 else f"{word} (one seed)"


@dataclass(frozen=True)
class Compared:
    """A row's scores on one set, beside the first row's and the paper's."""

    row: str
    scores_db: Mapping[int, float]
    """By seed."""
    to_first_db: float | None
    """The mean over seeds; None for the first row, and without a common seed."""
    direction: str
    """See `direction`; "" where there is no difference."""
    paper_db: float | None
    """What the paper prints on the set beside which the row stands."""
    paper_to_first_db: float | None


def paper_set_of(table: int, name: str) -> str:
    """The set whose printed figures stand beside scores on `name`."""
    return name if name in next(iter(published_psnr(table).values())) else PAPER_SET


def compared(found: Sequence[Record], name: str) -> list[Compared]:
    """Every row's scores on one set and which way they point; `found` are of one table."""
    table = int(str(found[0].values["table"]))
    printed = published_psnr(table)
    paper_set = paper_set_of(table, name)
    scores: dict[str, dict[int, float]] = {}
    for entry in found:
        of_row = scores.setdefault(str(entry.values["row"]), {})
        of_row[int(str(entry.values["seed"]))] = mean_score(entry, name)
    first = next(iter(printed))
    rows = []
    for row, of_row in scores.items():
        common = [seed for seed in of_row if seed in scores.get(first, {})]
        differences = [of_row[seed] - scores[first][seed] for seed in common]
        papers = {
            one: score - printed[first][one]
            for one, score in printed[row].items()
            if one in printed[first]
        }
        others = [papers[one] for one in papers if one != paper_set]
        is_compared = row != first and bool(differences)
        rows.append(
            Compared(
                row,
                of_row,
                statistics.fmean(differences) if is_compared else None,
                direction(differences, papers.get(paper_set), *others) if is_compared else "",
                printed[row].get(paper_set),
                papers.get(paper_set) if row != first else None,
            )
        )
    return rows


def direction_table(found: Sequence[Record], name: str) -> str:
    """Every row's score on one set, seed by seed, beside the paper's, as a Markdown table."""
    entries = compared(found, name)
    seeds = list(dict.fromkeys(seed for entry in entries for seed in entry.scores_db))
    rows = [
        [
            entry.row,
            *(
                f"{entry.scores_db[seed]:.3f}" if seed in entry.scores_db else "none"
                for seed in seeds
            ),
            f"{statistics.fmean(entry.scores_db.values()):.3f}",
            "" if entry.to_first_db is None else f"{entry.to_first_db:+.3f}",
            entry.direction,
            "none" if entry.paper_db is None else f"{entry.paper_db:.3f}",
            "" if entry.paper_to_first_db is None else f"{entry.paper_to_first_db:+.3f}",
        ]
        for entry in entries
    ]
    paper_set = paper_set_of(int(str(found[0].values["table"])), name)
    header = [
        f"{name}, PSNR in dB",
        *(f"seed {seed}" for seed in seeds),
        *("mean", "to the first row", "direction"),
        *(f"the paper, {paper_set}", "the paper, to its first row"),
    ]
    return markdown_table(header, rows)


def report(found: Sequence[Record]) -> str:
    """The heading with the budget, a table a set, and what they are worth."""
    entry = found[0]
    values = entry.values
    seeds = dict.fromkeys(str(run.values["seed"]) for run in found)
    on_cpu = values["device"] == "cpu"
    devices = dict.fromkeys(str(run.where.cpu if on_cpu else run.where.gpu) for run in found)
    bf16 = " in bf16" if values["autocast"] == "bf16" else ""
    heading = (
        f"Table {values['table']}, x{SCALE}: {values['steps']:,} steps of {values['batch']} crops "
        f"of {values['patch']}x{values['patch']}{bf16} from {values['photos']} photos, "
        f"{values['held_out']} more held out, seeds {', '.join(seeds)}; "
        f"{train_minutes(found):.1f} minutes of training on {', '.join(devices)}"
    )
    tables = [direction_table(found, name) for name in str(values["scored_on"]).split(",")]
    chance = 100 * 0.5 ** len(seeds)
    worth = (
        "Read the direction, not the decimals: the budget is a small part of the paper's, and "
        "differences here need not be those at its end. A row is undecided where its seeds differ "
        f"in sign. A row that makes no difference would still agree in {chance:.0f} % of cases, "
        f"and be opposite in as many. The paper has hardly any direction where it prints less than "
        f"{LEAST_DIFFERENCE_DB} dB."
    )
    return "\n\n".join([f"### {heading}", PAPER_BUDGET, *tables, worth])


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0,1". Raises ValueError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"--seeds wants whole numbers such as 0,1, not {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def benchmark_photos(dataset: str | None, data_root: Path | None) -> dict[str, list[Photo]]:
    """The benchmark sets asked for, decoded; Set5 where none is named and there is a data root."""
    if dataset is None and data_root is None and not os.environ.get("GIDRN_DATA"):
        return {}
    root = benchmark_sets.data_root(data_root)
    paths = {
        name: benchmark_sets.find_images(name, root, SCALE)
        for name in benchmark_sets.parse_names(dataset or PAPER_SET)
    }
    return {
        name: [read_photo(PhotoFile(path), SCALE) for path in of_set]
        for name, of_set in paths.items()
    }


def make_plan(
    table: int,
    data: Sequence[Path],
    sets: Mapping[str, list[Photo]],
    *,
    steps: int,
    seeds: tuple[int, ...],
    batch: int,
    patch: int,
    held_out: int,
    autocast: Literal["none", "bf16"] | None,
    compiled: bool,
    device: str,
) -> Plan:
    """Decode the photos, keep some apart, and fix the budget."""
    first = next(iter(recipes.ABLATIONS[table].values()))
    dataclasses.replace(  # raises where a flag makes no sense, before photos are decoded
        recipes.with_steps(first, steps), batch=batch, patch=patch, held_out=held_out
    )
    photos, faults = load_photos(find_pairs(data, SCALE), SCALE, least_side=patch * SCALE)
    for fault in faults:
        print(f"left out: {fault}", file=sys.stderr)
    training, apart = hold_out(photos, held_out)
    scored = {HELD_OUT: apart, **sets}
    budget = Budget(
        table=table,
        steps=steps,
        batch=batch,
        patch=patch,
        autocast=first.autocast if autocast is None else autocast,
        compile=compiled,
        device=torch.device(device).type,
        photos=len(training),
        photos_sha256=pixels_sha256([training, *scored.values()]),
        held_out=len(apart),
        scored_on=",".join(scored),
    )
    names = " ".join(folder.resolve().name for folder in data)
    return Plan(budget, seeds, CropStore(training, SCALE, patch, device), scored, names)


def main(
    *,
    table: Literal[1, 2, 3],
    data: tuple[Path, ...],
    steps: int = 600,
    seeds: str = "0,1",
    batch: int = 4,
    patch: int = 48,
    held_out: int = 20,
    data_root: Path | None = None,
    dataset: str | None = None,
    device: str = "auto",
    autocast: Literal["none", "bf16"] | None = None,
    compile: bool = False,  # noqa: A002 (the flag's name)
    out: Path | None = None,
) -> None:
    """Train every row of the paper's Table 1, 2 or 3 at a small budget, and compare directions.

    Args:
        table: 1 (dual path, dense shortcut, ANRB, G-IDB), 2 (ANRB's sampling) or 3 (loss weights).
        data: folders of photos to train on and to hold some out from.
        steps: length of each run; the paper's is 1000000.
        seeds: of fresh weights and crops, with commas between.
        batch: crops a step; the paper's is 32.
        patch: side of a low-resolution crop in pixels; the paper's is 64.
        held_out: photos kept from training to score on.
        data_root: folder with benchmark sets, to be scored too; else the variable GIDRN_DATA.
        dataset: sets to score on, with commas between; Set5 where there is a data root.
        device: auto, cpu, cuda or cuda:1.
        autocast: in place of the recipes' arithmetic in training: bf16 is faster where the device
            computes in it, and slower elsewhere.
        compile: compile each network with torch.compile: worth it for long runs.
        out: the JSON file to write, and to go on with; a file of benchmarks/results/local named
            for the table and the budget by default.
    """
    path = out or (
        records.RESULTS / "local" / f"ablations_table{table}_{steps}x{batch}x{patch}.json"
    )
    records.check_writable(path)
    device, kept = world.choose_device(device), parse_seeds(seeds)
    plan = make_plan(
        table,
        data,
        benchmark_photos(dataset, data_root),
        steps=steps,
        seeds=kept,
        batch=batch,
        patch=patch,
        held_out=held_out,
        autocast=autocast,
        compiled=compile,
        device=device,
    )
    found, failed = measure_missing(plan, path)
    if found:
        print(f"{report(found)}\n\nwritten to {path}")
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(plan.pairs)} runs have no score; the same command tries them "
            f"again: {'; '.join(failed)}"
        )


if __name__ == "__main__":
    command_line.run(main)
