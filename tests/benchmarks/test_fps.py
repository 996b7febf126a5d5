"""Measuring speed: inputs, turns, ratios, memory, the table, and the script on tiny models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from benchmarks import (
    contenders,
    exported_models,
    fps,
    low_images,
    peak_memory,
    published,
    records,
    turns,
)
from benchmarks.exported_models import ExportedModel
from benchmarks.low_images import LowImages
from benchmarks.records import Commit, Figure, How, Record, What, Where
from benchmarks.turns import Samples
from gidrn import checkpoints, images, resize, zoo
from gidrn_runtime import Upscaler
from gidrn_runtime.errors import FrameTooLargeError
from tests.scripts_here import run_here

SCRIPT = Path(fps.__file__)


def tiny_onnx(path: Path, scale: int = 4, *, value: float = 0.0) -> Path:
    """A toolkit model of a few nodes: the input enlarged pixel by pixel, plus `value`."""
    nodes = [
        helper.make_node("Resize", ["input", "", "scales"], ["big"], mode="nearest"),
        helper.make_node("Add", ["big", "value"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3, "sH", "sW"])],
        [
            helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, scale, scale]),
            helper.make_tensor("value", TensorProto.FLOAT, [], [value]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    metadata = {
        "format": "gidrn-onnx/1",
        "model": path.stem,
        "scale": str(scale),
        "color": "rgb",
        "range": "0-1",
        "context": "global",
        "dtype": "fp32",
        "attention": "exact",
        "weights": "random",
        "weights_sha256": "0" * 64,
        "project_version": "0",
    }
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def tiny_low(count: int = 4) -> LowImages:
    sizes = [(4, 6) if i % 4 else (6, 4) for i in range(count)]
    frames = tuple(low_images.smooth_noise(size, seed=i) for i, size in enumerate(sizes))
    return LowImages("tiny pictures", tuple(f"picture {i}" for i in range(count)), frames)


@pytest.mark.parametrize(
    ("scale", "wide", "tall"),
    [(4, (80, 120), (120, 80)), (3, (107, 160), (160, 107)), (2, (160, 240), (240, 160))],
)
def test_stand_ins_have_exactly_b100s_sizes(
    scale: int, wide: tuple[int, int], tall: tuple[int, int]
) -> None:
    low = low_images.b100_stand_ins(scale)
    assert Counter(low.sizes_hw) == {wide: 77, tall: 23}
    assert "stand-ins" in low.label
    assert len(set(low.names)) == 100


def test_stand_ins_are_the_same_each_time_and_look_like_pictures() -> None:
    first, second = low_images.b100_stand_ins(4), low_images.b100_stand_ins(4)
    for a, b in zip(first.frames, second.frames, strict=True):
        assert a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
    assert len({frame.tobytes() for frame in first.frames}) == 100
    frame = first.frames[0].astype(float)
    assert 20 < frame.std() < 90
    # Neighbours resemble each other: white noise would give 1.4 here, a photo well under half.
    assert np.diff(frame, axis=1).std() / frame.std() < 0.6


def test_a_given_folder_without_the_set_is_an_error_and_never_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIDRN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="B100"):
        low_images.low_images("B100", 4, tmp_path)
    with pytest.raises(FileNotFoundError):
        low_images.low_images("B100", 4, tmp_path / "nowhere")


def test_a_variable_that_names_a_wrong_folder_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIDRN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no images of B100"):
        low_images.low_images("B100", 4, None)


def test_stand_ins_come_where_no_folder_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIDRN_DATA", raising=False)
    assert low_images.low_images("B100", 4, None).label == "B100 sizes, generated stand-ins"
    with pytest.raises((FileNotFoundError, ValueError), match=r"Set5|--data-root"):
        low_images.low_images("Set5", 4, None)
    with pytest.raises(ValueError, match="did you mean 'B100'"):
        low_images.low_images("B10", 4, None)


def test_real_photos_are_downscaled_by_our_own_resize(tmp_path: Path) -> None:
    (tmp_path / "Set5").mkdir()
    highs = [low_images.smooth_noise((33, 50 + i), seed=i) for i in range(5)]
    for i, high in enumerate(highs):
        images.write_image(tmp_path / "Set5" / f"photo{i}.png", high)
    low = low_images.low_images("Set5", 4, tmp_path)
    assert low.label == "Set5"
    assert low.names == ("photo0", "photo1", "photo2", "photo3", "photo4")
    for frame, high in zip(low.frames, highs, strict=True):
        np.testing.assert_array_equal(frame, resize.downscale(high, 4))


@pytest.mark.parametrize(
    ("count", "least", "wide", "tall"),
    [(100, 3, 77, 23), (10, 1, 8, 2), (10, 3, 7, 3), (0, 3, 3, 3), (1, 1, 1, 1), (500, 3, 77, 23)],
)
def test_a_choice_of_images_keeps_the_share_of_each_size(
    count: int, least: int, wide: int, tall: int
) -> None:
    sizes = low_images.b100_stand_ins(4).sizes_hw
    chosen = low_images.spread(sizes, count, least=least)
    assert chosen == sorted(set(chosen))
    assert Counter(sizes[i] for i in chosen) == {(80, 120): wide, (120, 80): tall}


def test_a_size_with_few_images_does_not_cost_the_others() -> None:
    assert low_images.spread([(1, 2), (3, 4), (3, 4), (3, 4), (3, 4)], 5, least=3) == [
        0,
        1,
        2,
        3,
        4,
    ]


class Scripted:
    """A stand-in for an Upscaler that notes who ran."""

    takes_tensors = True

    def __init__(self, name: str, log: list[tuple[str, str]], level: float = 0.5) -> None:
        self.name, self.log, self.level = name, log, level

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.log.append((self.name, "frame"))
        return frame

    def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.log.append((self.name, "tensor"))
        return np.full_like(x, self.level)

    def device_ms(self, frames: NDArray[np.uint8]) -> float | None:
        return None


def test_models_run_in_turns_with_the_order_moving_on() -> None:
    log: list[tuple[str, str]] = []
    models = {name: Scripted(name, log) for name in ("a", "b", "c")}
    low = tiny_low(4)
    samples = turns.in_turns(models, low, seconds=60, pause=lambda _: None)
    timed = log[-4 * 3 * 2 :]
    first_of_image = [timed[i * 6][0] for i in range(4)]
    assert first_of_image == ["a", "b", "c", "a"]
    assert [kind for _, kind in timed[:2]] == ["frame", "tensor"]
    assert [kind for _, kind in timed[6:8]] == ["tensor", "frame"]
    for name in models:
        assert samples[name].images == [0, 1, 2, 3]
        assert len(samples[name].end_to_end_ms) == len(samples[name].network_only_ms) == 4
        # per size: one run that is checked, and at least two that are timed and thrown away
        assert samples[name].warm_up >= 2 * 3


def test_a_slow_model_takes_part_in_fewer_images_but_three_of_each_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Scripted):
        def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
            clock[0] += 500_000_000 if self.name == "slow" else 1_000_000
            return super().__call__(frame)

        def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
            clock[0] += 500_000_000 if self.name == "slow" else 1_000_000
            return super().run_tensor(x)

    clock = [0]
    monkeypatch.setattr("time.perf_counter_ns", lambda: clock[0])
    log: list[tuple[str, str]] = []
    low = tiny_low(40)  # 10 tall ones, 30 wide ones
    models = {name: Slow(name, log) for name in ("slow", "fast")}
    samples = turns.in_turns(models, low, seconds=5.0, pause=lambda _: None)
    assert len(samples["fast"].images) == 40
    slow = Counter(low.sizes_hw[i] for i in samples["slow"].images)
    assert slow == {(6, 4): 3, (4, 6): 3}
    assert samples["slow"].end_to_end_ms == [500.0] * 6
    assert samples["fast"].network_only_ms == [1.0] * 40


def test_a_warm_up_ends_when_it_is_stable_or_has_gone_on_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def after(times: list[float]) -> int:
        left = iter(times)
        monkeypatch.setattr(turns, "milliseconds", lambda _run: next(left))
        return len(turns.warm_up(lambda: None))

    assert after([9.0, 5.0, 4.9, 4.9]) == 3
    assert after([5.0, 5.0]) == 2
    assert after([5.0, 6.0] * 5) == turns.WARM_UP_RUNS[1]
    assert after([turns.WARM_UP_SECONDS * 1000 + 1]) == 1


@pytest.mark.parametrize(
    ("level", "says"), [(np.nan, "finite"), (np.inf, "finite"), (1e-39, "denormal")]
)
def test_outputs_that_distort_timing_are_refused(level: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        turns.in_turns({"a": Scripted("a", [], level)}, tiny_low(), seconds=1)


def test_ratios_are_of_the_same_image() -> None:
    reference = Samples([0, 1, 2], [10.0, 20.0, 40.0])
    other = Samples([0, 2, 3], [15.0, 20.0, 99.0])
    assert turns.paired_ratios(other, reference) == {0: 1.5, 2: 0.5}


class OnGpu(Scripted):
    """One of frames alone, with a clock of its own."""

    takes_tensors = False

    def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("a model of frames takes no tensors")

    def device_ms(self, frames: NDArray[np.uint8]) -> float | None:
        self.log.append((self.name, "device"))
        return 0.25


def test_a_gpu_is_timed_by_its_own_clock_and_without_rest() -> None:
    log: list[tuple[str, str]] = []
    rests: list[float] = []
    low = tiny_low(3)
    models = {name: OnGpu(name, log) for name in ("gidrn", "imdn")}
    samples = turns.in_turns(models, low, seconds=60, rest_s=0.0, pause=rests.append)
    assert set(rests) == {0.0}
    assert [kind for _, kind in log[-12:]] == [
        *("frame", "device") * 2,
        *("device", "frame") * 2,
        *("frame", "device") * 2,
    ]
    assert samples["imdn"].device_ms == [0.25] * 3
    assert samples["imdn"].network_only_ms == []
    figures = {figure.name: figure for figure in fps.figures_of(samples, "imdn", low)}
    assert set(figures) == {"end_to_end_ms", "device_ms", "time_over_gidrn", "device_over_gidrn"}
    assert figures["device_over_gidrn"].samples == (1.0,) * 3


class Greedy(Scripted):
    """One that has too little memory for tall pictures."""

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if frame.shape[0] == 6:
            raise FrameTooLargeError("not enough memory\nfor it")
        return super().__call__(frame)


def test_a_model_without_memory_is_left_out_and_the_others_go_on() -> None:
    log: list[tuple[str, str]] = []
    told: list[tuple[str, str]] = []
    models = {"a": Scripted("a", log), "greedy": Greedy("greedy", log), "b": Scripted("b", log)}
    samples = turns.in_turns(
        models,
        tiny_low(4),
        seconds=60,
        left_out=lambda *words: told.append(words),
        pause=lambda _: None,
    )
    assert list(samples) == ["a", "b"]
    assert told == [("greedy", "not enough memory for it")]
    assert samples["b"].images == [0, 1, 2, 3]
    with pytest.raises(FrameTooLargeError):
        turns.in_turns(models, tiny_low(4), seconds=60, pause=lambda _: None)


def test_batches_are_of_one_size_and_leave_no_image_out() -> None:
    low = tiny_low(10)  # 3 tall ones, 7 wide ones
    batches = low.in_batches(3)
    assert [frame.shape for frame in batches.frames] == [(3, 6, 4, 3)] + [(3, 4, 6, 3)] * 3
    assert batches.sizes_hw == ((6, 4), (4, 6), (4, 6), (4, 6))
    assert batches.names[0] == "picture 0 and 2 more"
    taken = [one for batch in batches.frames for one in batch]
    for frame in low.frames:
        assert any(np.array_equal(frame, one) for one in taken)
    np.testing.assert_array_equal(batches.frames[3][1], low.frames[1])  # filled from the first
    assert low.in_batches(1) is low


def test_inputs_of_a_size_are_made_once() -> None:
    low = low_images.of_size((6, 8), 5, 24)
    assert (low.label, len(low.frames)) == ("6x8, generated", 24)
    assert low.frames[0].shape == (5, 6, 8, 3)
    assert len({frame.tobytes() for frame in low.frames[0]}) == low_images.DISTINCT
    made = turns.prepared(low)
    assert all(one is made[0] for one in made)
    assert made[0].tensor.shape == (5, 3, 6, 8)
    np.testing.assert_array_equal(made[0].frame[2, ..., ::-1], low.frames[0][2])
    assert low_images.of_size((6, 8), 1, 2).frames[0].shape == (6, 8, 3)


def test_inputs_are_prepared_once_in_both_forms() -> None:
    low = tiny_low(1)
    (one,) = turns.prepared(low)
    np.testing.assert_array_equal(one.frame[:, :, ::-1], low.frames[0])
    assert one.tensor.dtype == np.float32
    assert one.tensor.shape == (1, 3, *low.sizes_hw[0])
    np.testing.assert_array_equal(one.tensor[0, 0], low.frames[0][:, :, 0] / np.float32(255))


def test_memory_is_that_of_the_fresh_process_and_not_of_its_parent(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    before = peak_memory.peak_memory(model, engine="ort-cpu", threads=1, sizes_hw=[(8, 8)])
    ballast = np.ones(400 * 2**20, np.uint8)
    after = peak_memory.peak_memory(model, engine="ort-cpu", threads=1, sizes_hw=[(8, 8)])
    assert ballast[-1] == 1
    assert 10 < before.baseline_mib <= before.peak_mib < 400
    # 60 MiB: runs of the same process differ by less than a tenth of that; the ballast is 400.
    assert abs(after.peak_mib - before.peak_mib) < 60


def test_a_larger_frame_takes_more_memory(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    small = peak_memory.peak_memory(model, engine="ort-cpu", threads=1, sizes_hw=[(8, 8)])
    large = peak_memory.peak_memory(model, engine="ort-cpu", threads=1, sizes_hw=[(500, 500)])
    # The output alone, (1, 3, 2000, 2000) float32, is 46 MiB.
    assert large.peak_mib - small.peak_mib > 40


def test_a_process_that_fails_is_reported_in_a_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(OSError, match=r"memory of broken\.onnx ended with code 1: .*ModelError"):
        peak_memory.peak_memory(broken, engine="ort-cpu", threads=1, sizes_hw=[(8, 8)])


def a_record(model: str, times: list[float], ratios: list[float], threads: int) -> Record:
    return Record(
        What(model, 4, "ort-cpu", weights="shipped", input="B100 sizes, generated stand-ins"),
        How("in turns", samples=len(times)),
        (
            Figure.of("end_to_end_ms", times),
            Figure.of("network_only_ms", [t - 2 for t in times]),
            Figure.of("time_over_gidrn", ratios),
        ),
        Where("Some CPU", (), 2, threads, None, "Linux", "3.11", {}, 0.1),
        "2026-01-01T00:00:00+00:00",
        Commit("0123456789abcdef", True),
        {"images_per_s": 4.5, "peak_memory_mib": 123.4, "memory_baseline_mib": 51.0},
        fps.published_figures(model, 4, "B100"),
    )


def test_the_table_keeps_measured_and_published_apart() -> None:
    shown = fps.table(
        [
            a_record("gidrn", [200.0, 220.0, 240.0], [1.0, 1.0, 1.0], 1),
            a_record("imdn", [100.0, 110.0, 120.0], [0.5, 0.5, 0.55], 1),
            a_record("rfdn", [100.0], [0.5], 2),
        ]
    )
    lines = shown.splitlines()
    assert lines[0] == (
        "### x4, B100 sizes, generated stand-ins; ort-cpu, fp32, 1 thread of Some CPU (2 cores), "
        "commit 0123456789, dirty"
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == [
        "network",
        "weights",
        "images",
        "end to end p50 / p90 / p99, ms",
        "FPS (1 / p50)",
        "images / s (n / sum)",
        "network only p50, ms",
        "time / gidrn's",
        "peak MiB (baseline)",
        "the paper, GTX 1080 Ti: s",
        "the paper: time / gidrn's",
    ]
    measured = ["220.0 / 236.0 / 239.6", "4.55", "4.50", "218.0", "1.00", "123 (51)"]
    assert cells[4] == ["gidrn", "shipped", "3", *measured, "0.0177", "1.00"]
    assert cells[5][7] == "0.50"
    assert cells[5][9:] == ["0.0217", "1.23"]
    assert "2 threads of Some CPU" in lines[7]
    assert cells[11][9:] == ["-", "-"]  # RFDN is not in Table 6


def test_published_figures_are_only_shown_beside_the_same_thing() -> None:
    assert fps.published_figures("gidrn", 4, "B100")["inference_s"] == 0.0177
    assert fps.published_figures("gidrn", 4, "Set5") == {}
    assert fps.published_figures("gidrn", 2, "B100") == {}
    assert fps.published_figures("rfdn", 4, "B100") == {}
    assert {row.gpu for row in published.table6()} == {"GTX 1080 Ti"}


@pytest.fixture
def tiny_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny models in the networks' places, tiny pictures in B100's, and no folders given."""

    def exported(
        name: str, scale: int, *, weights_root: Path | None, dtype: str, frames: str | None
    ) -> ExportedModel:
        assert (dtype, frames) == ("fp32", None)  # what a CPU runs
        return ExportedModel(
            tiny_onnx(tmp_path / f"{name}.onnx", scale), "random (seed 0)", 7, 0.01
        )

    monkeypatch.setattr(exported_models, "exported", exported)
    monkeypatch.setattr(low_images, "low_images", lambda *_: tiny_low(8))
    return tmp_path


