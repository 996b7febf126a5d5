"""What the paper prints in Tables 1 to 6 and in its prose, typed; the files are in `published/`.

Published figures are other people's, from other machines: they stand beside measured ones, never
among them. The slips of the printed tables are kept as printed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "published"

DATASETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
"""The benchmark sets in Table 4's order."""

METHODS: dict[str, str] = {
    "gidrn": "G-IDRN",
    "idrn": "IDRN",
    "rfdn": "RFDN",
    "rfdn_l": "RFDN-L",
    "rfdn_aim": "RFDN (AIM 2020)",
    "imdn": "IMDN",
    "imdn_jdsr": "IMDN-JDSR",
    "pan": "PAN",
    "latticenet": "LatticeNet",
    "smsr": "SMSR",
    "carn": "CARN",
    "carn_m": "CARN-M",
    "edsr": "EDSR",
    "rcan": "RCAN",
    "srmdnf": "SRMDNF",
    "idn": "IDN",
    "memnet": "MemNet",
    "drrn": "DRRN",
    "drcn": "DRCN",
    "lapsrn": "LapSRN",
    "vdsr": "VDSR",
    "fsrcnn": "FSRCNN",
    "srcnn": "SRCNN",
    "bicubic": "Bicubic",
}
"""Our names, and the paper's for the same methods; CARN-M, RFDN of AIM 2020, VDSR and FSRCNN are in
none of its tables."""


RIVALS = (
    *("Bicubic", "SRCNN", "FSRCNN", "VDSR", "DRCN", "LapSRN", "DRRN", "MemNet", "IDN", "SRMDNF"),
    *("CARN", "SMSR", "IMDN", "IMDN-JDSR", "PAN", "RFDN-L", "LatticeNet"),
)
"""Whom Section 3.4 says it compares with, in its order and by the paper's names."""


@dataclass(frozen=True)
class Score:
    """PSNR and SSIM on Y, as printed."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Table1Row:
    """What one mixture of the paper's parts reaches at x2 (Section 3.3)."""

    block: str
    """RFDB or G-IDB."""
    channels: int
    dual_path: bool
    dense_shortcut: bool
    anrb: bool
    psnr_db: Mapping[str, float]
    """By data set: Set5 alone."""
    params_k: float
    """Thousands of parameters, shortcut scalars not counted. The last row's is not explained."""


@dataclass(frozen=True)
class Table2Row:
    """What one sampling of ANRB's keys and values reaches at x2, and needs (Section 3.3)."""

    samples: str
    """S, a number of points; "none" without ANRB, "infinite" without sampling."""
    pool_sizes: tuple[int, ...]
    """Sides of the pooled maps; () for "none" and "infinite"."""
    psnr_db: Mapping[str, float]
    """By data set, Set5 and Manga109; one that ran out of memory is missing."""
    memory_mb: Mapping[int, int]
    """By the side of a square low-resolution input in pixels, 128 and 180."""


@dataclass(frozen=True)
class Table3Row:
    """What G-IDRN reaches at x2 with one pair of loss weights (Section 3.3)."""

    alpha: float
    """Of L1."""
    beta: float
    """Of the high-frequency term."""
    psnr_db: Mapping[str, float]
    """By data set, all five."""


@dataclass(frozen=True)
class Table4Row:
    """One method at one factor: quality on the five sets, and size."""

    method: str
    """The paper's name."""
    scale: int
    params_k: int | None
    """Thousands of parameters; None for Bicubic."""
    scores: Mapping[str, Score]
    """By data set; a set without a printed score is missing."""


@dataclass(frozen=True)
class Table5Row:
    """Multiply-adds of one method, counted by the AIM 2020 rule.

    The last two rows are not in the paper's Table 5: Section 3.3 names them in its text.
    """

    method: str
    """The paper's name."""
    scale: int
    size_hw: tuple[int, int]
    """Size of the low-resolution input."""
    flops_g: float
    """Billions of multiply-adds."""
    set14_psnr_db: float | None
    set14_ssim: float | None


