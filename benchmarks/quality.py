"""PSNR and SSIM on the benchmark sets, beside what the paper's Table 4 prints.

Two protocols, because the published rows have two. Each gives the printed digits for its rows:

- bicubic: the true image's Y is rounded, made smaller and larger in double without rounding
  between, then rounded. A gray file (Set14's bridge) is its own Y, levels 0 to 255.
- networks: the low-resolution image is MATLAB's uint8 imresize of the RGB image; the output is
  clamped, rounded to uint8 and turned into Y, which stays unrounded. A gray file becomes three
  equal channels and is scored on their Y, levels 16 to 235. (IMDN's published weights, so scored,
  give its row on Set14; on the gray levels themselves they give 0.09 dB less.)

What is left between the bicubic row and Table 4 (up to 0.0095 dB and 0.0008 on Set14) is overshoot,
mostly of ppt3 and zebra: with Y clipped to its legal 16 to 235, as a trip through RGB would do, the
rows of Set5, Set14 and B100 come within 0.006 dB and 0.0002. The paper says nothing of it, so Y is
clipped to 0 to 255 alone.

In both, as many pixels as the factor are cut from each side, and a figure is the mean over images.

Each finished image is a line of a journal beside the results (`benchmarks.journal`), so that a run
that was killed goes on where it stood. A line counts while weights, image, code and versions are
those that it was measured with.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from benchmarks import arguments, published, records, weight_files
from benchmarks.journal import Journal
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from gidrn import benchmark_sets, checkpoints, command_line, evaluation, zoo
from gidrn.images import as_rgb, read_image
from gidrn.metrics import luma, psnr, ssim
from gidrn.resize import crop_to_multiple, downscale, imresize

MODELS = tuple(dict.fromkeys(["bicubic", *zoo.NETWORKS]))
"""What can be scored. Bicubic is NumPy's, by the protocol of the published row, not the zoo's."""

PSNR_TOLERANCE_DB = 0.02
"""How far a network may be from the printed PSNR: printed digits, image decoders and arithmetic
make no more of one set of weights (IMDN's and PAN's are within 0.008 dB)."""

BICUBIC_TOLERANCE_DB = 0.01
"""How far the bicubic row may be from Table 4's PSNR."""

BICUBIC_SSIM_TOLERANCE = 0.0005
"""How far the bicubic row may be from Table 4's SSIM."""

BICUBIC_SSIM_TOLERANCES = {"Set14": 0.001}
"""Sets with another tolerance; see above for what Set14's difference is."""

ANOTHER_RUN = "another training run"
"""The reason for weights that this project trained, whatever the network."""

MOST_OF_TRAINING_DB = 1.0
"""The most that a finished training of another's explains: more is a fault, as of colours."""

MOST_OF_A_SLIP_DB = 0.5
"""The most that another network's or set's figure in a cell of the paper explains."""

_OTHER_WEIGHTS = (
    "another training run, the paper's weights are not public",
    MOST_OF_TRAINING_DB,
)
_Y_ONLY = (  # bicubic differs by up to 0.1 dB between the two; what is sharper, by more
    "Y-only network, another pipeline",
    0.5,
)

REASONS: dict[str, tuple[str, float]] = {
    "gidrn": _OTHER_WEIGHTS,
    "idrn": _OTHER_WEIGHTS,
    "rfdn_l": _OTHER_WEIGHTS,
    "idn": _Y_ONLY,
    "memnet": _Y_ONLY,
    "drrn": _Y_ONLY,
    "drcn": _Y_ONLY,
    "lapsrn": _Y_ONLY,
    "vdsr": _Y_ONLY,
    "fsrcnn": _Y_ONLY,
    "srcnn": _Y_ONLY,
}
"""Why a network differs from its printed row, and the most dB that this explains.

The authors of Y-only networks make the small image of the true Y, and here it comes of an RGB image
in 8-bit levels.
"""

SLIPS: dict[tuple[str, int, str], tuple[str, str]] = {
    ("gidrn", 2, "B100"): ("gidrn", "Urban100"),
    **{("smsr", 4, dataset): ("carn", dataset) for dataset in ("Set5", "Set14", "B100")},
}
"""Cells of Table 4, by network, factor and set, that repeat the PSNR of another network or set."""

