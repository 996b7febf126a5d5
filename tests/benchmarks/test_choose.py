"""Choosing for a camera: forecasts, the recommendation, what comes nearest, and the script."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import choose, nearest_ways, records, timed_options
from benchmarks.nearest_ways import SHARE, Nearest
from benchmarks.timed_options import Line, Option
from gidrn_runtime import engines, models
from gidrn_runtime.tiling import Tiling


def option(engine: str, threads: int, seconds: float, **more: object) -> Option:
    """One whose frame of the true size, a thousand pixels, takes so long."""
    facts: dict[str, object] = {"work_pixels": 1000, **more}
    return Option("gidrn_x2", engine, "fp32", threads, Line(0, seconds / 1000), **facts)  # type: ignore[arg-type]


def test_a_line_through_two_times() -> None:
    line = Line.through((100, 0.02), (400, 0.05))
    assert line.fixed_s == pytest.approx(0.01)
    assert line.a_pixel_s == pytest.approx(0.0001)
    assert line.seconds(1000) == pytest.approx(0.11)
    assert line.pixels(0.11) == pytest.approx(1000)
    assert line.pixels(0.001) == 0


@pytest.mark.parametrize(
    ("small", "large"),
    [((100, 0.05), (400, 0.05)), ((100, 0.06), (400, 0.05)), ((100, 0.001), (400, 0.05))],
)
def test_a_line_has_no_part_below_nothing(
    small: tuple[int, float], large: tuple[int, float]
) -> None:
    line = Line.through(small, large)
    assert line.fixed_s >= 0
    assert line.a_pixel_s > 0
    assert line.seconds(large[0]) == pytest.approx(large[1])


def test_the_fewest_threads_that_hold_the_rate_are_recommended() -> None:
    slow, fast = option("ort-cpu", 1, 0.05), option("native", 1, 0.02)
    faster = option("native", 2, 0.01)
    every = [slow, faster, fast]
    assert choose.recommend(every, 30) is fast
    assert choose.recommend(every, 80) is faster
    assert choose.recommend(every, 100) is None  # 0.01 s is all of a frame's time
    assert choose.fastest(every) is faster
    beyond = option("native", 4, 0.001, unfit="too large")
    assert choose.recommend([*every, beyond], 100) is None
    assert beyond.seconds == math.inf
    assert choose.fastest([beyond, slow]) is slow


@pytest.mark.parametrize(
    ("size_hw", "pixels", "fitting"),
    [
        ((720, 1280), 1e9, (720, 1280)),
        ((720, 1280), 230400, (360, 640)),
        ((721, 1281), 1e9, (720, 1280)),
        ((720, 1280), 400, None),
    ],
)
def test_sizes_that_fit(
    size_hw: tuple[int, int], pixels: float, fitting: tuple[int, int] | None
) -> None:
    assert timed_options.fitting_size(size_hw, pixels) == fitting


def test_numbers_of_threads() -> None:
    assert choose.thread_counts(1) == [1]
    assert choose.thread_counts(6) == [1, 2, 4, 6]
    assert choose.thread_counts(8) == [1, 2, 4, 8]


@pytest.mark.parametrize("promise", [0.3, 1.0, 4.0])
def test_the_largest_input_is_found_by_trials(
    monkeypatch: pytest.MonkeyPatch, promise: float
) -> None:
    def played(_enlarge: object, size_hw: tuple[int, int]) -> float:
        return 1e-6 * size_hw[0] * size_hw[1]

    monkeypatch.setattr(nearest_ways, "timed", played)
    line = Line(0, 1e-6 / promise)
    found = nearest_ways.largest_input(lambda frame: frame, line, (720, 1280), 0.1)
    assert found is not None
    (height, width), seconds = found
    assert 0.9 * 0.1 < seconds <= 0.1
    assert width / height == pytest.approx(16 / 9, abs=0.02)
    found = nearest_ways.largest_input(lambda frame: frame, line, (720, 1280), 2.0)
    assert found is not None
    assert found[0] == (720, 1280)
    assert nearest_ways.largest_input(lambda f: f, line, (720, 1280), 1e-4) is None


def test_a_line_that_promises_too_much_is_not_recommended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast, sure = option("native", 1, 0.001), option("ort-cpu", 2, 0.002)

    def at_true_size(one: Option, size_hw: tuple[int, int], _memory: int | None) -> Nearest:
        seconds = 1.0 if one is fast else 0.003
        return Nearest("", one.name, one.model, one.engine, one.threads, size_hw, seconds, True)

    monkeypatch.setattr(choose, "at_true_size", at_true_size)
    text, (result,) = choose.answer([fast, sure], (20, 50), 2, 100, None)
    assert result.engine == "ort-cpu"
    assert 'yes. Take Upscaler("gidrn_x2", engine="ort-cpu", threads=2): fp32, frames whole' in text


def test_tiles_take_the_time_of_the_engine_that_runs_them() -> None:
    native = option("native", 1, 0.01, tile_engine="ort-cpu", tile_hw=(64, 64))
    others = [native, option("ort-cpu", 2, 0.07), option("ort-cpu", 1, 0.03)]
    assert timed_options.by_tile_engine(native, others).seconds == pytest.approx(0.03)


@pytest.fixture
def on_ort(monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine alone, so that the tests are short."""
    monkeypatch.setattr(engines, "that_open", lambda _path: ["ort-cpu"])


