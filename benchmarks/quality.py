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
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from benchmarks import published, records, weight_files
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from gidrn import benchmark_sets, checkpoints, command_line, evaluation, zoo
from gidrn.images import as_rgb, read_image
from gidrn.metrics import luma, psnr, ssim
from gidrn.resize import crop_to_multiple, downscale, imresize

PSNR_TOLERANCE_DB = 0.01
"""How far the bicubic row may be from Table 4's PSNR."""

SSIM_TOLERANCE = 0.0005
"""How far the bicubic row may be from Table 4's SSIM."""

SSIM_TOLERANCES = {"Set14": 0.001}
"""Sets with another tolerance; see above for what Set14's difference is."""

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

    A file is called such as `imdn_x4.safetensors` or `imdn_x4.pth`. Raises ValueError for unknown
    names and where there are no weights, or such as do not fit: none are made up.
    """
    if name == "bicubic":
        return Method(name, None)
    if name not in zoo.NETWORKS:
        raise zoo.unknown("model", name, ["bicubic", *zoo.NETWORKS])
    looked_for = weight_files.names(weights_root, name, scale)
    for path in looked_for:
        if path.is_file():
            network = zoo.load(name, scale, weights=path)
            return Method(name, network, f"file {path.name}", checkpoints.sha256(path))
    try:
        path = zoo.shipped_weights(name, scale)
    except ValueError as error:
        where = f", and there is no {' or '.join(map(str, looked_for))}" if looked_for else ""
        raise ValueError(
            f"{name} x{scale} cannot be scored: {error}{where} (see --weights-root)"
        ) from error
    return Method(name, zoo.load(name, scale), "shipped", checkpoints.sha256(path))


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


def verdict(dataset: str, psnr_db: float, ssim_mean: float, paper: dict[str, float]) -> str:
    """ "agree" or "differ": whether a bicubic row is Table 4's within the tolerances."""
    ssim_tolerance = SSIM_TOLERANCES.get(dataset, SSIM_TOLERANCE)
    near = abs(psnr_db - paper["Table 4 psnr_db"]) <= PSNR_TOLERANCE_DB
    return (
        "agree" if near and abs(ssim_mean - paper["Table 4 ssim"]) <= ssim_tolerance else "differ"
    )


def measure(method: Method, dataset: str, scale: int, paths: list[Path]) -> Record:
    """Score one method on one set: a record with a sample an image, and the means."""
    scores = []
    for path in tqdm(paths, desc=f"{method.name} x{scale} {dataset}", leave=False, disable=None):
        try:
            high = crop_to_multiple(read_image(path), scale)
            scores.append(
                score_bicubic(high, scale)
                if method.network is None
                else score_network(method.network, high, scale)
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
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
    elif paper:
        values["verdict"] = verdict(dataset, psnr_db, ssim_mean, paper)
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
        where = ", ".join(tables)
        weights = entry.what.weights
        name = entry.what.model if weights == "none" else f"{entry.what.model}, {weights}"
        rows.append([name, f"x{entry.what.scale}", entry.what.input, *cells, where, worst, gain])
    return markdown_table(
        [
            *("method", "scale", "set", "PSNR here, dB", "PSNR paper", "difference"),
            *("SSIM here", "SSIM paper", "difference", "paper's", "worst image, dB"),
            "least gain over bicubic, dB",
        ],
        rows,
    )


def parse_scales(scale: str) -> list[int]:
    """Factors from "4" or "2,3,4"."""
    parts = [part.strip() for part in scale.split(",")]
    if not all(part.isdecimal() and int(part) in zoo.SCALES for part in parts):
        raise ValueError(f"--scale wants one or more of 2, 3 and 4 (such as 2,4), not {scale!r}")
    return [int(part) for part in parts]


def main(
    models: str = "bicubic,gidrn",
    dataset: str = "Set5,Set14,B100",
    scale: str = "4",
    data_root: Path | None = None,
    weights_root: Path | None = None,
    out: Path = records.RESULTS / "local" / "quality.json",
) -> int:
    """Measure PSNR and SSIM on Y, and show them beside the paper's Table 4.

    Exit code 1 where the bicubic row is further from the paper's than the tolerance: then the
    images, the resize or the metrics are not those of the published tables.

    Args:
        models: bicubic and networks of the zoo, with commas between.
        dataset: among Set5, Set14, B100, Urban100 and Manga109, with commas between.
        scale: factors, with commas between.
        data_root: folder with the sets' high-resolution images; else the variable GIDRN_DATA.
        weights_root: folder with files such as gidrn_x2.safetensors; else the variable
            GIDRN_WEIGHTS, else the weights that ship.
        out: the JSON file to write.
    """
    scales, datasets = parse_scales(scale), benchmark_sets.parse_names(dataset)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--models wants names among bicubic, {', '.join(zoo.NETWORKS)}")
    weights = weight_files.folder(weights_root)
    methods = {(name, s): open_method(name, s, weights) for s in scales for name in names}
    root = benchmark_sets.data_root(data_root)
    paths = {
        (name, s): benchmark_sets.find_images(name, root, s) for name in datasets for s in scales
    }
    records.check_writable(out)
    found = [
        measure(methods[name, s], dataset_name, s, paths[dataset_name, s])
        for s in scales
        for dataset_name in datasets
        for name in names
    ]
    records.write_records(out, found)
    print(quality_table(found))
    print(
        f"\nOn Y, a border of as many pixels as the factor cut. Bicubic: {PROTOCOLS['bicubic']}. "
        f"Networks: {PROTOCOLS['network']}; their gain is over bicubic by the same protocol."
    )
    print(f"written to {out}")
    off = [f"{e.what.input} x{e.what.scale}" for e in found if e.values.get("verdict") == "differ"]
    if off:
        print(
            f"bicubic differs from Table 4 by more than {PSNR_TOLERANCE_DB} dB or "
            f"{SSIM_TOLERANCE} (Set14 {SSIM_TOLERANCES['Set14']}) on {', '.join(off)}"
        )
        return 1
    return 0


if __name__ == "__main__":
    command_line.run(main)
