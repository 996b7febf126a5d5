"""The audit: what it finds in the paper; a repaired or spoilt figure changes the verdict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import audit, published
from benchmarks.audit import Finding
from benchmarks.contradictions import costs, scores, sizes, training


def changed(folder: Path, file: str, figures: dict[str, str]) -> Path:
    """A copy of the published figures in which some of a file's are others."""
    shutil.copytree(published.FOLDER, folder / "published")
    path = folder / "published" / f"{file}.csv"
    text = path.read_text(encoding="utf-8")
    for printed, other in figures.items():
        assert text.count(printed) == 1
        text = text.replace(printed, other)
    path.write_text(text, encoding="utf-8")
    return path.parent


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return audit.findings()


def test_every_check_says_what_it_compares(found: list[Finding]) -> None:
    assert len({finding.title for finding in found}) == len(found) > 40
    for finding in found:
        assert len(finding.statements) >= 2
        assert all((finding.place, finding.arithmetic, finding.treatment, *finding.statements))


def test_arithmetic_is_that_of_the_networks(found: list[Finding]) -> None:
    by_title = {finding.title: finding for finding in found}
    for title, figures in {
        "Parameters of Table 1's last row": ("372.771", "10,440", "383,211"),
        "Parameters of G-IDRN": ("24 scalars", "564,492"),
        "How many convolutions the dual path does away with": ("-19,872", "-40,656", "-1.30 G"),
        "What ANRB takes for its key": ("243", "194", "534.2 K"),
        "Memory of ANRB's attention": ("2,264.0, printed 2,266", "8,428.0, printed 8,431"),
        "Average PSNR gain at x2": ("0.82 / 0.03 = 27.33",),
        "PSNR of the low and the high frequencies": ("23.82 and 29.06 dB",),
        "G-IDRN on B100 x2": ("32.21 dB", "8.4 times"),
    }.items():
        for figure in figures:
            assert figure in by_title[title].arithmetic


@pytest.mark.parametrize(
    ("check", "file", "repaired"),
    [
        (sizes.last_row_of_table_1, "table1_ablation", {"37.965,383.2": "37.965,372.8"}),
        (sizes.rfdn_l_in_table_6, "table6_runtime", {"0.7363,633": "0.7363,643"}),
        (sizes.idrn_in_table_6, "table6_runtime", {"0.7389,2047": "0.7389,2073"}),
        (sizes.dual_path_removes_one_convolution, "table1_ablation", {"514.2": "493.4"}),
        (sizes.cost_of_a_grouped_convolution, "prose", {"Section 2.2,1,": "Section 2.2,-1,"}),
        (scores.best_everywhere, "table4", {"38.96,0.9773": "38.96,0.9775"}),
        (scores.rows_alike, "table4", {"1006,32.13,0.8937,28.60": "1006,32.12,0.8932,28.55"}),
        (scores.psnr_beside_ssim, "table4", {"32.42,0.9003": "32.22,0.9003"}),
        (
            scores.repeated_training,
            "table2_anrb_sampling",
            {"37.888": "37.893", "37.895": "37.916"},
        ),
        (scores.parts_of_barbara, "prose", {"2.4,7.30": "2.4,26.30"}),
        (costs.growth_of_memory, "table2_anrb_sampling", {"2266,8431": "2266,9431"}),
        (
            training.weights_of_the_losses,
            "prose",
            {
                'last sentence",0.4': 'last sentence",0.60',
                'last sentence",0.6,': 'last sentence",0.4,',
            },
        ),
    ],
)
def test_a_repaired_figure_is_no_contradiction(
    check: Callable[[], Finding],
    file: str,
    repaired: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check().verdict == "contradiction"
    monkeypatch.setattr(published, "FOLDER", changed(tmp_path, file, repaired))
    assert check().verdict == "consistent"


@pytest.mark.parametrize(
    ("check", "file", "printed", "spoilt"),
    [
        (sizes.first_rows_of_table_1, "table1_ablation", "449.4", "449.5"),
        (sizes.scalars_of_the_whole_network, "table4", "G-IDRN,3,565", "G-IDRN,3,564"),
        (sizes.samples_of_the_pyramid, "table2_anrb_sampling", "1 3 6 8", "1 3 6 9"),
        (scores.increments_of_table_1, "prose", "3),0.023", "3),0.032"),
        (scores.urban100_gains_most, "table4", "28.32,0.8552", "28.25,0.8552"),
        (costs.matrices_of_table_2, "table2_anrb_sampling", "232,452", "282,452"),
        (costs.frames_per_second, "table6_runtime", "0.0177", "0.0187"),
        (costs.order_of_times, "table6_runtime", "0.0217", "0.0117"),
        (training.images_of_div2k, "prose", "3.1,800", "3.1,900"),
    ],
)
def test_a_spoilt_figure_is_a_contradiction(
    check: Callable[[], Finding],
    file: str,
    printed: str,
    spoilt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check().verdict == "consistent"
    monkeypatch.setattr(published, "FOLDER", changed(tmp_path, file, {printed: spoilt}))
    assert check().verdict == "contradiction"


def test_findings_are_printed_and_written(
    found: list[Finding],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "findings", lambda: found)
    out = tmp_path / "audit.json"
    audit.main(out=out)
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["schema"] == audit.SCHEMA
    assert [Finding(**{**entry, "statements": tuple(entry["statements"])}) for entry in
            content["findings"]] == found  # fmt: skip
    shown = capsys.readouterr().out
    for finding in found:
        assert shown.count(finding.title) >= 2
        assert finding.arithmetic in shown
    with pytest.raises(FileNotFoundError, match="no folder"):
        audit.main(out=tmp_path / "nowhere" / "audit.json")


def test_marks_name_methods_of_the_table() -> None:
    methods = {row.method for row in published.table4()}
    marks = published.table4_marks()
    assert len(marks) == len(scores.columns())
    for mark in marks:
        assert {*mark.best, *mark.second} <= methods
