"""Networks and engines of the CPU in turns: what is compared, and the script on tiny pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cpu_engines, exported_models, records
from benchmarks.cpu_engines import Pair
from benchmarks.exported_models import ExportedModel
from benchmarks.turns import Samples
from gidrn_runtime import engines, models


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gidrn", "NETWORK:ENGINE"),
        ("gidrn:ort-cpu", "wants gidrn:native among them"),
        ("gidrn:native,gidrn:no", "there is no engine 'no'|no engine"),
    ],
)
def test_pairs_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cpu_engines.parse_pairs(text)


def test_every_engine_of_the_cpu_makes_a_pair() -> None:
    if not engines.status("openvino").available or not engines.status("native").available:
        pytest.skip("openvino or native is not here")
    pairs = cpu_engines.parse_pairs("gidrn:native,imdn:openvino")
    assert pairs[1] == Pair("imdn", "openvino")


def test_ratios_are_of_the_same_pictures() -> None:
    slow, fast = Samples(end_to_end_ms=[4.0, 40.0, 400.0]), Samples(end_to_end_ms=[2.0, 10.0, 10.0])
    assert cpu_engines.ratio(slow, fast) == 4.0


def test_the_script_on_tiny_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = engines.status("native")
    if not status.available:
        pytest.skip(status.reason)
    made = ExportedModel(models.find("gidrn_x4"), "shipped", 1, 0.0)
    monkeypatch.setattr(exported_models, "exported", lambda *_, **__: made)
    out = tmp_path / "cpu.json"
    pairs = "gidrn:native,gidrn:ort-cpu"
    assert cpu_engines.main(pairs=pairs, sizes="8x12", threads="1", runs=2, out=out) == 0
    found = records.read_records(out)
    assert [(one.what.model, one.what.engine) for one in found] == [
        ("gidrn", "native"),
        ("gidrn", "ort-cpu"),
    ]
    assert found[0].values["time_over_reference"] == 1
    assert found[0].what.size_hw == (8, 12)
    printed = capsys.readouterr().out
    assert "| gidrn   |  native |" in printed
    with pytest.raises(ValueError, match="--runs is at least 1"):
        cpu_engines.main(pairs=pairs, runs=0, out=out)


def test_a_pairs_name_is_both_names() -> None:
    assert Pair("imdn", "ort-cpu").name == "imdn ort-cpu"