@dataclass(frozen=True)
class Table6Row:
    """Time of one method on one GPU."""

    method: str
    """The paper's name."""
    scale: int
    dataset: str
    gpu: str
    psnr_db: float
    ssim: float
    params_k: int
    """Thousands of parameters. RFDN-L's is its x3 count and IDRN's its x2 count, as printed."""
    train_s_per_100_iter: float | None
    """Seconds for 100 training steps."""
    inference_s: float
    """Mean seconds an image."""


@dataclass(frozen=True)
class Marks:
    """Whom Table 4 prints in bold and whom underlined, in one column at one factor."""

    scale: int
    dataset: str
    measure: str
    """ "psnr_db" or "ssim"."""
    best: tuple[str, ...]
    """Bold: the paper's names of methods."""
    second: tuple[str, ...]
    """Underlined; one column has nobody."""


@dataclass(frozen=True)
class Statement:
    """A figure in the paper's running text."""

    place: str
    value: float
    unit: str
    words: str
    """The sentence, in English and shortened."""


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None


def table1() -> list[Table1Row]:
    """The dual path, dense shortcut, ANRB and G-IDB, one by one and together."""
    return [
        Table1Row(
            row["block"],
            int(row["channels"]),
            row["dual_path"] == "1",
            row["dense_shortcut"] == "1",
            row["anrb"] == "1",
            {"Set5": float(row["set5_x2_psnr_db"])},
            float(row["params_k"]),
        )
        for row in _rows("table1_ablation.csv")
    ]


def table2() -> list[Table2Row]:
    """Points that ANRB samples, from none to all."""
    return [
        Table2Row(
            row["samples"],
            tuple(int(size) for size in row["pool_sizes"].split()),
            {
                dataset: float(printed)
                for dataset in ("Set5", "Manga109")
                if not (printed := row[f"{dataset.lower()}_x2_psnr_db"]).startswith("out of memory")
            },
            {side: int(row[f"memory_mb_{side}"]) for side in (128, 180)},
        )
        for row in _rows("table2_anrb_sampling.csv")
    ]


def table3() -> list[Table3Row]:
    """Weights of the two losses."""
    return [
        Table3Row(
            float(row["alpha_l1"]),
            float(row["beta_hf"]),
            {dataset: float(row[f"{dataset.lower()}_x2"]) for dataset in DATASETS},
        )
        for row in _rows("table3_loss_weights.csv")
    ]


def table4() -> list[Table4Row]:
    """PSNR and SSIM of every method on the five sets, at x2, x3 and x4."""
    return [
        Table4Row(
            row["method"],
            int(row["scale"]),
            _whole(row["params_k"]),
            {
                dataset: Score(
                    float(row[f"{dataset.lower()}_psnr_db"]), float(row[f"{dataset.lower()}_ssim"])
                )
                for dataset in DATASETS
                if row[f"{dataset.lower()}_psnr_db"]
            },
        )
        for row in _rows("table4.csv")
    ]


def table5() -> list[Table5Row]:
    """Multiply-adds at a 256x256 input."""
    rows = []
    for row in _rows("table5_flops.csv"):
        height, width = (int(side) for side in row["input"].split("x"))
        rows.append(
            Table5Row(
                row["method"],
                int(row["scale"]),
                (height, width),
                float(row["flops_g"]),
                _number(row["set14_psnr_db"]),
                _number(row["set14_ssim"]),
            )
        )
    return rows


def table6() -> list[Table6Row]:
    """Training and inference time on a GTX 1080 Ti."""
    return [
        Table6Row(
            row["method"],
            int(row["scale"]),
            row["dataset"],
            row["gpu"],
            float(row["psnr_db"]),
            float(row["ssim"]),
            int(row["params_k"]),
            _number(row["train_s_per_100_iter"]),
            float(row["inference_s"]),
        )
        for row in _rows("table6_runtime.csv")
    ]


def table4_marks() -> list[Marks]:
    """Bold and underlined figures of Table 4, column by column."""
    return [
        Marks(
            int(row["scale"]),
            row["dataset"],
            row["measure"],
            tuple(row["best"].split(";")),
            tuple(name for name in row["second"].split(";") if name),
        )
        for row in _rows("table4_marks.csv")
    ]


def prose() -> dict[str, Statement]:
    """Figures of the running text by name."""
    return {
        row["key"]: Statement(row["place"], float(row["value"]), row["unit"], row["statement"])
        for row in _rows("prose.csv")
    }