UNEXPLAINED = "differs for no known reason"

PROTOCOLS = {
    "bicubic": "Y rounded, down and up in double, rounded (gray files as they are)",
    "network": "RGB uint8 imresize down, network, clamp, round, Y unrounded (gray files as RGB)",
}

Channel = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """Something that makes images larger by one factor."""

    name: str
    network: nn.Module | None
    """In eval mode; None for bicubic."""
    weights: str = "none"
    """"shipped" or "file NAME"."""
    weights_sha256: str | None = None
    is_ours: bool = False
    """Whether this project trained the weights."""


class NoWeightsError(ValueError):
    """A network has no weights at a factor, neither shipped nor in the user's folder."""


@dataclass(frozen=True)
class Skipped:
    """A network that was not measured at one factor."""

    name: str
    scale: int
    reason: str
    is_fault: bool
    """Whether there are weights, and they cannot be used."""


@dataclass(frozen=True)
class Score:
    """How near one image came to the truth, on Y with the border cut."""

    psnr_db: float
    ssim: float
    gain_db: float
    """PSNR above that of bicubic enlargement by the same protocol; 0 for bicubic."""


def rounded(channel: Channel) -> Channel:
    """To whole levels 0 to 255, halves upwards."""
    return np.asarray(np.clip(np.floor(channel + 0.5), 0, 255))


def bicubic_channels(high: NDArray[np.uint8], scale: int) -> tuple[Channel, Channel]:
    """What bicubic makes of a true image's Y, and that Y; sides of `high` divide by `scale`."""
    truth = high.astype(np.float64) if high.ndim == 2 else rounded(luma(high))
    low = imresize(truth, Fraction(1, scale))
    return rounded(np.asarray(imresize(low, scale), dtype=np.float64)), truth


def score_bicubic(high: NDArray[np.uint8], scale: int) -> Score:
    """Bicubic by the protocol of the published Bicubic row."""
    made, truth = bicubic_channels(high, scale)
    return Score(psnr(made, truth, border=scale), ssim(made, truth, border=scale), 0.0)


def score_network(network: nn.Module, high: NDArray[np.uint8], scale: int) -> Score:
    """A network by the protocol of the published rows of RGB networks."""
    high = as_rgb(high)
    low = downscale(high, scale)
    truth = luma(high)
    made = luma(evaluation.upscale(network, low))
    plain = luma(imresize(low, scale))
    psnr_db = psnr(made, truth, border=scale)
    gain_db = psnr_db - psnr(plain, truth, border=scale)
    return Score(psnr_db, ssim(made, truth, border=scale), gain_db)


def open_method(name: str, scale: int, weights_root: Path | None) -> Method:
    """Bicubic, or a network with weights: a file of `weights_root`, else those that ship.

    A file is called such as `imdn_x4.safetensors` or `imdn_x4.pth`. Raises NoWeightsError where
    there are no weights, since none are made up, and ValueError for unknown names and weights that
    do not fit.
    """
    if name == "bicubic":
        return Method(name, None)
    if name not in zoo.NETWORKS:
        raise zoo.unknown("model", name, MODELS)
    looked_for = weight_files.names(weights_root, name, scale)
    for path in looked_for:
        if path.is_file():
            try:
                network = zoo.load(name, scale, weights=path)
            except ImportError as error:  # SciPy, for a .mat file
                raise ValueError(str(error)) from error
            digest = checkpoints.sha256(path)
            return Method(name, network, f"file {path.name}", digest, trained_here(path))
    try:
        path = zoo.shipped_weights(name, scale)
    except ValueError as error:
        where = f", and there is no {' or '.join(map(str, looked_for))}" if looked_for else ""
        raise NoWeightsError(
            f"{name} x{scale} cannot be scored: {error}{where} (see --weights-root)"
        ) from error
    return Method(name, zoo.load(name, scale), "shipped", checkpoints.sha256(path), is_ours=True)


