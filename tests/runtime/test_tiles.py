"""Tiles of networks of known reach, the grid, the statistics' sums, and what memory allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gidrn_runtime import EngineError, FrameTooLargeError, Upscaler, memory, tiles
from gidrn_runtime.__main__ import main
from gidrn_runtime.engines.base import Array, Engine
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.image_files import read_image


@settings(max_examples=300, deadline=None)
@given(length=st.integers(1, 400), side=st.integers(1, 120), halo=st.integers(0, 50))
def test_tiles_part_an_axis_and_see_their_halo(length: int, side: int, halo: int) -> None:
    found = tiles.spans(length, side, halo)
    assert [pixel for one in found for pixel in range(length)[one.core]] == list(range(length))
    for one in found:
        core, window = one.core, one.window
        assert window.start == 0 or window.start <= core.start - halo
        assert window.stop == length or window.stop >= core.stop + halo
        assert window.start >= 0
        assert window.stop <= length
        assert window.stop - window.start == min(length, side + 2 * halo)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    side=st.integers(1, 12),
    shift=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_moments_of_tiles_are_the_whole_frames(
    height: int, width: int, side: int, shift: float
) -> None:
    x = np.random.default_rng(height).standard_normal((3, height, width)) + shift
    merged = tiles.Moments()
    for tile in tiles.grid((height, width), (side, side), 2):
        core = x[:, tile.rows.core, tile.columns.core].reshape(3, -1)
        merged.add(core.shape[1], core.mean(axis=1), core.var(axis=1))
    wanted = np.sqrt(np.maximum(x.var(axis=(1, 2)), 1e-12)) + x.mean(axis=(1, 2))
    np.testing.assert_allclose(merged.contrast(), wanted, rtol=1e-12, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 25), width=st.integers(1, 25), side=st.integers(1, 12))
def test_points_of_tiles_add_up_to_the_whole_frames(height: int, width: int, side: int) -> None:
    sizes = (1, 3, 8)
    x = np.random.default_rng(width).standard_normal((2, height, width))
    rows, columns = (tiles._windows(length, sizes) for length in (height, width))
    whole, parts = tiles.Points(sizes), tiles.Points(sizes)
    whole.add(cells(rows, x, columns, sizes), rows, columns)
    for tile in tiles.grid((height, width), (side, side), 1):
        y, z = rows[:, tile.rows.core], columns[:, tile.columns.core]
        parts.add(cells(y, x[:, tile.rows.core, tile.columns.core], z, sizes), y, z)
    np.testing.assert_allclose(parts.values(), whole.values(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.values()[:, 0], x.mean(axis=(1, 2)), rtol=1e-9, atol=1e-12)


def cells(rows: np.ndarray, x: np.ndarray, columns: np.ndarray, sizes: Any) -> np.ndarray:
    return np.stack([tiles._cells(rows @ plane @ columns.T, sizes) for plane in x])


def test_a_part_of_a_frame_stands_for_cells_that_it_does_not_cover() -> None:
    rows = columns = tiles._windows(9, (1, 3))
    points = tiles.Points((1, 3))
    x = np.ones((2, 4, 9)) * [[[2.0]], [[5.0]]]
    points.add(cells(rows[:, :4], x, columns, (1, 3)), rows[:, :4], columns)
    np.testing.assert_allclose(points.values(), np.repeat([[2.0], [5.0]], 10, axis=1))


@pytest.fixture
def local(make_model: Any) -> Path:
    """A model that blends neighbours: its reach is 1."""
    path: Path = make_model(mode="linear", gain=(0.9, 0.8, 0.7), context="1")
    return path


@pytest.mark.parametrize("side", [(2, 2), (3, 100), (1, 1), (100, 100)])
def test_a_network_of_known_reach_is_tiled_exactly(
    local: Path, photo: np.ndarray, side: tuple[int, int]
) -> None:
    tensor = np.random.default_rng(1).random((2, 3, 7, 10), np.float32)
    with Upscaler(local, threads=1) as upscale:
        whole, whole_tensor = upscale(photo), upscale.run_tensor(tensor)
        assert upscale.tiling is not None
        assert upscale.tiling.form == "whole"
    with Upscaler(local, threads=1, tiles=side) as upscale:
        np.testing.assert_array_equal(upscale(photo), whole)
        assert upscale.tiling is not None
        assert (upscale.tiling.form, upscale.tiling.side_hw) == ("exact", side)
        np.testing.assert_allclose(upscale.run_tensor(tensor), whole_tensor, atol=1e-6)


def test_a_halo_too_small_shows(make_model: Any, photo: np.ndarray) -> None:
    path = make_model(mode="linear", context="0")
    with Upscaler(path, threads=1) as upscale:
        whole = upscale(photo)
    with Upscaler(path, threads=1, tiles=(2, 2)) as upscale:
        assert (upscale(photo) != whole).any()


class Small(Engine):
    """An engine with memory for so many pixels of an image, and so many images."""

    name = "ort-cpu"

    def __init__(self, engine: Engine, most: int, images: int = 9) -> None:
        self._engine, self.most, self.seen = engine, most, list[int]()
        self.images = images
        self.metadata = engine.metadata

    @classmethod
    def installed_version(cls) -> str:
        return "1"

    def run(self, tensor: Array) -> Array:
        self.seen.append(tensor.shape[2] * tensor.shape[3])
        if self.seen[-1] > self.most or len(tensor) > self.images:
            raise FrameTooLargeError("Failed to allocate memory")
        return self._engine.run(tensor)

    def describe(self) -> dict[str, object]:
        return self._engine.describe()

    def close(self) -> None:
        self._engine.close()


def test_tiles_are_halved_until_they_fit(local: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    with Upscaler(local, threads=1) as upscale:
        whole = upscale(frame)
    with Upscaler(local, threads=1) as upscale:
        upscale._engine = small = Small(upscale._engine, 2000)
        np.testing.assert_array_equal(upscale(frame), whole)
        assert upscale.tiling is not None
        assert upscale.tiling.form == "exact"
        assert upscale.tiling.halved == 2
        assert upscale.tiling.side_hw == (35, 45)
        assert small.seen[0] == 70 * 90
        tensor = np.random.default_rng(1).random((1, 3, 70, 90), np.float32)
        upscale.run_tensor(tensor)
        assert upscale.tiling.halved == 2
        small.most = 10
        with pytest.raises(FrameTooLargeError, match=r"nor for tiles of 16x16"):
            upscale(frame)
    with Upscaler(local, threads=1, tiles="never") as upscale:
        upscale._engine = Small(upscale._engine, 2000)
        with pytest.raises(FrameTooLargeError, match="tiles='never' says so"):
            upscale(frame)


def test_a_batch_that_does_not_fit_goes_one_by_one(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forecast, or found out at the run: frames that fit alone are not cut into tiles."""
    monkeypatch.setattr(memory, "BYTES_PER_PIXEL", {("tiny", 2, "ort-cpu"): 10_000})
    monkeypatch.setattr(memory, "bytes_per_pixel", per_pixel)
    frames = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), np.uint8)
    tensors = np.random.default_rng(0).random((3, 3, 60, 80), np.float32)
    with Upscaler(local, threads=1) as upscale:
        high, high_tensors = upscale.batch(frames), upscale.run_tensor(tensors)
    for budget, most in ((130, 3), (4000, 1)):  # MiB for one frame of the three; memory for one
        with Upscaler(local, threads=1, memory_mib=budget) as upscale:
            upscale._engine = small = Small(upscale._engine, 60 * 80, most)
            out = np.empty((3, 120, 160, 3), np.uint8)
            for made in (upscale.batch(frames), upscale.batch(frames, out=out), out):
                np.testing.assert_array_equal(made, high)
            np.testing.assert_array_equal(upscale.run_tensor(tensors), high_tensors)
            assert upscale.tiling is not None
            assert upscale.tiling.form == "whole"
            assert set(small.seen) == {60 * 80}


