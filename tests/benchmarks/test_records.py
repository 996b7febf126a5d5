"""Records: round trip, percentiles by the stated method, files whole or not at all."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import platform
import subprocess
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.records import Commit, Figure, How, Record, What


def test_a_machine_is_looked_at_before_it_is_measured_on() -> None:
    """In the call that makes a record it would be the state after, said to be the one before."""
    late = [
        f"{path.name}:{call.lineno}"
        for path in (records.PROJECT / "benchmarks").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "records.record"
        for given in call.keywords
        if given.arg == "where" and "here(" in ast.unparse(given.value)
    ]
    assert late == []


def a_record() -> Record:
    return records.record(
        What("gidrn", 4, "ort-cpu", size_hw=(80, 120), weights="shipped", input="B100"),
        How("one after the other", clock="perf_counter_ns", copies="none", warm_up=3, samples=2),
        figures=[Figure.of("end_to_end_ms", [12.5, 10.0], ["3096", "8023"])],
        values={"parameters": 579_741, "ratio": 1.0, "note": "grün", "known": None},
        published={"inference_s": 0.0177},
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = [a_record(), dataclasses.replace(a_record(), commit=Commit("ab12", True))]
    path = tmp_path / "out.json"
    records.write_records(path, written)
    assert records.read_records(path) == written
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


def test_a_record_says_where_and_when_and_keeps_the_host_name_out() -> None:
    stamped = a_record()
    assert stamped.where.cpu
    assert stamped.where.cores >= 1
    assert "numpy" in stamped.where.versions
    assert stamped.when.endswith("+00:00")
    if len(platform.node()) > 3:
        assert platform.node() not in repr(stamped)


@pytest.mark.parametrize(
    ("samples", "q", "expected"),
    [
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.5),
        ([5.0, 1.0, 3.0], 50, 3.0),
        ([0.0, 10.0], 90, 9.0),
        (list(range(101)), 99, 99.0),
        (list(range(101)), 0, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 90, 3.7),
    ],
)
def test_percentiles_interpolate_between_samples(
    samples: list[float], q: float, expected: float
) -> None:
    # 1e-12: the last bits of an interpolation.
    assert records.percentile(samples, q) == pytest.approx(expected, abs=1e-12)


def test_a_figure_keeps_its_samples_in_order() -> None:
    figure = Figure.of("t_ms", [3.0, 1.0, 2.0])
    assert figure.samples == (3.0, 1.0, 2.0)
    assert figure.p50 == 2.0
    assert figure.p90 == pytest.approx(2.8)
    with pytest.raises(ValueError, match="at least one"):
        Figure.of("t_ms", [])
    with pytest.raises(ValueError, match="1 samples and 2 labels"):
        Figure.of("t_ms", [1.0], ["a", "b"])


def test_a_figure_is_found_by_name() -> None:
    assert a_record().figure("end_to_end_ms").p50 == 11.25
    with pytest.raises(KeyError, match="end_to_end_ms"):
        a_record().figure("network_only_ms")


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_number_that_json_has_not_is_refused_and_the_old_file_stays(
    tmp_path: Path, bad: float
) -> None:
    path = tmp_path / "out.json"
    records.write_records(path, [a_record()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="finite"):
        records.write_records(path, [dataclasses.replace(a_record(), values={"x": bad})])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no whole JSON"),
        ('{"schema": "gidrn-b', "no whole JSON"),
        ("[]", "schema None"),
        ('{"schema": "other/7", "records": []}', "other/7"),
        (json.dumps({"schema": records.SCHEMA, "records": [{"what": {}}]}), "not whole"),
        (json.dumps({"schema": records.SCHEMA, "records": 3}), "not whole"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "in.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        records.read_records(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        records.read_records(tmp_path / "gone.json")


def test_an_unwritable_target_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        records.check_writable(tmp_path / "no" / "out.json")
    with pytest.raises(IsADirectoryError, match="name a file"):
        records.check_writable(tmp_path)
    records.check_writable(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_the_commit_is_that_of_the_folder_and_dirty_once_a_file_differs(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert records.commit_of(tmp_path) == Commit("unknown", None)
    git("init", "-q")
    assert records.commit_of(tmp_path) == Commit("unknown", None)  # no commit yet
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert records.commit_of(tmp_path) == Commit(git("rev-parse", "HEAD"), False)

    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "fps.json").write_text("{}")
    assert records.commit_of(tmp_path).dirty is False  # results are not what is measured
    (tmp_path / "a.py").write_text("2")
    assert records.commit_of(tmp_path).dirty is True
    # A plain folder inside someone else's work tree has no commit of its own.
    assert records.commit_of(results) == Commit("unknown", None)


def test_a_record_carries_the_machines_state_before_and_after(tmp_path: Path) -> None:
    before = records.here()
    written = records.record(What("gidrn", 4, "none"), How("counted"), where=before)
    assert written.where.state == before.state
    assert written.after is not None
    assert written.after.when == written.when
    records.write_records(tmp_path / "new.json", [written])
    assert records.read_records(tmp_path / "new.json") == [written]


def test_a_file_from_before_states_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    records.write_records(path, [a_record()])
    content = json.loads(path.read_text())
    for entry in content["records"]:
        del entry["after"], entry["where"]["state"]
    path.write_text(json.dumps(content))
    (found,) = records.read_records(path)
    assert found.after is None
    assert found.where.state is None


def test_clocks_and_power_are_read_where_linux_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
        "/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "/sys/class/power_supply/BAT0/type": "Battery\n",
        "/sys/class/power_supply/BAT0/capacity": "80\n",
        "/sys/class/power_supply/BAT0/status": "Discharging\n",
        "/sys/class/thermal/thermal_zone0/temp": "61500\n",
        "/proc/stat": "cpu  100 0 100 700 0 0 0 100 0 0\n",
    }
    for name, text in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def elsewhere(name: str) -> Path:
        return tmp_path / name.lstrip("/")

    monkeypatch.setattr(records, "Path", elsewhere)
    monkeypatch.setattr(os, "sysconf", lambda _name: 100)
    now = records.state()
    assert now.cpu_mhz == (1800.0, 2400.0)
    assert now.governor == "powersave"
    assert now.power == "battery 80 %, Discharging"
    assert now.temperature_c == 61.5
    assert (now.cpu_s, now.steal_s) == (10.0, 1.0)