def trained_here(path: Path) -> bool:
    """Whether a weights file is of `gidrn.train`: it names its recipe, or is a checkpoint."""
    if path.suffix == ".safetensors":
        return "recipe" in checkpoints.read_metadata(path)
    if path.suffix not in (".pth", ".pt"):
        return False
    loaded = checkpoints.load_pickle(path, "cpu")
    return isinstance(loaded, dict) and loaded.get("format") == checkpoints.TRAINING_FORMAT


def open_all(
    scales: list[int], weights_root: Path | None
) -> tuple[dict[tuple[str, int], Method], list[Skipped]]:
    """Every model that has weights, by name and factor, and the others with the reason."""
    methods: dict[tuple[str, int], Method] = {}
    skipped = []
    for name in MODELS:
        for scale in scales:
            try:
                methods[name, scale] = open_method(name, scale, weights_root)
            except NoWeightsError:
                suffixes = ", ".join(weight_files.SUFFIXES)
                reason = "no weights ship" + (
                    f", and {weights_root} has no {name}_x{scale} ({suffixes})"
                    if weights_root
                    else ", and no --weights-root is given"
                )
                skipped.append(Skipped(name, scale, reason, is_fault=False))
            except ValueError as error:
                skipped.append(Skipped(name, scale, str(error), is_fault=True))
    return methods, skipped


def published_scores(name: str, scale: int, dataset: str) -> dict[str, float]:
    """What the paper prints: Table 4's row, else Table 6's, by "Table N quantity"; {} for none."""
    method = published.METHODS.get(name)
    for row4 in published.table4():
        if (row4.method, row4.scale) == (method, scale) and dataset in row4.scores:
            score = row4.scores[dataset]
            return {"Table 4 psnr_db": score.psnr_db, "Table 4 ssim": score.ssim}
    for row6 in published.table6():
        if (row6.method, row6.scale, row6.dataset) == (method, scale, dataset):
            return {"Table 6 psnr_db": row6.psnr_db, "Table 6 ssim": row6.ssim}
    return {}


def verdict(
    method: Method,
    scale: int,
    dataset: str,
    psnr_db: float,
    ssim_mean: float,
    paper: dict[str, float],
) -> str:
    """ "agrees" within the tolerance of the paper's figures, else the difference and the reason.

    A network agrees by its PSNR; bicubic, whose protocol is known to the digit, by its SSIM too.
    """
    printed = {key.split()[-1]: value for key, value in paper.items()}
    off_db, off_ssim = psnr_db - printed["psnr_db"], ssim_mean - printed["ssim"]
    difference = f"{off_db:+.3f} dB"
    if method.name == "bicubic":
        ssim_tolerance = BICUBIC_SSIM_TOLERANCES.get(dataset, BICUBIC_SSIM_TOLERANCE)
        difference += f", SSIM {off_ssim:+.4f}"
        agrees = abs(off_db) <= BICUBIC_TOLERANCE_DB and abs(off_ssim) <= ssim_tolerance
    else:
        agrees = abs(off_db) <= PSNR_TOLERANCE_DB
    if agrees:
        return "agrees"
    reasons = known_reasons(method, scale, dataset, off_db)
    return f"{difference}: {'; '.join(reasons) or UNEXPLAINED}"


def known_reasons(method: Method, scale: int, dataset: str, off_db: float) -> list[str]:
    """Why a network's PSNR is `off_db` from the printed one, as far as is known."""
    found = []
    reason, most_db = REASONS.get(method.name, ("", 0.0))
    if method.is_ours:
        found.append(ANOTHER_RUN)  # however far: it may have been a short one
    elif abs(off_db) <= most_db:
        found.append(reason)
    slip = SLIPS.get((method.name, scale, dataset))
    if slip is not None and abs(off_db) <= MOST_OF_A_SLIP_DB:
        name, other = slip
        found.append(f"the paper prints {published.METHODS[name]}'s PSNR on {other} here")
    return found


