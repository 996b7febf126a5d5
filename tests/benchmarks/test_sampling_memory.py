"""Table 2's memory on a network of milliseconds: what is run, what is not, and what is counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import peak_memory, published, records, sampling_memory
from benchmarks.sampling_memory import Case
from export import proof
from gidrn import zoo
from gidrn.networks.anrb import ANRB
from gidrn.networks.gidrn import GIDRNConfig

ROWS = {row.samples: row for row in published.table2()}


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """G-IDRN with 24 channels, one block and no shipped weights."""
    entry = zoo.NETWORKS["gidrn"]
    config = GIDRNConfig(channels=24, groups_of_blocks=1, blocks_per_group=1)
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", dataclasses.replace(entry, config=config))
    monkeypatch.setattr(zoo, "VARIANTS", {})
    monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.create("gidrn", 2).eval()


def test_every_row_has_its_forms() -> None:
    named = [case.name for case in sampling_memory.cases(list(ROWS.values()))]
    assert named[:5] == [
        *("whole_none_none", "whole_50_exact", "whole_50_curve", "anrb_50_exact"),
        "anrb_50_curve",
    ]
    assert len(named) == len(set(named)) == 17


def test_sampling_is_the_rows(network: nn.Module) -> None:
    for name, row in ROWS.items():
        sampled = sampling_memory.with_sampling(network, row)
        blocks = [part.pool_sizes for part in sampled.modules() if isinstance(part, ANRB)]
        assert blocks == ([] if name == "none" else [row.pool_sizes])
    with pytest.raises(ValueError, match="0 ANRBs, and one is wanted"):
        sampling_memory.with_sampling(zoo.create("imdn", 2), ROWS["50"])


def test_what_is_counted_is_the_matrix(network: nn.Module) -> None:
    side = 64
    block = sampling_memory.with_sampling(network, ROWS["infinite"])
    assert isinstance(block.anrb, ANRB)
    alone = sampling_memory.Alone(block.anrb)
    matrix = side**4 * 4 / 2**20
    feature_map = 24 * side**2 * 4 / 2**20
    counted = sampling_memory.counted_mib(alone, (side, side))
    assert 2 * matrix < counted < 2 * matrix + 3 * feature_map


def test_rows_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROWS["none"], ROWS["infinite"]]
    monkeypatch.setattr(published, "table2", lambda: rows)
    ran: list[str] = []
    measured = peak_memory.peak_memory

    def noted(model: Path, **options: object) -> peak_memory.PeakMemory:
        ran.append(model.stem)
        return measured(model, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(peak_memory, "peak_memory", noted)
    out = tmp_path / "memory.json"
    # an image whose matrix of 54 GiB nobody has free, beside one of a few KiB
    monkeypatch.setattr(sampling_memory, "free_mib", lambda: 2_000.0)
    sampling_memory.main(sizes="10x14", unsampled="400x300", threads=1, runs=1, out=out)
    found = records.read_records(out)
    by_case = {
        (entry.what.size_hw, entry.values["part"], entry.values["attention"]): entry
        for entry in found
    }
    assert len(by_case) == len(found) == 9
    for (size_hw, _, how), entry in by_case.items():
        too_large = (size_hw, how) == ((400, 300), "exact")
        assert bool(entry.figures) != too_large
        assert ("not_run" in entry.values and entry.values["not_run"] is not None) == too_large
        counted = entry.values["counted_mib"]
        assert isinstance(counted, float)
        assert (counted > 2 * 120_000**2 * 4 / 2**20) == too_large
    assert len(ran) == 7
    assert by_case[(400, 300), "whole", "curve"].figure("taken_mib").p50 > 10
    shown = capsys.readouterr().out
    assert "not run: needs 107 GiB and 2 GiB may be taken" in shown
    assert "ANRB alone" in shown
    sampling_memory.main(sizes="10x14", unsampled="400x300", threads=1, runs=1, out=out)
    assert records.read_records(out) == found  # nothing is measured twice
    assert len(ran) == 7


def test_another_networks_file_is_not_measured(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "whole.onnx"
    case = Case(ROWS["none"], "whole", None)
    sampling_memory.exported(network, case, path)
    torch.manual_seed(1)
    other = sampling_memory.with_sampling(zoo.create("gidrn", 2), ROWS["none"])
    with pytest.raises(proof.NotProvedError, match="levels from PyTorch"):
        sampling_memory.check(other, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 0}, "--runs"),
        ({"sizes": ""}, "--sizes"),
        ({"sizes": "10"}, "HEIGHTxWIDTH"),
        ({"threads": 0}, "--threads"),
        ({"rows": "60"}, "no row of Table 2 is called '60'"),
        ({"rows": ","}, "--rows wants all"),
        ({"model": "gidr"}, "gidrn"),
        ({"model": "imdn"}, "0 ANRBs"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        sampling_memory.main(out=tmp_path / "m.json", **arguments)  # type: ignore[arg-type]
