"""Golden frames: each fault that an engine can have, planted, and told by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gidrn_runtime import ModelError, Upscaler, WrongOutputError, golden, models, upscaler
from gidrn_runtime.engines.base import Array
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.golden import Golden
from tests.runtime.conftest import MakeModel

Change = Callable[[Array], Array]


@pytest.fixture(autouse=True)
def nothing_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test opens its models as the first of a process would."""
    monkeypatch.setattr(upscaler, "_COMPARED", set())


def unchanged(x: Array) -> Array:
    return x


def swapped(x: Array) -> Array:
    return x[:, ::-1]


def limited(x: Array) -> Array:
    return 16 / 255 + x * np.float32(219 / 255)


def full(x: Array) -> Array:
    return (x - np.float32(16 / 255)) * np.float32(255 / 219)


def read_as_channels_last(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def written_as_channels_last(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1).reshape(x.shape)


def rows_for_columns(x: Array) -> Array:
    return x.transpose(0, 1, 3, 2).reshape(x.shape)


def shuffled(scale: int, other: str) -> Change:
    """The output of a pixel shuffle whose channels stand in another order."""

    def change(x: Array) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // scale, scale, w // scale, scale)
        if other == "turned":
            return blocks.transpose(0, 1, 2, 5, 4, 3).reshape(x.shape)
        depth = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(n, -1, h // scale, w // scale)
        dcr = depth.reshape(n, scale, scale, c, h // scale, w // scale)
        return dcr.transpose(0, 3, 4, 1, 5, 2).reshape(x.shape)

    return change


def shifted(down: int, right: int) -> Change:
    return lambda x: np.roll(x, (down, right), axis=(2, 3))


def overflowing(x: Array) -> Array:
    x = x.copy()
    x[:, :, : x.shape[2] // 3] = np.nan
    return x


def black_in_parts(x: Array) -> Array:
    x = x.copy()
    x[:, :, : x.shape[2] // 3] = 0
    return x


FAULTS: list[tuple[str, Change, Change, str]] = [
    ("bgr in", swapped, unchanged, "BGR for RGB"),
    ("bgr out", unchanged, swapped, "BGR for RGB"),
    ("0-255 in", lambda x: x * 255, lambda x: x, "0 to 255 where 0 to 1"),
    ("0-255 out", unchanged, lambda x: x * 255, "0 to 255 where 0 to 1"),
    ("0-1 out", unchanged, lambda x: x / 255 + np.float32(0.6 / 255), "0 to 1 where 0 to 255"),
    ("limited in", limited, unchanged, "limited range .* where full"),
    ("limited out", unchanged, limited, "limited range .* where full"),
    ("full out", unchanged, full, "full range where limited"),
    ("channels last in", read_as_channels_last, unchanged, "channels last"),
    ("channels last out", unchanged, written_as_channels_last, "channels last"),
    ("rows for columns in", rows_for_columns, unchanged, "height and width are transposed"),
    ("rows for columns out", unchanged, rows_for_columns, "height and width are transposed"),
    ("upside down", unchanged, lambda x: x[:, :, ::-1], "upside down"),
    ("mirrored", unchanged, lambda x: x[..., ::-1], "mirrored"),
    ("one row", unchanged, shifted(1, 0), "shifted by 1 rows and 0 columns"),
    ("two columns", unchanged, shifted(0, -2), "shifted by 0 rows and -2 columns"),
    ("both", unchanged, shifted(2, 3), "shifted by 2 rows and 3 columns"),
    ("not finite", unchanged, overflowing, "33% of its values are not finite: overflow"),
    ("black in parts", unchanged, black_in_parts, "parts are black: overflow"),
    ("black", unchanged, lambda x: x * 0, "parts are black: overflow"),
]


def plant(monkeypatch: pytest.MonkeyPatch, before: Change, after: Change) -> None:
    """Puts a fault around the engine's run."""
    run = OrtCpu.run

    def faulty(self: OrtCpu, tensor: Array) -> Array:
        given = np.ascontiguousarray(before(tensor), dtype=tensor.dtype)
        return np.ascontiguousarray(after(run(self, given)), dtype=tensor.dtype)

    monkeypatch.setattr(OrtCpu, "run", faulty)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("before", "after", "named"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_fault_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, scale: int, before: Change, after: Change, named: str
) -> None:
    plant(monkeypatch, before, after)
    with pytest.raises(WrongOutputError, match=named) as caught:
        Upscaler(f"gidrn_x{scale}", engine="ort-cpu", threads=1)
    assert "ort-cpu gives another picture" in str(caught.value)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("other", "named"), [("turned", "rows for columns"), ("dcr", "DCR for CRD")]
)
def test_a_pixel_shuffle_in_another_order_is_told(
    monkeypatch: pytest.MonkeyPatch, scale: int, other: str, named: str
) -> None:
    plant(monkeypatch, unchanged, shuffled(scale, other))
    with pytest.raises(WrongOutputError, match=f"pixel shuffle in another order .{named}"):
        Upscaler(f"gidrn_x{scale}", engine="ort-cpu", threads=1)


@pytest.mark.parametrize(
    ("after", "named"),
    [
        (lambda x: x.transpose(0, 1, 3, 2), "height and width are transposed"),
        (lambda x: x[:, :, ::2, ::2], "it enlarges by 2, not by 4"),
        (lambda x: x[:, :, 1:-1], "padding or cropping is off, by -2 rows and 0 columns"),
        (lambda x: x[:, :, :9, :9], None),
    ],
)
def test_an_output_of_another_size_is_told(
    monkeypatch: pytest.MonkeyPatch, after: Change, named: str | None
) -> None:
    plant(monkeypatch, unchanged, after)
    with pytest.raises(
        ModelError, match=named or r"it became float32 \(1, 3, 9, 9\); make"
    ) as told:
        Upscaler("gidrn_x4", engine="ort-cpu", threads=1)
    assert "says scale 4" in str(told.value)


def test_a_fault_without_a_mark_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, unchanged, lambda x: x * np.float32(0.9))
    with pytest.raises(WrongOutputError, match="off by up to 26 of 255 levels: no fault known"):
        Upscaler("gidrn_x4", engine="ort-cpu", threads=1)


def test_what_engines_may_differ_by_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, unchanged, lambda x: x + np.float32(2 / 255))
    Upscaler("gidrn_x4", engine="ort-cpu", threads=1, check=True).close()
    plant(monkeypatch, unchanged, lambda x: x + np.float32(2 / 255))
    with pytest.raises(WrongOutputError):
        Upscaler("gidrn_x4", engine="ort-cpu", threads=1, check=True)


def test_a_file_is_compared_once_a_process_or_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Upscaler("gidrn_x4", engine="ort-cpu", threads=1).close()
    plant(monkeypatch, unchanged, swapped)
    Upscaler("gidrn_x4", engine="ort-cpu", threads=1).close()
    with pytest.raises(WrongOutputError):
        Upscaler("gidrn_x4", engine="ort-cpu", threads=1, check=True)
    with pytest.raises(WrongOutputError):
        Upscaler("gidrn_x3", engine="ort-cpu", threads=1)
    Upscaler("gidrn_x3", engine="ort-cpu", threads=1, check=False).close()


def noise(seed: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


GOOD = Golden(noise(0, 4, 6), (4, 6), noise(1, 8, 12))


def test_a_file_of_one_size_repeats_its_patch(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = noise(0, 4, 6)
    window = patch.repeat(2, axis=0).repeat(2, axis=1)
    text = Golden(patch, (9, 10), window).to_text()
    path = make_model(size=(2, 9, 10), golden=text)
    with Upscaler(path, engine="ort-cpu", check=True) as upscale:
        assert "golden" not in upscale.describe()["metadata"]  # type: ignore[operator]
    plant(monkeypatch, unchanged, swapped)
    with pytest.raises(WrongOutputError, match="BGR for RGB"):
        Upscaler(path, engine="ort-cpu", check=True)


def test_a_size_fixed_by_another_tool_leaves_the_frame_out(make_model: MakeModel) -> None:
    patch = noise(0, 4, 6)
    text = Golden(patch, (4, 6), patch.repeat(2, axis=0).repeat(2, axis=1)).to_text()
    path = make_model(size=(1, 8, 8), golden=text)
    Upscaler(path, engine="ort-cpu").close()
    with pytest.raises(ModelError, match="no golden frame of its size"):
        Upscaler(path, engine="ort-cpu", check=True)


def test_a_file_without_one_cannot_be_checked(tiny: Path) -> None:
    Upscaler(tiny).close()
    with pytest.raises(ModelError, match="carries no golden frame of its size"):
        Upscaler(tiny, check=True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "no JSON", '{"size_hw": [4, 6], "patch": 1, "window": 2}'),
        GOOD.to_text().replace('"shape": [4, 6, 3]', '"shape": "4x6"'),
        GOOD.to_text().replace('"size_hw": [4, 6]', '"size_hw": [0, 6]'),
        GOOD.to_text().replace('"size_hw": [4, 6]', '"size_hw": [3, 6]'),
        GOOD.to_text().replace('"shape": [8, 12, 3]', '"shape": [32, 3, 3]'),
    ],
)
def test_a_damaged_one_is_refused(make_model: MakeModel, text: str) -> None:
    with pytest.raises(ModelError, match=r"the golden frame cannot be read|no part of the output"):
        Upscaler(make_model(golden=text))


def test_what_is_written_is_read() -> None:
    one = Golden(noise(1, 5, 7), (5, 7), noise(2, 10, 14))
    two = Golden.from_text(one.to_text())
    assert two.size_hw == (5, 7)
    np.testing.assert_array_equal(one.low, two.low)
    np.testing.assert_array_equal(one.window, two.window)
    with pytest.raises(ValueError, match="golden frames are uint8"):
        Golden(one.patch, (5, 7), np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_shipped_models_carry_one(scale: int) -> None:
    with Upscaler(f"gidrn_x{scale}", engine="ort-cpu", threads=1, check=True) as upscale:
        assert golden.compare(*sample(upscale)) is None


def sample(upscale: Upscaler) -> tuple[Golden, npt.NDArray[np.float64], int]:
    """A shipped model's golden frame, and what the whole of `Upscaler` makes of it."""
    one = upscale._info.golden
    assert one is not None
    assert one.low.shape == (24, 32, 3)
    high = upscale(np.ascontiguousarray(one.low[..., ::-1]))[..., ::-1]
    assert models.shipped()
    return one, high.astype(np.float64), upscale.scale
