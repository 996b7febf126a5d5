"""The documents' tables are those of the results, and a figure changed by hand is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import generated_tables, readme_tables, records, result_cells
from benchmarks.generated_tables import DOCUMENTS, generated
from benchmarks.result_cells import TIMES, number, results
from gidrn import checkpoints, zoo

TEXTS = {name: (records.PROJECT / name).read_text(encoding="utf-8") for name in DOCUMENTS}


def test_the_documents_hold_what_the_results_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert generated_tables.main(check=True) == 0, capsys.readouterr().out


def test_every_table_of_figures_in_readme_is_generated() -> None:
    rest = generated_tables.BETWEEN.sub("", TEXTS["README.md"])
    by_hand = [line for line in rest.splitlines() if re.match(r"\|.*\d", line)]
    assert by_hand == []


@pytest.mark.parametrize(
    ("document", "name"), [(path, name) for path, tables in DOCUMENTS.items() for name in tables]
)
def test_a_figure_changed_by_hand_is_shown_and_written_over(
    document: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, text in TEXTS.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    head = f"<!-- table {name}: benchmarks/generated_tables.py -->\n"
    before, after = TEXTS[document].split(head)
    line = after.splitlines()[2]
    figure = re.findall(r"\d+\.?\d*", line)[-1]
    spoilt = line.replace(figure, f"{figure}9")
    file = tmp_path / document
    file.write_text(before + head + after.replace(line, spoilt, 1), encoding="utf-8")
    assert generated_tables.main(check=True, root=tmp_path) == 1
    shown = capsys.readouterr().out.splitlines()
    assert f"-{spoilt}" in shown
    assert f"+{line}" in shown
    assert generated_tables.main(root=tmp_path) == 0
    assert file.read_text(encoding="utf-8") == TEXTS[document]


def test_a_result_measured_anew_changes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = records.RESULTS / "export_gidrn_x4_amd-epyc.json"
    text = path.read_text(encoding="utf-8")
    (tmp_path / path.name).write_text(text.replace('"nodes": 4886', '"nodes": 5886'))
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert "| `torch.onnx.export` | 5,886 | one |" in readme_tables.export()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 markers of the table one"),
        ("<!-- table two: benchmarks/generated_tables.py -->\n", "no table is called 'two'"),
        ("<!-- table one: benchmarks/generated_tables.py -->\n| a |\n", "no line <!-- end one -->"),
        (2 * "<!-- table one: benchmarks/generated_tables.py -->\n<!-- end one -->\n", "2 markers"),
    ],
)
def test_markers_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generated(text, {"one": lambda: "| b |\n"})


def test_a_table_is_put_between_its_markers() -> None:
    head, foot = "<!-- table one: benchmarks/generated_tables.py -->\n", "<!-- end one -->\n"
    for old in ("", "| a |\n"):
        made = generated(f"x\n{head}{old}{foot}y\n", {"one": lambda: "| b |\n"})
        assert made == f"x\n{head}| b |\n{foot}y\n"


def test_tables_want_one_record_a_cell() -> None:
    found = result_cells.results("quality")
    with pytest.raises(ValueError, match="0 records of"):
        result_cells.one(found, model="imdn")
    with pytest.raises(ValueError, match="9 records of"):
        result_cells.one(found, model="gidrn")
    with pytest.raises(ValueError, match="a row of 1 cells under 2 headings"):
        result_cells.lines(["a", "b"], "ll", [["c"]])


def test_the_check_needs_no_pytorch() -> None:
    blocked = (
        "import sys; sys.modules['torch'] = None; sys.path[:0] = sys.argv[1:]; "
        "from benchmarks import generated_tables as tables; sys.exit(tables.main(check=True))"
    )
    paths = [str(records.PROJECT), str(records.PROJECT / "runtime")]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *paths], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_s_words_on_fp16_are_the_results() -> None:
    """Prose has no generator, and new weights once left it behind."""
    found = results("fp16_quality")
    for entry in found:
        path = zoo.shipped_weights("gidrn", entry.what.scale)
        assert entry.values["weights_sha256"] == checkpoints.sha256(path)
    plans = {e.what.scale: json.loads(str(e.values["precision_plan"])) for e in found}
    (parts,) = {plan["parts"] for plan in plans.values()}
    further = {scale: len(plan["fp32"]) - 11 for scale, plan in plans.items()}
    told = {scale: {0: "none", 1: "one"}.get(n, str(n)) for scale, n in further.items()}
    worst = max(found, key=lambda entry: number(entry, "largest_difference_levels"))
    levels = number(worst, "largest_difference_levels")
    readme = " ".join(TEXTS["README.md"].replace(TIMES, "x").split())
    assert f"Of G-IDRN's {parts} parts eleven stay FP32 with any weights" in readme
    assert f"{told[2]} at x2, {told[4]} at x4, {told[3]} at x3." in readme
    assert f"a value by {levels:.1f} levels (x{worst.what.scale}, {worst.what.input};" in readme