@functools.cache
def code_sha256() -> str:
    """Digest of the code that makes a score: this file and the package `gidrn`."""
    digest = hashlib.sha256()
    for path in sorted([Path(__file__), *Path(zoo.__file__).parent.rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def journal_key(method: Method, dataset: str, scale: int, path: Path) -> dict[str, str | int]:
    """All that the score of one image depends on."""
    return {
        "model": method.name,
        "scale": scale,
        "dataset": dataset,
        "image": path.name,
        "image_sha256": checkpoints.sha256(path),
        "weights_sha256": method.weights_sha256 or "none",
        "protocol": PROTOCOLS["network" if method.network is not None else "bicubic"],
        "code_sha256": code_sha256(),
        "torch": importlib.metadata.version("torch"),
        "numpy": importlib.metadata.version("numpy"),
    }


def score_image(method: Method, path: Path, scale: int) -> Score:
    """Score one method on one image. Raises ValueError that names the image."""
    try:
        high = crop_to_multiple(read_image(path), scale)
        if method.network is None:
            return score_bicubic(high, scale)
        return score_network(method.network, high, scale)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def measure(
    method: Method, dataset: str, scale: int, paths: list[Path], journal: Journal
) -> Record:
    """Score one method on one set: a record with a sample an image, and the means.

    An image that `journal` has is taken from there; the others are added to it, one by one.
    """
    where = records.here()
    scores = []
    for path in tqdm(paths, desc=f"{method.name} x{scale} {dataset}", leave=False, disable=None):
        key = journal_key(method, dataset, scale, path)
        known = journal.get(key)
        if known is None:
            score = score_image(method, path, scale)
            journal.add(key, dataclasses.asdict(score))
        else:
            score = Score(**known)
        scores.append(score)
    psnr_db = float(np.mean([score.psnr_db for score in scores]))
    ssim_mean = float(np.mean([score.ssim for score in scores]))
    worst = min(range(len(scores)), key=lambda i: scores[i].psnr_db)
    values: dict[str, records.Value] = {
        "psnr_db": psnr_db,
        "ssim": ssim_mean,
        "worst_image": paths[worst].stem,
        "worst_psnr_db": scores[worst].psnr_db,
        "images": " ".join(path.name for path in paths),
    }
    paper = published_scores(method.name, scale, dataset)
    if method.network is not None:
        least = min(range(len(scores)), key=lambda i: scores[i].gain_db)
        values["least_gain_image"] = paths[least].stem
        values["least_gain_db"] = scores[least].gain_db
        values["weights_sha256"] = method.weights_sha256
    if paper:
        values["verdict"] = verdict(method, scale, dataset, psnr_db, ssim_mean, paper)
    is_network = method.network is not None
    return records.record(
        What(
            method.name,
            scale,
            "torch-cpu" if is_network else "numpy",
            precision="fp32" if is_network else "fp64",
            weights=method.weights,
            input=dataset,
        ),
        How(PROTOCOLS["network" if is_network else "bicubic"], samples=len(scores)),
        figures=[
            Figure.of(f"psnr_y_border{scale}_db", [score.psnr_db for score in scores]),
            Figure.of(f"ssim_y_border{scale}", [score.ssim for score in scores]),
        ],
        values=values,
        published=paper,
        where=where,
    )


def quality_table(found: list[Record]) -> str:
    """Measured and published figures in columns of their own, as a Markdown table."""
    rows = []
    for entry in found:
        values: dict[str, Any] = dict(entry.values)
        paper: dict[str, Any] = {key.split()[-1]: value for key, value in entry.published.items()}
        tables = sorted({key.rpartition(" ")[0] for key in entry.published})
        cells = []
        for key, digits in (("psnr_db", 3), ("ssim", 4)):
            cells.append(f"{values[key]:.{digits}f}")
            if key in paper:
                printed = paper[key]
                decimals = 2 if key == "psnr_db" else 4
                cells += [f"{printed:.{decimals}f}", f"{values[key] - printed:+.{digits}f}"]
            else:
                cells += ["", ""]
        gain = (
            f"{values['least_gain_db']:+.2f} ({values['least_gain_image']})"
            if "least_gain_db" in values
            else ""
        )
        worst = f"{values['worst_psnr_db']:.2f} ({values['worst_image']})"
        where, said = ", ".join(tables), str(values.get("verdict", ""))
        weights = entry.what.weights
        name = entry.what.model if weights == "none" else f"{entry.what.model}, {weights}"
        start = [name, f"x{entry.what.scale}", entry.what.input]
        rows.append([*start, *cells, where, said, worst, gain])
    return markdown_table(
        [
            *("method", "scale", "set", "PSNR here, dB", "PSNR paper", "difference"),
            *("SSIM here", "SSIM paper", "difference", "paper's", "verdict"),
            "worst image, dB",
            "least gain over bicubic, dB",
        ],
        rows,
    )


def unexplained(found: list[Record]) -> list[str]:
    """The rows that differ from the paper's for no known reason."""
    return [
        f"{entry.what.model} x{entry.what.scale} on {entry.what.input}"
        for entry in found
        if str(entry.values.get("verdict", "")).endswith(UNEXPLAINED)
    ]


def skipped_list(skipped: list[Skipped], passed_over: list[str]) -> str:
    """A line a network and factor, then a line a file: what was not measured, and why."""
    lines = [f"- {one.name} x{one.scale}: {one.reason}" for one in skipped]
    lines += [
        f"- file {name}: it is called otherwise than such as imdn_x4.pth" for name in passed_over
    ]
    return "\n".join(["not measured:", *lines])


def main(
    models: str = "bicubic,gidrn",
    dataset: str = "Set5,Set14,B100",
    scale: str = "4",
    data_root: Path | None = None,
    weights_root: Path | None = None,
    out: Path = records.RESULTS / "local" / "quality.json",
) -> int:
    """Measure PSNR and SSIM on Y, and show them beside the paper's Table 4.

    A run that was stopped goes on where it stood when it is started again with the same --out. Exit
    code 1 where a row differs from the paper's and no reason is known (for bicubic, the images, the
    resize or the metrics are then not those of the published tables), and where --models all
    finds weights that cannot be used.

    Args:
        models: bicubic and networks of the zoo, with commas between; or all, which leaves out and
            names those without weights.
        dataset: among Set5, Set14, B100, Urban100 and Manga109, with commas between.
        scale: factors, with commas between.
        data_root: folder with the sets' high-resolution images; else the variable GIDRN_DATA.
        weights_root: folder with files such as gidrn_x2.safetensors; else the variable
            GIDRN_WEIGHTS, else the weights that ship.
        out: the JSON file to write; OUT.journal beside it holds finished images until then.
    """
    scales, datasets = arguments.scales(scale), benchmark_sets.parse_names(dataset)
    names = arguments.models(models, MODELS)
    weights = weight_files.folder(weights_root)
    skipped: list[Skipped] = []
    if models.strip() == "all":
        methods, skipped = open_all(scales, weights)
        if faulty := [one for one in skipped if one.is_fault]:
            print(skipped_list(faulty, []), file=sys.stderr)
    else:
        methods = {(name, s): open_method(name, s, weights) for s in scales for name in names}
    root = benchmark_sets.data_root(data_root)
    paths = {
        (name, s): benchmark_sets.find_images(name, root, s) for name in datasets for s in scales
    }
    records.check_writable(out)
    journal = Journal(out.with_name(f"{out.name}.journal"))
    if len(journal):
        print(f"going on with {journal.path}: {len(journal)} scores are in it", file=sys.stderr)
    found = [
        measure(methods[name, s], dataset_name, s, paths[dataset_name, s], journal)
        for s in scales
        for dataset_name in datasets
        for name in names
        if (name, s) in methods
    ]
    records.write_records(out, found)
    journal.remove()
    print(quality_table(found))
    print(
        f"\nOn Y, a border of as many pixels as the factor cut. Bicubic: {PROTOCOLS['bicubic']}. "
        f"Networks: {PROTOCOLS['network']}; their gain is over bicubic by the same protocol. "
        f"agrees: PSNR within {PSNR_TOLERANCE_DB} dB of the paper's; for bicubic "
        f"{BICUBIC_TOLERANCE_DB} dB, and SSIM within {BICUBIC_SSIM_TOLERANCE} "
        f"(Set14 {BICUBIC_SSIM_TOLERANCES['Set14']})."
    )
    print(f"written to {out}")
    if skipped:
        print(skipped_list(skipped, weight_files.passed_over(weights, MODELS)))
    if missing := unexplained(found):
        print(f"differs from the paper for no known reason: {'; '.join(missing)}")
    return int(bool(missing) or any(one.is_fault for one in skipped))


if __name__ == "__main__":
    command_line.run(main)
