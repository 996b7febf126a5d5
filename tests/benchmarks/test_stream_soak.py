"""The soak, for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import long_stream, records, stream_soak


def test_a_short_soak_balances_its_books(
    tmp_path: Path, program: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    program("ffmpeg")
    out = tmp_path / "soak.json"
    stream_soak.main(
        minutes=0.06, size="24x32", age_ms=60_000, threads=1, restart_minutes=10, out=out
    )
    (entry,) = records.read_records(out)
    values = entry.values
    numbers = [
        values[f"frames_{fate}"] for fate in ("in", "out", "dropped", "failed", "inside_at_end")
    ]
    came, out_, dropped, failed, inside = (int(number or 0) for number in numbers)
    assert came > 0
    assert came == out_ + dropped + failed
    assert inside == failed == 0
    assert values["descriptors_start"] == values["descriptors_end"]
    assert values["threads_start"] == values["threads_end"]
    assert entry.what.weights == "shipped"
    assert entry.what.size_hw == (24, 32)
    assert "MiB an hour" in capsys.readouterr().out


def test_the_trend_of_memory() -> None:
    times_s = [float(second) for second in range(100)]
    growing = [200.0 + second / 3600 for second in times_s]
    assert long_stream.mib_an_hour(times_s, growing) == pytest.approx(1.0)
    assert long_stream.mib_an_hour(times_s[:2], growing[:2]) == 0


def test_impossible_soaks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--minutes"):
        stream_soak.main(minutes=0, out=tmp_path / "soak.json")
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        stream_soak.main(size="big", out=tmp_path / "soak.json")
