"""The table of all networks: each cell is what another benchmark measured, or "-"."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import complexity, records, rivals
from benchmarks.records import Figure, How, What
from gidrn import zoo


def entry(
    model: str, dataset: str, weights: str, verdict: str | None = None, **values: float
) -> records.Record:
    engine = "ort-cpu" if "ms" in values else "torch-cpu"
    what = What(model, 4, engine, precision="fp32", weights=weights, input=dataset)
    figures = []
    if "ms" in values:
        figures = [
            Figure.of("end_to_end_ms", [values.pop("ms")]),
            Figure.of("time_over_gidrn", [values.pop("ratio")]),
        ]
    how = How("made up", clock="none", copies="none", warm_up=0, samples=1)
    said = {} if verdict is None else {"verdict": verdict}
    return records.record(what, how, figures=figures, values={**values, **said})


@pytest.fixture
def results(tmp_path: Path) -> dict[str, str]:
    """Files as the benchmarks write them."""
    made = {
        "complexity": complexity.measure(["imdn", "bicubic"], [4], complexity.PAPER_SIZE_HW),
        "quality": [
            entry("imdn", "Set5", "file imdn_x4.pth", psnr_db=32.2049),
            entry("gidrn", "B100", "shipped", psnr_db=27.5),
            entry("pan", "B100", "file pan.pth", "-0.1 dB: another training run", psnr_db=27.5),
        ],
        "speed": [
            entry("imdn", "B100", "random (seed 0)", ms=123.45, ratio=0.5, proof_levels=0.000123)
        ],
    }
    for name, found in made.items():
        records.write_records(tmp_path / f"{name}.json", found)
    return {name: str(tmp_path / f"{name}.json") for name in made}


def cells(text: str) -> dict[str, dict[str, str]]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def test_every_network_has_a_row_of_what_was_measured(
    results: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rivals.main(**results, scale="4", out=tmp_path / "rivals.md")
    text = capsys.readouterr().out
    assert (tmp_path / "rivals.md").read_text(encoding="utf-8") == text
    table = cells(text)
    assert list(table) == list(zoo.NETWORKS)
    assert table["imdn"] == {
        "network": "imdn",
        "scale": "x4",
        "parameters, K (paper)": "715.2 (715)",
        "multiply-adds, G": "46.60",
        "weights": "the authors'",
        "Set5, dB (paper)": "32.20 (32.21)",
        "Set14, dB (paper)": "- (28.58)",
        "B100, dB (paper)": "- (27.56)",
        "ONNX proof, levels": "0.00012",
        "B100, ms": "123.5",
        "time / gidrn's": "0.50",
    }
    assert table["gidrn"]["weights"] == "shipped"
    assert table["gidrn"]["B100, dB (paper)"] == "27.50 (27.61)"
    assert table["gidrn"]["parameters, K (paper)"] == "-"
    assert table["pan"]["weights"] == "file pan.pth"
    assert table["bicubic"]["parameters, K (paper)"] == "0.0"
    assert table["bicubic"]["weights"] == "none needed"
    assert table["smsr"]["weights"] == table["lapsrn"]["weights"] == "authors' files load"
    assert table["rfdn_l"]["weights"] == "-"
    assert table["vdsr"]["Set5, dB (paper)"] == "-"


def test_what_the_legend_does_not_fit_is_refused(results: dict[str, str], tmp_path: Path) -> None:
    small = complexity.measure(["imdn"], [4], (64, 64))
    records.write_records(tmp_path / "small.json", small)
    with pytest.raises(ValueError, match=r"imdn was counted at \(64, 64\)"):
        rivals.main(complexity=str(tmp_path / "small.json"))
    timed = entry("imdn", "540x960, generated", "shipped", ms=1.0, ratio=1.0)
    records.write_records(tmp_path / "size.json", [timed])
    with pytest.raises(ValueError, match="imdn was timed on ort-cpu, fp32, 540x960, generated"):
        rivals.main(results["complexity"], results["quality"], str(tmp_path / "size.json"))


def test_without_times_there_are_none(
    results: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    rivals.main(results["complexity"], results["quality"], scale="2,4")
    text = capsys.readouterr().out
    assert "Timed on" not in text
    assert cells(text)["imdn"]["B100, ms"] == "-"


def test_a_missing_file_is_said(results: dict[str, str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"no benchmark results gone\.json"):
        rivals.main(results["complexity"], "gone.json")