def test_a_run_measures_prints_and_writes(
    tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tiny_models / "fps.json"
    fps.main(models="imdn,gidrn", threads="1,2", out=out, images=6, seconds=5)
    found = records.read_records(out)
    assert [(entry.what.model, entry.where.threads) for entry in found] == [
        ("imdn", 1),
        ("gidrn", 1),
        ("imdn", 2),
        ("gidrn", 2),
    ]
    for entry in found:
        assert entry.what.engine == "ort-cpu"
        assert entry.what.precision == "fp32"
        assert entry.what.input == "tiny pictures"
        assert entry.what.weights == "random (seed 0)"
        assert entry.how.clock == "time.perf_counter_ns"
        assert entry.how.samples == 6
        assert len(entry.figure("end_to_end_ms").samples) == 6
        assert entry.figure("end_to_end_ms").labels[0] == "picture 0"
        assert min(entry.figure("network_only_ms").samples) > 0
        assert entry.values["sizes_hw"] in ("2 of 6x4, 4 of 4x6", "4 of 4x6, 2 of 6x4")
        assert float(str(entry.values["peak_memory_mib"])) > 0
    assert set(found[1].figure("time_over_gidrn").samples) == {1.0}
    shown = capsys.readouterr().out
    assert fps.table(found) in shown
    assert "random (seed 0)" in shown


def test_without_gidrn_there_is_no_ratio(
    tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fps.main(models="imdn", threads="1", out=tiny_models / "fps.json", images=2, seconds=1)
    (entry,) = records.read_records(tiny_models / "fps.json")
    assert [figure.name for figure in entry.figures] == ["end_to_end_ms", "network_only_ms"]
    assert "|              - |" in capsys.readouterr().out


def test_ctrl_c_leaves_no_half_written_file(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    out = tiny_models / "fps.json"
    monkeypatch.setattr(turns, "_sample", interrupted)
    monkeypatch.setattr(peak_memory, "peak_memory", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        fps.main(models="imdn", threads="1", out=out)
    assert not out.exists()
    assert not list(tiny_models.glob("*.tmp"))


def test_an_engine_that_is_not_the_one_asked_for_is_refused(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_onnx(tiny_models / "a.onnx")
    contenders.open_file(path, "ort-cpu", 1).close()

    def describe(self: object) -> dict[str, object]:
        return {"engine": "ort-cpu", "threads": None}

    monkeypatch.setattr(Upscaler, "describe", describe)
    with pytest.raises(ValueError, match="1 threads was asked for, and ort-cpu on None"):
        contenders.open_file(path, "ort-cpu", 1)


def test_a_model_of_another_scale_is_refused(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ExportedModel(tiny_onnx(tiny_models / "wrong.onnx", 2), "shipped", 7, 0.01)
    monkeypatch.setattr(exported_models, "exported", lambda *_, **__: wrong)
    with pytest.raises(ValueError, match="enlarges x2, not x4"):
        fps.main(models="gidrn", threads="1", out=tiny_models / "out.json")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"models": "gidnr"}, "did you mean 'gidrn'"),
        ({"models": ","}, "at least one"),
        ({"engines": "ort-cpi"}, "did you mean 'ort-cpu'"),
        ({"engines": "torch-fp61"}, "did you mean 'torch-fp16'"),
        ({"engines": "auto"}, "not auto"),
        ({"engines": "ort-cpu:fp61"}, "runs in fp32 or fp16, not 'fp61'"),
        ({"engines": "torch-fp16:fp16"}, "leave out :fp16"),
        ({"engines": "torch-graphs", "device": "cpu"}, "wants a CUDA device"),
        ({"engines": "torch-fp32", "device": "gpu"}, "--device is cuda or cpu"),
        ({"sizes": "540q"}, "540q"),
        ({"batch": "0"}, "--batch"),
        ({"batch": "x"}, "--batch"),
        ({"scale": 5}, "--scale"),
        ({"threads": "0"}, "--threads"),
        ({"threads": "x"}, "--threads"),
        ({"threads": "-1"}, "--threads"),
        ({"images": 0}, "--images"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds"),
        ({"out": Path("nowhere/out.json")}, "no folder nowhere"),
        ({"data_root": Path("nowhere")}, "nowhere"),
    ],
)
def test_a_users_mistake_is_named_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], says: str
) -> None:
    def not_yet(*_: object, **__: object) -> ExportedModel:
        raise AssertionError("exported before the arguments were checked")

    monkeypatch.setattr(exported_models, "exported", not_yet)
    given = {"out": tmp_path / "out.json", **flags}
    with pytest.raises((ValueError, OSError), match=says):
        fps.main(**given)  # type: ignore[arg-type]


def test_made_up_weights_are_seeded_and_fit_for_timing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)
    before = torch.random.get_rng_state()
    first = exported_models.with_weights("imdn", 4, None)
    second = exported_models.with_weights("imdn", 4, None)
    assert first[1] == "random (seed 0)"
    assert first[2] == second[2]
    assert torch.equal(before, torch.random.get_rng_state())


