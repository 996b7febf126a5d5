"""`auto` among engines of the CPU: what is measured, kept and taken, by a clock of these tests."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import (
    EngineError,
    EngineUnavailable,
    ModelError,
    Upscaler,
    engine_choice,
    engines,
    models,
)
from gidrn_runtime.__main__ import main
from gidrn_runtime.engine_choice import Choice, Chooser, Kept
from gidrn_runtime.engines.base import Array
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.tiling import Tiling

FRAME = np.full((40, 60, 3), 128, np.uint8)
NOW = {"s": 0.0}
"""The time of this file's clock: engines move it on by what they are said to take."""


class Played(OrtCpu):
    """An engine that takes `seconds_per_pixel` by the test's clock."""

    seconds_per_pixel = 1e-6
    opened = 0
    still_open = 0
    version = "1"
    fault: Exception | None = None
    gain = 1.0

    def __init__(self, model: Path, threads: int | None = None) -> None:
        if self.fault is not None:
            raise self.fault
        super().__init__(model, 1)
        type(self).opened += 1
        type(self).still_open += 1

    @classmethod
    def installed_version(cls) -> str:
        return cls.version

    @classmethod
    def build(cls) -> str:
        return cls.version

    def run(self, tensor: Array) -> Array:
        NOW["s"] += self.seconds_per_pixel * tensor.shape[2] * tensor.shape[3]
        high: Array = super().run(tensor) * np.float32(self.gain)
        return high

    def close(self) -> None:
        if self._session is not None:
            type(self).still_open -= 1
        super().close()


def played(name: str) -> type[Played]:
    """An engine of its own."""
    made: type[Played] = type(name, (Played,), {"name": name, "tile_engine": name})
    return made


class Table:
    """Three engines of the CPU: `a` and `b`, which open quickly, and `slow`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a, self.b, self.slow = (played(name) for name in ("a", "b", "slow"))
        self.slow.opens_slowly = True
        self.measured = 0

    @property
    def file(self) -> Path:
        return self.folder / "gidrn" / "engine_choice.json"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The three engines in place of the real ones, and an empty cache folder; nothing sleeps."""
    made = Table(tmp_path / "cache")
    for name in ("a", "b", "slow"):
        monkeypatch.setattr(sys.modules[__name__], name, getattr(made, name), raising=False)
    monkeypatch.setitem(sys.modules, "engines_of_this_test", sys.modules[__name__])
    lines = {name: ("engines_of_this_test", name) for name in ("a", "b", "slow")}
    monkeypatch.setattr(engines, "ENGINES", lines)
    monkeypatch.setattr(engines, "ON_CPU", tuple(lines))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.folder))
    monkeypatch.delenv(engine_choice.VARIABLE, raising=False)
    plain = partial(engine_choice.measure, clock=lambda: NOW["s"], rest=lambda _seconds: None)

    def counted(*arguments: Any, **options: Any) -> Choice:
        made.measured += 1
        return plain(*arguments, **options)

    monkeypatch.setattr(engine_choice, "measure", counted)
    return made


def test_the_first_frame_decides_and_later_upscalers_know(table: Table, tiny: Path) -> None:
    table.a.seconds_per_pixel, table.b.seconds_per_pixel = 3e-6, 1e-6
    with Upscaler(tiny) as upscale:
        assert upscale.engine == "a"
        assert (upscale.describe()["choice"], table.measured) == (None, 0)
        assert upscale(FRAME).shape == (80, 120, 3)
        assert upscale.engine == upscale.describe()["engine"] == "b"
        choice: Any = upscale.describe()["choice"]
        assert choice["ms"]["a"] == pytest.approx(3 * choice["ms"]["b"], rel=0.01)
        assert "doctor --measure" in choice["left_out"]["slow"]
        assert (table.a.still_open, table.b.still_open) == (0, 1)
        upscale(np.zeros((4, 5, 3), np.uint8))
        assert upscale.engine == "b"  # and stays
    opened = table.a.opened
    with Upscaler(tiny) as upscale:
        assert upscale.engine == "b"
        upscale.run_tensor(np.zeros((1, 3, 40, 60), np.float32))
        assert upscale.engine == "b"
    assert (table.measured, table.a.opened) == (1, opened)
    assert table.b.still_open == table.slow.opened == 0


