"""Model cards of the shipped weights, written from what is on record and from nothing else.

The words are `benchmarks/model_card.md`. The figures come from the weights' own metadata (recipe,
step, score on held-out photos), from `benchmarks/results/quality.json` (`benchmarks/quality.py
--models bicubic,gidrn --scale 2,3,4`) and from `gidrn/weights/ledger.json`, one entry a training
run: `from` is the number of the run whose weights it started from, counted from 1, and `of_steps`
the length of its schedule where it stopped early.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks import arguments, records
from benchmarks.markdown_table import markdown_table
from benchmarks.quality import published_scores
from benchmarks.records import Record
from gidrn import checkpoints, command_line, recipes, zoo
from gidrn.files import replacing
from gidrn.recipes import Recipe
from gidrn.zoo import Variant

QUALITY = records.RESULTS / "quality.json"
LEDGER = zoo.WEIGHTS_FOLDER / "ledger.json"
TEMPLATE = Path(__file__).with_suffix(".md")
DATASETS = ("Set5", "Set14", "B100")


@dataclass(frozen=True)
class TrainingRun:
    """One entry of the ledger."""

    scale: int
    steps: int
    """Steps taken."""
    batch: int
    patch: int
    started_from: int | None
    """Number of the run whose averaged weights it started from; None for fresh weights."""
    learning_rate: float
    """The highest of its cosine."""
    photos: int
    megapixels: float
    """Of the photos trained on."""
    hours: float
    """Wall clock of steps, validation and saving."""
    cores: int
    cpu: str
    of_steps: int | None = None
    """Length of its schedule, where it was stopped before the end."""


def read_ledger(path: Path = LEDGER) -> list[TrainingRun]:
    """The runs, first to last. Raises ValueError for an entry that is not whole."""
    runs = []
    for number, entry in enumerate(json.loads(path.read_text(encoding="utf-8")), start=1):
        try:
            run = TrainingRun(started_from=entry.pop("from"), **entry)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: run {number} is not whole: {error}") from error
        if run.started_from is not None and not 1 <= run.started_from < number:
            raise ValueError(
                f"{path}: run {number} starts from run {run.started_from}, which is not before it"
            )
        runs.append(run)
    return runs


def card(variant: Variant, quality: list[Record], ledger: list[TrainingRun]) -> str:
    """The card of one variant, as Markdown.

    Raises ValueError where the records or the ledger are not of these weights.
    """
    metadata = checkpoints.read_metadata(variant.path)
    recipe = recipe_of(variant)
    numbers = lineage(variant, recipe, ledger)
    last = ledger[numbers[-1] - 1]
    fields = {
        "scale": variant.scale,
        "file": variant.path.name,
        "sha256": checkpoints.sha256(variant.path),
        "parameters": variant.parameters,
        "color_range": variant.color_range,
        "licence": variant.licence,
        "step": int(metadata["step"]),
        "held_out_psnr_db": float(metadata["held_out_psnr_db"]),
        "recipe": recipe,
        "final_learning_rate": short(recipe.final_learning_rate),
        "adam_epsilon": short(recipe.adam_epsilon),
        "arithmetic": ARITHMETIC[recipe.autocast],
        "least_side": recipe.patch * variant.scale,
        "last": last,
        "machine": machine(last),
        "quality": quality_table(variant, quality),
        "beside_bicubic": beside_bicubic(variant, quality),
        "ledger": ledger_table(numbers, ledger),
        "steps": sum(ledger[number - 1].steps for number in numbers),
        "hours": sum(ledger[number - 1].hours for number in numbers),
    }
    return TEMPLATE.read_text(encoding="utf-8").format_map(fields)


ARITHMETIC = {
    "bf16": "bf16 autocast, FP32 weights and loss",
    "none": "FP32",
}


def recipe_of(variant: Variant) -> Recipe:
    """The recipe that the weights carry."""
    return recipes.from_dict(json.loads(checkpoints.read_metadata(variant.path)["recipe"]))


def short(value: float) -> str:
    """A number without the zero in front of a power's one digit: 1e-6."""
    return f"{value:g}".replace("e-0", "e-")


def lineage(variant: Variant, recipe: Recipe, ledger: list[TrainingRun]) -> list[int]:
    """Numbers of the runs behind the weights, first to last; the last run of their factor ends it.

    Raises ValueError where that run is not of the recipe that the weights carry.
    """
    own = [number for number, run in enumerate(ledger, start=1) if run.scale == variant.scale]
    if not own:
        raise ValueError(f"{LEDGER} has no run of x{variant.scale}: add the one that made them")
    last = ledger[own[-1] - 1]
    said = (last.of_steps or last.steps, last.batch, last.patch, last.learning_rate)
    trained = (recipe.steps, recipe.batch, recipe.patch, recipe.learning_rate)
    if said != trained:
        raise ValueError(
            f"{LEDGER}: run {own[-1]}, the last of x{variant.scale}, has steps, batch, patch and "
            f"learning rate {said}, but {variant.path.name} was trained with {trained}: add its run"
        )
    numbers: list[int] = []
    number: int | None = own[-1]
    while number is not None:
        numbers.append(number)
        number = ledger[number - 1].started_from
    return numbers[::-1]