@pytest.mark.usefixtures("on_ort")
def test_the_script_where_it_can_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "choose.json"
    code = choose.main(input="24x18", fps=0.01, scale=4, threads="1", out=out)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert '24x18 by 4 at 0.01 frames/s: yes. Take Upscaler("gidrn_x4", engine="ort-cpu"' in printed
    timed, chosen = records.read_records(out)
    assert timed.what.size_hw == chosen.what.size_hw == (18, 24)
    assert timed.figures[0].samples
    assert (chosen.values["kind"], chosen.values["holds"]) == ("recommended", True)
    assert chosen.values["measured"] is True
    assert (chosen.what.model, chosen.what.scale, chosen.where.threads) == ("gidrn", 4, 1)


@pytest.mark.usefixtures("on_ort")
def test_the_script_where_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "choose.json"
    code = choose.main(input="64x48", fps=1e7, scale=3, threads="1", out=out)
    printed = capsys.readouterr().out
    assert code == 3
    for words in (
        "64x48 by 3 at 1e+07 frames/s: it cannot be had here. The fastest, gidrn_x3 on ort-cpu,",
        "- nothing that was tried",
        "- the same output by x4: 48x36 in",
        "- x2, bicubic from there to x3: 64x48 in",
        "- Stream's ladder: 64x48 in, bicubic alone",
    ):
        assert words in printed
    kinds = [one.values.get("kind") for one in records.read_records(out)]
    assert kinds[:2] == [None, "frame rate"]
    assert all(not one.values["holds"] for one in records.read_records(out)[1:])


@pytest.mark.usefixtures("on_ort")
def test_a_rung_of_the_ladder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 0.5
    monkeypatch.setattr(nearest_ways, "timed", lambda enlarge, size_hw: _seen(enlarge, size_hw))
    one = option("ort-cpu", 1, 1.0, work_pixels=100 * 100)  # 0.001 s a pixel: 10 s a frame

    def _seen(enlarge: object, size_hw: tuple[int, int]) -> float:
        high = enlarge(np.zeros((*size_hw, 3), np.uint8))  # type: ignore[operator]
        assert high.shape == (2 * size_hw[0], 2 * size_hw[1], 3)
        return 0.1

    found = nearest_ways.rungs(
        lambda frame: frame.repeat(2, 0).repeat(2, 1), one, (40, 50), 2, limit
    )
    assert [rung.what for rung in found] == [
        "the model on the middle (0.4 of each side), bicubic around",
        "bicubic alone",
    ]


def test_frames_beyond_memory_are_forecast_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    with timed_options.opened_one("gidrn_x4", "ort-cpu", 1, None) as upscale:
        times = [((16, 16), [1.0]), ((32, 32), [4.0])]
        whole = timed_options.option_of("gidrn_x4", 1, upscale, (100, 120), times)
        assert (whole.tile_hw, whole.work_pixels) == (None, 12000)
        assert whole.memory_mib == 64 + 9_700 * 12000 // 2**20
        monkeypatch.setattr(Tiling, "side_hw", lambda *_: (200, 240))
        tiled = timed_options.option_of("gidrn_x4", 1, upscale, (600, 720), times)
    assert tiled.tile_hw is not None
    assert 200 <= tiled.tile_hw[0] < 300
    assert tiled.tile_engine == "ort-cpu"
    assert tiled.work_pixels > 3 * 600 * 720  # two rounds, the picture, and halos
    assert tiled.work_pixels % 3 == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": "720"}, "--input: a size is WIDTHxHEIGHT"),
        ({"fps": 0}, "--fps is above 0, not 0"),
        ({"scale": 5}, "no shipped model enlarges by 5; factors that ship: 2, 3, 4"),
        ({"threads": "0"}, "threads is a whole number >= 1"),
        ({"threads": "1,all"}, "--threads"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose.main(**options)  # type: ignore[arg-type]


def test_without_an_engine_the_doctor_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engines, "that_open", lambda _path: [])
    with pytest.raises(ValueError, match=r"no engine for gidrn_x2 is available .* doctor"):
        choose.main(out=tmp_path / "choose.json")


def test_factors_are_read_off_names() -> None:
    assert timed_options.factor_of("gidrn_x4") == 4
    assert timed_options.factor_of("gidrn") == 0
    assert set(map(timed_options.factor_of, models.shipped())) == {2, 3, 4}
    assert 0 < SHARE < 1