def test_preparing_decides_before_the_first_frame(table: Table, tiny: Path) -> None:
    table.a.seconds_per_pixel, table.b.seconds_per_pixel = 3e-6, 1e-6
    with Upscaler(tiny) as upscale:
        upscale.prepare(40, 60)
        assert (upscale.engine, table.measured) == ("b", 1)
        upscale.prepare(4, 5)
        upscale(FRAME)
        assert (upscale.engine, table.measured) == ("b", 1)
    with pytest.raises(RuntimeError, match="closed"):
        upscale.prepare(40, 60)


def test_what_a_choice_depends_on(table: Table, tiny: Path, make_model: Any) -> None:
    def measured_by(model: Path, frame: np.ndarray, threads: int | None = None) -> bool:
        before = table.measured
        with Upscaler(model, threads=threads) as upscale:
            upscale(frame)
        return table.measured > before

    assert measured_by(tiny, FRAME)
    assert not measured_by(tiny, FRAME[:38, :55])  # about as many pixels
    assert measured_by(tiny, FRAME[:10, :10])
    assert measured_by(tiny, FRAME, threads=2)
    assert not measured_by(tiny, FRAME)
    assert measured_by(make_model(bias=(0.1, 0, 0), name="other.onnx"), FRAME)
    table.slow.version = "2"
    assert measured_by(tiny, FRAME)


def test_large_frames_are_alike(table: Table, tiny: Path) -> None:
    for side in (256, 640):
        with Upscaler(tiny) as upscale:
            upscale(np.zeros((side, side, 3), np.uint8))
    assert table.measured == 1


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": "x"}', '{"schema": 1, "choices": [[]]}'])
def test_a_damaged_file_is_none_and_is_written_anew(table: Table, tiny: Path, damage: str) -> None:
    table.file.parent.mkdir(parents=True)
    table.file.write_text(damage)
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
        assert upscale.describe()["choice"] is not None
    assert json.loads(table.file.read_text())["schema"] == engine_choice.SCHEMA


def test_a_choice_with_other_fields_is_none(table: Table, tiny: Path) -> None:
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
    text = table.file.read_text()
    for field, value in (("ms", {"a": "fast"}), ("frame_hw", 7), ("bucket", None)):
        content = json.loads(text)
        content["choices"][0][field] = value
        table.file.write_text(json.dumps(content))
        before = table.measured
        with Upscaler(tiny) as upscale:
            upscale(FRAME)
        assert table.measured == before + 1


def test_a_folder_that_cannot_be_written_fails_nothing(table: Table, tiny: Path) -> None:
    table.folder.write_text("a file, no folder")
    table.b.seconds_per_pixel = 1e-7
    for _ in range(2):
        with Upscaler(tiny) as upscale:
            upscale(FRAME)
            assert upscale.engine == "b"
    assert table.measured == 2