class Faint(nn.Module):
    """A layer whose output is denormal although the network's is not."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Sigmoid()
        nn.init.constant_(self.first.weight, factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(self.second(self.first(x)))


@pytest.mark.parametrize(
    ("factor", "says"),
    [(1e-39, "first gives denormal"), (3e38, "first gives numbers that are not finite")],
)
def test_activations_that_distort_timing_are_refused(factor: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        exported_models.check_activations(Faint(factor), torch.ones(1, 3, 2, 2))
    exported_models.check_activations(Faint(1.0), torch.ones(1, 3, 2, 2))


def test_weights_come_from_the_root_where_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)
    file = tmp_path / "imdn_x4.safetensors"
    checkpoints.save_weights(zoo.create("imdn", 4).state_dict(), file, metadata={})
    _, label, digest = exported_models.with_weights("imdn", 4, tmp_path)
    assert (label, digest) == ("file imdn_x4.safetensors", checkpoints.sha256(file))
    monkeypatch.setenv("GIDRN_WEIGHTS", str(tmp_path))
    assert exported_models.with_weights("imdn", 4, None)[1] == "file imdn_x4.safetensors"

    checkpoints.save_weights({"other": torch.ones(1)}, file, metadata={})
    assert exported_models.with_weights("imdn", 4, tmp_path)[1] == "random (seed 0)"
    assert "does not fit" in capsys.readouterr().err
    assert exported_models.with_weights("bicubic", 4, tmp_path)[1:] == ("none", "")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        exported_models.with_weights("imdn", 4, tmp_path / "nowhere")


def test_an_export_is_made_once_and_again_when_the_weights_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def export(_network: nn.Module, path: Path, *_: str | int) -> None:
        made.append(path.name)
        model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
        onnx.helper.set_model_props(model, {"proof_levels": "0.0012"})
        onnx.save(model, path)

    monkeypatch.setattr(exported_models, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(exported_models, "_export", export)
    file = tmp_path / "rfdn_x4.safetensors"
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        checkpoints.save_weights(zoo.create("rfdn", 4).state_dict(), file, metadata={})
        found = exported_models.exported("rfdn", 4, weights_root=tmp_path)
        assert found.path.is_file()
        assert found.parameters == 549_624
        assert found.proof_levels == 0.0012
    assert len(made) == 2
    assert made[0] != made[1]


def test_help_names_the_flags(help_of: Callable[..., str]) -> None:
    helped = help_of(str(SCRIPT))
    for flag in ("dataset", "models", "scale", "engines", "threads", "data-root", "weights-root"):
        assert f"--{flag}" in helped
    for flag in ("out", "images", "seconds"):
        assert f"--{flag}" in helped


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2() -> None:
    done = run_here(SCRIPT, "--models", "gidnr")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no network is called 'gidnr': did you mean 'gidrn'?")
    assert done.stderr.count("\n") == 1
