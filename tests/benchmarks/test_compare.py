"""Comparing two runs: intervals by the book, verdicts beyond noise, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare, median_ratios, records
from benchmarks.compare import FEW, SAME
from benchmarks.records import Commit, Figure, How, Record, What, Where

WHERE = Where("a CPU", ("avx2",), 2, 1, None, "Linux", "3.11.7", {"numpy": "2.0"}, 0.5)
IMAGES = [f"image {i}" for i in range(20)]


def a_record(
    samples: list[float], labels: list[str] | None = None, name: str = "end_to_end_ms"
) -> Record:
    return records.record(
        What("gidrn", 4, "native", size_hw=(80, 120), input="noise"),
        How("in turns", "perf_counter_ns"),
        figures=[Figure.of(name, samples, labels or ()), Figure.of("time_over_imdn", samples)],
        values={"form": "curve", "peak_memory_mib": 100.0, "nodes": 3, "product_per_s": 2.0},
        where=WHERE,
        commit=Commit("ab12", False),
    )


def noisy(level: float, spread: float, count: int = 20, seed: int = 0) -> list[float]:
    return list(level * np.exp(np.random.default_rng(seed).normal(0, spread, count)))


def files(folder: Path, old: list[Record], new: list[Record]) -> tuple[Path, Path]:
    paths = folder / "old.json", folder / "new.json"
    for path, found in zip(paths, (old, new), strict=True):
        records.write_records(path, found)
    return paths


@pytest.mark.parametrize(
    ("first", "second", "confidence", "critical"),
    # critical values of U, two-sided, as tables of the Mann-Whitney test print them
    [(5, 5, 0.95, 2), (8, 8, 0.95, 13), (10, 10, 0.95, 23), (10, 10, 0.99, 16), (7, 12, 0.95, 18)],
)
def test_intervals_of_two_sets_are_those_of_the_u_test(
    first: int, second: int, confidence: float, critical: int
) -> None:
    old = [2.0**i for i in range(first)]
    new = [3 * 2.0**i for i in range(second)]
    ratios = sorted(n / o for n in new for o in old)
    found = median_ratios.of_samples(old, new, confidence)
    assert found is not None
    assert (found.least, found.most) == (ratios[critical], ratios[-critical - 1])
    assert found.ratio == pytest.approx(float(np.median(ratios)))


@pytest.mark.parametrize(
    ("count", "confidence", "critical"),
    [(6, 0.95, 0), (10, 0.95, 1), (15, 0.95, 3), (20, 0.95, 5), (20, 0.99, 3)],  # of the sign test
)
def test_intervals_of_pairs_are_those_of_the_sign_test(
    count: int, confidence: float, critical: int
) -> None:
    ratios = [1 + i / 10 for i in range(count)]
    found = median_ratios.of_pairs([10.0] * count, [10 * ratio for ratio in ratios], confidence)
    assert found is not None
    assert found.least == pytest.approx(ratios[critical])
    assert found.most == pytest.approx(ratios[-critical - 1])


def test_there_is_no_interval_where_chance_alone_could_part_the_samples() -> None:
    assert median_ratios.of_samples([1, 2, 3], [10, 20, 30], 0.95) is None
    assert median_ratios.of_samples([1, 2, 3, 4], [10, 20, 30, 40], 0.95) is not None
    assert median_ratios.of_pairs([1] * 5, [2] * 5, 0.95) is None
    with pytest.raises(ValueError, match="as many new samples as old"):
        median_ratios.of_pairs([1, 2], [1], 0.95)


def test_large_sets_take_the_normal_distribution() -> None:
    old, new = noisy(1, 0.1, 40), noisy(1.2, 0.1, 40, seed=1)
    exact = median_ratios.of_samples(old, new, 0.95)
    large = median_ratios.of_samples([*old, old[0]], new, 0.95)
    assert exact is not None
    assert large is not None
    assert large.least == pytest.approx(exact.least, rel=0.01)
    assert large.most == pytest.approx(exact.most, rel=0.01)


def test_an_interval_holds_the_ratio_as_often_as_it_says() -> None:
    held = 0
    for seed in range(300):
        found = median_ratios.of_samples(
            noisy(1, 0.3, 8, seed), noisy(1.3, 0.3, 8, seed + 1000), 0.9
        )
        assert found is not None
        held += found.least <= 1.3 <= found.most
    # 270 of 300 are meant at least; a standard deviation is 5.2
    assert 255 <= held < 300


@pytest.mark.parametrize(
    ("change", "spread", "verdict", "code"),
    [
        (1.0, 0.02, SAME, 0),
        (1.3, 0.02, "slower", 1),
        (0.7, 0.02, "faster", 0),
        (1.1, 0.5, SAME, 0),  # within the noise
        (1.01, 0.0001, SAME, 0),  # beyond the noise, and too little to matter
    ],
)
def test_a_verdict_is_beyond_the_noise(
    change: float,
    spread: float,
    verdict: str,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = files(
        tmp_path, [a_record(noisy(10, spread))], [a_record(noisy(10 * change, spread, seed=1))]
    )
    assert compare.main(*paths, fail_on="slower") == code
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if "end_to_end_ms" in line)
    assert line.rstrip(" |").endswith(verdict)
    assert "time_over_imdn" not in shown  # moves when IMDN does
    assert "product_per_s" not in shown
    assert "nodes" not in shown
    assert "one number each" in next(line for line in shown.splitlines() if "peak_memory" in line)
    assert ("fails on slower" in shown) == bool(code)


def test_images_are_paired() -> None:
    times = noisy(10, 0.8)  # images of very different sizes, each 5 % slower
    old = Figure.of("end_to_end_ms", times, IMAGES)
    new = Figure.of("end_to_end_ms", [1.05 * time for time in times][::-1], IMAGES[::-1])
    key = compare.Key.of(a_record([1.0]))
    row = compare.compare_figure(key, old, new, 0.99, 0.02)
    assert row is not None
    assert (row.verdict, row.samples) == ("slower", "20 pairs")
    assert row.ratio == pytest.approx(1.05)
    old, new = (dataclasses.replace(figure, labels=()) for figure in (old, new))
    row = compare.compare_figure(key, old, new, 0.99, 0.02)
    assert row is not None
    assert row.verdict == SAME


def test_memory_is_smaller_or_larger() -> None:
    key = compare.Key.of(a_record([1.0]))
    old, new = (Figure.of("peak_memory_mib", noisy(level, 0.01)) for level in (100, 120))
    row, back = (compare.compare_figure(key, *two, 0.99, 0.02) for two in ((old, new), (new, old)))
    assert row is not None
    assert back is not None
    assert (row.verdict, back.verdict) == ("larger", "smaller")
    series = dataclasses.replace(old, name="rss_mib")
    row = compare.compare_figure(key, series, series, 0.99, 0.02)
    assert row is not None
    assert row.interval is None  # its samples depend on each other
    assert compare.compare_figure(key, Figure.of("psnr_db", [1.0]), new, 0.99, 0.02) is None


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("where", "cpu", "another CPU", "CPU: 'a CPU' before, 'another CPU' now"),
        ("where", "arithmetic", ("avx512f",), "vector extensions: 'avx2' before, 'avx512f' now"),
        ("where", "cores", 8, "cores: 2 before, 8 now"),
        ("where", "gpu", "a GPU, 570", "GPU: None before, 'a GPU, 570' now"),
        ("where", "threads", 2, "threads: 1 before, 2 now"),
        ("what", "size_hw", (81, 120), r"size_hw: \(80, 120\) before, \(81, 120\) now"),
        ("what", "input", "B100", "input: noise before, B100 now"),
        ("how", "protocol", "all at once", "protocol: 'in turns' before, 'all at once' now"),
        ("how", "clock", "time.time", "clock: 'perf_counter_ns' before, 'time.time' now"),
        ("how", "copies", "inside", "copies inside the clock: 'none' before, 'inside' now"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    part: str,
    field: str,
    value: object,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = a_record(noisy(10, 0.1))
    changed = dataclasses.replace(getattr(old, part), **{field: value})
    new = dataclasses.replace(old, **{part: changed})
    paths = files(tmp_path, [old], [new])
    with pytest.raises(ValueError, match=message):
        compare.main(*paths)
    assert compare.main(*paths, anyway=True) == 0
    assert "note: " in capsys.readouterr().out


def test_another_network_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    old = a_record([1.0, 2.0])
    new = dataclasses.replace(old, what=dataclasses.replace(old.what, model="imdn"))
    paths = files(tmp_path, [old], [new])
    with pytest.raises(ValueError, match="model: gidrn before, imdn now"):
        compare.main(*paths, anyway=True)
    two = files(tmp_path, [old, old], [old])
    with pytest.raises(ValueError, match="two records of gidrn x4 native fp32 80x120, curve"):
        compare.main(*two)


def test_records_without_a_partner_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = a_record([1.0, 2.0])
    other = dataclasses.replace(old, what=dataclasses.replace(old.what, model="imdn"))
    paths = files(tmp_path, [old, other], [old])
    assert compare.main(*paths) == 0
    assert "old.json: imdn x4" in capsys.readouterr().out
    assert compare.main(*paths, fail_on="unpaired") == 1
    assert compare.main(*paths, fail_on=FEW) == 1


def test_a_shift_of_everything_is_suspected(capsys: pytest.CaptureFixture[str]) -> None:
    interval = median_ratios.Interval(1.2, 1.1, 1.3)
    keys = [
        dataclasses.replace(compare.Key.of(a_record([1.0])), scale=scale) for scale in (2, 3, 4)
    ]
    rows = [compare.Row(key, "end_to_end_ms", 1, 1.2, interval, "9", "slower") for key in keys]
    assert "All times are slower" in compare.report(rows, 0.99)
    rows[1] = dataclasses.replace(rows[1], verdict=SAME)
    assert "All times are" not in compare.report(rows, 0.99)


def test_versions_and_load_are_told() -> None:
    old = a_record([1.0])
    where = dataclasses.replace(WHERE, versions={"numpy": "2.1"}, load=5.0, python="3.12.1")
    told = " ".join(compare.notes(old, dataclasses.replace(old, where=where)))
    for part in ("numpy 2.0 before, 2.1 now", "3.12.1", "load average 0.5 before, 5.0 now"):
        assert part in told
    assert compare.notes(old, old) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": 1.0}, "--confidence"),
        ({"least": -0.1}, "--least"),
        ({"fail_on": "slow"}, "takes slower, larger, unpaired, too few samples, not slow"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], message: str, tmp_path: Path) -> None:
    paths = files(tmp_path, [a_record([1.0])], [a_record([1.0])])
    with pytest.raises(ValueError, match=message):
        compare.main(*paths, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(records.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_each_result_here_is_like_itself(path: Path) -> None:
    keyed = compare.by_key(records.read_records(path), path)
    matched = compare.pairs(keyed, keyed, anyway=False)
    assert len(matched) == len(keyed)
    assert not any(compare.differences(old, new) for _, old, new in matched)
    for row in compare.compare(matched, 0.99, 0.02):
        assert row.verdict in (SAME, FEW, compare.SINGLE)
        assert math.isclose(row.ratio, 1)