def test_the_environment_switches_it_off(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.b.seconds_per_pixel = 1e-7

    def engine() -> tuple[str, str]:
        with Upscaler(tiny) as upscale:
            upscale(FRAME)
            return upscale.engine, str(upscale.describe()["no_choice"])

    monkeypatch.setenv(engine_choice.VARIABLE, "kept")
    assert engine() == ("a", "GIDRN_AUTO=kept, and nothing is kept for this size")
    monkeypatch.setenv(engine_choice.VARIABLE, "measure")
    assert engine() == ("b", "")
    monkeypatch.setenv(engine_choice.VARIABLE, "kept")
    assert engine() == ("b", "")
    monkeypatch.setenv(engine_choice.VARIABLE, "first")
    assert engine() == ("a", "")
    assert table.measured == 1
    monkeypatch.setenv(engine_choice.VARIABLE, "fastest")
    with pytest.raises(ValueError, match="GIDRN_AUTO is measure, kept or first, not 'fastest'"):
        Upscaler(tiny)


def test_a_named_engine_is_no_choice(table: Table, tiny: Path) -> None:
    table.b.seconds_per_pixel = 1e-7
    with Upscaler(tiny, engine="a") as upscale:
        upscale(FRAME)
        assert (upscale.engine, table.measured) == ("a", 0)


def test_engines_beyond_the_cpu_come_first(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ON_CPU", ("b", "slow"))
    table.b.seconds_per_pixel = 1e-9
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
        assert (upscale.engine, table.measured) == ("a", 0)


def test_a_file_of_one_size_is_not_timed_at_another(table: Table, make_model: Any) -> None:
    with Upscaler(make_model(size=(1, 40, 60))) as upscale:
        upscale(FRAME)
        assert "of one size alone" in str(upscale.describe()["no_choice"])
    assert table.measured == 0


def test_an_engine_that_fails_or_paints_otherwise_is_not_taken(table: Table, tiny: Path) -> None:
    table.b.seconds_per_pixel = 1e-9
    table.b.fault = EngineUnavailable("no such\nchip")
    with Upscaler(tiny, threads=1) as upscale:
        upscale(FRAME)
        assert upscale.engine == "a"
        choice: Any = upscale.describe()["choice"]
        assert choice["left_out"]["b"] == "no such chip"
    table.b.fault, table.b.gain = None, 0.98
    with Upscaler(tiny, threads=2) as upscale:
        upscale(FRAME)
        choice = upscale.describe()["choice"]
        assert choice["left_out"]["b"] == "its picture is 4 levels from a's"
        assert upscale.engine == "a"


def test_an_engine_chosen_before_that_fails_now(table: Table, tiny: Path) -> None:
    table.b.seconds_per_pixel = 1e-9
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
    for fault in (EngineUnavailable("gone"), ModelError("gone"), MemoryError("gone")):
        table.b.fault = fault
        with Upscaler(tiny) as upscale:
            upscale(FRAME)
            assert upscale.engine == "a"
            assert "b, which was chosen before, fails: gone" in str(upscale.describe()["no_choice"])


def test_an_engine_that_fails_when_it_is_changed_to(table: Table, tiny: Path) -> None:
    table.b.seconds_per_pixel = 1e-9
    with Upscaler(tiny) as upscale:
        with Upscaler(tiny) as other:
            other(FRAME)
        table.b.fault = EngineError("out of order")
        assert (upscale(FRAME) == 128).all()
        assert upscale.engine == "a"
        assert upscale.describe()["no_choice"] == "choosing failed: out of order"
        assert upscale.describe()["choice"] is None


def test_a_change_that_fails_half_way_is_undone(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def side_hw(tiling: Tiling, *_: int) -> None:
        if (tiling._engine, tiling._wish) == ("b", "auto"):
            raise ModelError("no tile file")

    monkeypatch.setattr(Tiling, "side_hw", side_hw)
    table.b.seconds_per_pixel = 1e-9
    with Upscaler(tiny) as upscale:
        assert upscale(FRAME).shape == (80, 120, 3)
        assert upscale.engine == "a"
        assert upscale.describe()["no_choice"] == "choosing failed: no tile file"
        assert table.b.still_open == 0
    assert table.a.still_open == 0


def test_no_engine_is_taken_that_would_need_tiles(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Tiling,
        "side_hw",
        lambda self, *_: (16, 16) if (self._engine, self._wish) == ("b", "auto") else None,
    )
    table.b.seconds_per_pixel = 1e-9
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
        assert upscale.engine == "a"
        assert upscale.tiling is not None
        assert upscale.tiling.form == "whole"
        assert "b is faster, but has to cut 40x60 into tiles" in str(
            upscale.describe()["no_choice"]
        )
    assert table.a.still_open == table.b.still_open == 0


def test_threads_that_call_at_once_get_one_engine(table: Table, tiny: Path) -> None:
    table.b.seconds_per_pixel = 1e-9
    used = []
    with Upscaler(tiny) as upscale:
        gate = threading.Barrier(4)

        def work() -> None:
            gate.wait()
            upscale(FRAME)
            used.append(upscale.engine)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert used == ["b"] * 4
    assert table.measured == 1


def test_two_processes_do_not_measure_at_once(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(engine_choice, "WAIT_S", 0.1)
    with Kept(table.file.parent).alone(0) as is_alone:
        assert is_alone
        with Upscaler(tiny) as upscale:
            upscale(FRAME)
            assert upscale.describe()["no_choice"] == "others have been measuring for 0.1 s"
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
    assert table.measured == 1


def test_who_waited_for_a_measurement_finds_it_written(
    table: Table, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept before others may measure: they would do so again, and may come to another."""
    pytest.importorskip("fcntl")
    keep, is_alone = Chooser.keep, []

    def watched(chooser: Chooser, *arguments: Any) -> Choice:
        with Kept(table.file.parent).alone(0) as another:
            is_alone.append(not another)
        return keep(chooser, *arguments)

    monkeypatch.setattr(Chooser, "keep", watched)
    with Upscaler(tiny) as upscale:
        upscale(FRAME)
    assert is_alone == [True]


def test_the_doctor_times_all_at_the_very_size_and_tells(
    table: Table,
    make_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    model = make_model(name="gidrn_x4.onnx", scale=4)
    assert main(["doctor"]) == 0
    assert "nothing is measured yet" in capsys.readouterr().out
    table.slow.seconds_per_pixel = 1e-7
    assert main(["doctor", "--measure", "--size", "60x40", "--threads", "2"]) == 0
    line = "gidrn_x4.onnx, 2 thread(s), frames of about 64x64 pixels: slow (a frame of 40x60 takes"
    assert line in capsys.readouterr().out
    with Upscaler(model, threads=2) as upscale:
        upscale(FRAME)
        assert (upscale.engine, table.measured) == ("slow", 1)
    assert main(["doctor", "--json"]) == 0
    (choice,) = json.loads(capsys.readouterr().out)["choices"]
    assert (choice["engine"], choice["threads"]) == ("slow", 2)
    monkeypatch.setattr(engines, "ON_CPU", ("a",))
    assert main(["doctor", "--measure"]) == 2
    assert "one engine of the CPU alone is here and takes it" in capsys.readouterr().err


class Plays:
    """Openers for `measure`, engine -> seconds a pixel, that count their runs."""

    def __init__(self, **seconds_per_pixel: float) -> None:
        self.now = 0.0
        self.runs: dict[str, list[tuple[int, ...]]] = {name: [] for name in seconds_per_pixel}
        self.openers = {
            name: partial(self.opened, name, taken) for name, taken in seconds_per_pixel.items()
        }

    @contextmanager
    def opened(self, name: str, seconds_per_pixel: float) -> Iterator[Any]:
        def upscale(frame: np.ndarray) -> np.ndarray:
            self.now += seconds_per_pixel * frame.shape[0] * frame.shape[1]
            self.runs[name].append(frame.shape[:2])
            return frame

        yield upscale

    def measure(self, size_hw: tuple[int, int], **options: bool) -> Choice:
        return engine_choice.measure(
            self.openers, size_hw, clock=lambda: self.now, rest=lambda _s: None, **options
        )


def test_a_slow_machine_is_not_kept_waiting() -> None:
    plays = Plays(a=1e-3, b=2e-3)  # a second and two for the least frame
    assert plays.measure((720, 1280)).engine == "a"
    pixels = {height * width for sizes in plays.runs.values() for height, width in sizes}
    assert max(pixels) <= 1.1 * engine_choice.LEAST_PIXELS
    assert [len(sizes) for sizes in plays.runs.values()] == [2 + 2 + 1, 2 + 1]


def test_a_fast_machine_times_larger_frames() -> None:
    plays = Plays(a=1e-6, b=2e-6)
    found = plays.measure((720, 1280))
    pixels = found.frame_hw[0] * found.frame_hw[1]
    assert pixels == pytest.approx(engine_choice.RUN_S / 1e-6, rel=0.02)
    assert found.ms == {
        "a": pytest.approx(pixels / 1000, abs=0.001),
        "b": pytest.approx(pixels / 500, abs=0.001),
    }


def test_the_tables_order_stands_where_times_are_close() -> None:
    assert Plays(a=1.04e-6, b=1e-6).measure((64, 64)).engine == "a"
    assert Plays(a=1.07e-6, b=1e-6).measure((64, 64)).engine == "b"
    assert Plays(a=2e-6, b=1.03e-6, c=1e-6).measure((64, 64)).engine == "b"


def test_an_exact_measurement_is_of_the_size_itself() -> None:
    plays = Plays(a=1e-3, b=1e-3)
    assert plays.measure((30, 700), exactly=True).frame_hw == (30, 700)
    assert {size for sizes in plays.runs.values() for size in sizes} == {(30, 700)}


@pytest.mark.parametrize(
    ("size_hw", "seconds_per_pixel", "timed"),
    [
        ((8, 8), 1e-3, (8, 8)),
        ((64, 64), 1.0, (32, 32)),
        ((1, 4000), 1.0, (1, 2024)),
        ((720, 1280), 1e-12, (192, 341)),
    ],
)
def test_the_timed_frames_size(
    size_hw: tuple[int, int], seconds_per_pixel: float, timed: tuple[int, int]
) -> None:
    assert engine_choice.timed_size(size_hw, seconds_per_pixel) == timed


def test_where_choices_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_choice.cache_folder() == tmp_path / "gidrn"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(sys, "platform", "linux")
    assert engine_choice.cache_folder() == Path.home() / ".cache" / "gidrn"


def test_only_the_latest_choices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "MOST_KEPT", 3)
    kept = Kept(tmp_path)
    for bucket in range(5):
        kept.add("this", Choice("a", (8, 8), {"a": 1.0}, bucket=bucket))
    assert [one.bucket for one in kept.every("this")] == [2, 3, 4]
    assert kept.every("another") == []