def machine(run: TrainingRun) -> str:
    """Where a run was made."""
    return f"{run.cores} core{'s' if run.cores > 1 else ''} of an {run.cpu}"


def ledger_table(numbers: list[int], ledger: list[TrainingRun]) -> str:
    """The runs behind the weights, a row each."""
    rows = []
    for number in numbers:
        run = ledger[number - 1]
        stopped = f" of {run.of_steps:,}" if run.of_steps else ""
        came_from = "fresh weights" if run.started_from is None else f"run {run.started_from}"
        rows.append(
            [
                f"{number} (x{run.scale})",
                f"{run.steps:,}{stopped}",
                f"{run.batch}, {run.patch}",
                came_from,
                f"{run.learning_rate:g}",
                f"{run.photos}, {run.megapixels:.1f}",
                f"{run.hours:.2f}",
                machine(run),
            ]
        )
    header = ["run", "steps", "batch, patch", "from", "peak learning rate", "photos, Mpixel"]
    return markdown_table([*header, "hours", "machine"], rows)


def _record(variant: Variant, model: str, dataset: str, quality: list[Record]) -> Record:
    for record in quality:
        what = record.what
        if (what.model, what.scale, what.input) == (model, variant.scale, dataset):
            return record
    raise ValueError(
        f"no figures of {model} x{variant.scale} on {dataset}: python benchmarks/quality.py "
        f"--models bicubic,{variant.network} --scale 2,3,4 --out {QUALITY}"
    )


def quality_table(variant: Variant, quality: list[Record]) -> str:
    """Bicubic, these weights and the paper, a row a set."""
    rows = []
    for dataset in DATASETS:
        cells = [dataset]
        for model in ("bicubic", variant.network):
            values = _record(variant, model, dataset, quality).values
            cells.append(f"{values['psnr_db']:.3f} / {values['ssim']:.4f}")
        paper = list(published_scores(variant.network, variant.scale, dataset).values())
        cells.append(f"{paper[0]:.2f} / {paper[1]:.4f}")
        rows.append(cells)
    return markdown_table(["set", "bicubic", "these weights", "the paper (Table 4)"], rows)


def beside_bicubic(variant: Variant, quality: list[Record]) -> str:
    """On which images bicubic is better, and by how much the weights lead where they lead least."""
    worse, least = [], []
    for dataset in DATASETS:
        ours, bicubic = (
            _record(variant, model, dataset, quality) for model in (variant.network, "bicubic")
        )
        names = str(ours.values["images"]).split()
        if names != str(bicubic.values["images"]).split():
            raise ValueError(f"bicubic and {variant.network} were scored on other images")
        figure = f"psnr_y_border{variant.scale}_db"
        pairs = zip(ours.figure(figure).samples, bicubic.figure(figure).samples, strict=True)
        gains = [
            (a - b, f"{dataset}'s {Path(name).stem}")
            for name, (a, b) in zip(names, pairs, strict=True)
        ]
        worse += [name for gain, name in gains if gain < 0]
        least.append(min(gains))
    but = f", but for {' and '.join(worse)}" if worse else ""
    leads = [f"{name} ({gain:+.2f} dB)" for gain, name in least]
    return (
        f"Better than bicubic on every image of the three sets{but};\n"
        f"least on {', '.join(leads[:-1])} and {leads[-1]}."
    )


def main(scale: str = "2,3,4", check: bool = False) -> None:
    """Write the model cards of the shipped weights, beside them.

    Args:
        scale: 2, 3, 4 or several, such as 2,3,4.
        check: write nothing, and fail where a card is not what would be written.
    """
    quality, ledger = records.read_records(QUALITY), read_ledger()
    stale = []
    for variant in zoo.VARIANTS.values():
        if variant.scale not in arguments.scales(scale):
            continue
        path, text = variant.path.with_suffix(".md"), card(variant, quality, ledger)
        if check:
            stale += [path] if path.read_text(encoding="utf-8") != text else []
            continue
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"written to {path}")
    if stale:
        names = ", ".join(path.name for path in stale)
        raise ValueError(f"stale: {names}; write anew with python benchmarks/model_card.py")


if __name__ == "__main__":
    command_line.run(main)