def test_an_engine_that_runs_in_turn_needs_one_frames_memory(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BYTES_PER_PIXEL", {("tiny", 2, "ort-cpu"): 10_000})
    monkeypatch.setattr(memory, "bytes_per_pixel", per_pixel)
    for in_turn in (False, True):
        monkeypatch.setattr(OrtCpu, "runs_in_turn", in_turn)
        with Upscaler(local, threads=1, memory_mib=140) as upscale:
            assert upscale._tiling.fits(60, 80, 1)
            assert upscale._tiling.fits(60, 80, 8) is in_turn
            assert not upscale._tiling.fits(60, 80, 1000)


def test_the_forecast_decides(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BYTES_PER_PIXEL", {("tiny", 2, "ort-cpu"): 10_000})
    monkeypatch.setattr(memory, "bytes_per_pixel", per_pixel)
    frame = np.zeros((100, 200, 3), np.uint8)  # 200 MB and what is fixed
    ways = {}
    for budget in (300, 150):
        with Upscaler(local, threads=1, memory_mib=budget) as upscale:
            upscale(frame)
            ways[budget] = upscale.tiling
            assert upscale.describe()["tiles"]["memory_mib"] == budget  # type: ignore[index]
    assert ways[300] is not None
    assert ways[300].form == "whole"
    assert ways[150] is not None
    assert ways[150].side_hw is not None
    side = ways[150].side_hw[0] + 2
    assert 0.9 * 86 * 2**20 < 10_000 * side**2 <= 86 * 2**20
    with (
        Upscaler(local, threads=1, memory_mib=66) as upscale,
        pytest.raises(FrameTooLargeError, match="tiles of 16x16 would take about 67 MiB"),
    ):
        upscale(frame)
    monkeypatch.setattr(memory, "available", lambda: 130 << 20)
    with Upscaler(local, threads=1) as upscale:
        upscale(frame)
        assert upscale.tiling is not None
        assert upscale.tiling.form == "exact"


def per_pixel(metadata: Any, engine: str, *, tile: bool) -> int | None:
    return memory.BYTES_PER_PIXEL.get((metadata["model"], int(metadata["scale"]), engine))


def test_only_what_was_measured_is_forecast() -> None:
    said = {
        "model": "gidrn",
        "scale": "2",
        "dtype": "fp32",
        "attention": "curve, 64 knots",
        "merged_groups": "1",
    }
    for scale in ("2", "3", "4"):
        for tile in (False, True):
            known = memory.bytes_per_pixel(said | {"scale": scale}, "ort-cpu", tile=tile)
            assert known is not None
            assert 1_000 < known < 20_000
    for other in ({"merged_groups": "all"}, {"dtype": "fp16"}, {"attention": "exact"}):
        assert memory.bytes_per_pixel(said | other, "ort-cpu", tile=False) is None
    assert memory.bytes_per_pixel(said, "tensorrt", tile=False) is None


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"tiles": "big"}, "'auto', 'never', 'plain' or"),
        ({"tiles": (0, 8)}, "'auto', 'never', 'plain' or"),
        ({"tiles": 8}, "'auto', 'never', 'plain' or"),
        ({"memory_mib": 0}, "memory_mib is a whole number"),
        ({"memory_mib": True}, "memory_mib is a whole number"),
        ({"tile_rounds": -1}, "tile_rounds is a whole number"),
    ],
)
def test_wrong_wishes_are_named(tiny: Path, wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Upscaler(tiny, **wrong)


def test_a_model_of_one_size_makes_no_tiles(make_model: Any) -> None:
    with pytest.raises(ValueError, match="between two sizes alone"):
        Upscaler(make_model(size=(1, 8, 8)), tiles=(4, 4))


def test_an_engine_without_tile_files_says_so(local: Path) -> None:
    upscale = Upscaler(local, threads=1)
    small = Small(upscale._engine, 1)
    with pytest.raises(RuntimeError, match="runs no tile files yet; engine='ort-cpu'"):
        small.run_ends(["output"], {})
    with pytest.raises(EngineError, match="ort-cpu failed"):
        upscale._engine.run_ends(["nothing"], {})
    upscale.close()


MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\n"


@pytest.mark.parametrize(
    ("files", "wanted_kib"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 600),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "1024\n",
                "sys/fs/cgroup/a/memory.max": f"{500 << 10}\n",
                "sys/fs/cgroup/a/memory.current": f"{300 << 10}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {50 << 10}\n",
            },
            250,
        ),
        (
            {  # a container's view: the path is the host's
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{400 << 10}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{500 << 10}\n",
            },
            0,
        ),
    ],
)
def test_limits_of_control_groups_count(
    tmp_path: Path, files: dict[str, str], wanted_kib: int | None
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.available(tmp_path) == (None if wanted_kib is None else wanted_kib << 10)


def test_the_command_makes_tiles(
    local: Path, photo: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), photo.astype(np.uint16) * 257)
    made = []
    for tile in ("never", "3x4"):
        out = tmp_path / f"{tile}.png"
        command = ["upscale", str(tmp_path / "a.png"), "-o", str(out), "--model", str(local)]
        assert main([*command, "--tile", tile]) == 0
        made.append(read_image(out))
    assert "(ort-cpu, in 4 tiles, exact)" in capsys.readouterr().out
    assert made[0].dtype == np.uint16
    np.testing.assert_allclose(made[1].astype(int), made[0], atol=1)
    with pytest.raises(SystemExit):
        main([*command, "--tile", "3"])
    assert "HEIGHTxWIDTH in pixels, such as 512x512" in capsys.readouterr().err
