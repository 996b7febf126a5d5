"""MATLAB's bicubic resize: what it must do on any image, small vectors, and published pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gidrn.images import read_image
from gidrn.resize import crop_to_multiple, cubic, downscale, imresize

SCALES = [2, 3, 4, Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), 1.5, 0.7]


def one_pixel(signal: list[float], at: int, factor: float) -> float:
    """Output `at` of a 1-D signal: kernel widened when shrinking, border mirrored, normalised."""
    stretch = max(1.0, 1 / factor)
    centre = (at + 0.5) / factor - 0.5
    total = blend = 0.0
    for position in range(
        math.floor(centre - 2 * stretch) - 1, math.ceil(centre + 2 * stretch) + 2
    ):
        x = abs(centre - position) / stretch
        if x <= 1:
            weight = 1.5 * x**3 - 2.5 * x**2 + 1
        elif x < 2:
            weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        else:
            continue
        inside = position % (2 * len(signal))
        if inside >= len(signal):
            inside = 2 * len(signal) - 1 - inside
        total += weight
        blend += weight * signal[inside]
    return blend / total


CUBIC = [(0, 1.0), (0.5, 0.5625), (1, 0.0), (1.5, -0.0625), (2, 0.0), (2.5, 0.0), (-0.5, 0.5625)]


@pytest.mark.parametrize(("at", "wanted"), CUBIC)
def test_cubic_kernel(at: float, wanted: float) -> None:
    assert cubic(np.array([float(at)]))[0] == wanted


@given(st.floats(0, 1))
def test_kernel_is_a_partition_of_unity(offset: float) -> None:
    assert cubic(offset + np.arange(-3.0, 4.0)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_flat_stays_flat(scale: float, level: int) -> None:
    flat = np.full((7, 10, 3), level, dtype=np.uint8)
    assert np.all(imresize(flat, scale) == level)
    # Weights are normalised in double.
    np.testing.assert_allclose(imresize(flat.astype(float), scale), level, atol=1e-11)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("length", [1, 2, 3, 11])
def test_a_line_agrees_with_sums_written_out(scale: float, length: int) -> None:
    signal = np.random.default_rng(length).uniform(0, 255, length)
    row = imresize(signal[None, :], scale)[0]
    column = imresize(signal[:, None], scale)[:, 0]
    wanted = [one_pixel(signal.tolist(), at, float(scale)) for at in range(len(row))]
    np.testing.assert_allclose(row, wanted, atol=1e-9)  # double at 255, a few terms
    np.testing.assert_allclose(column, wanted, atol=1e-9)


def test_known_vectors() -> None:
    """Worked out on paper: the kernel at 1/4, 3/4, 5/4 and 7/4 is (111, 29, -9, -3) / 128."""
    edge = np.array([[0.0, 0.0, 128.0, 128.0]])
    assert imresize(edge, 2)[0].tolist() == [0, -3, -9, 26, 102, 137, 131, 128]
    edge = np.array([[0.0] * 4 + [256.0] * 4])
    assert imresize(edge, 0.5)[0].tolist() == [-3, 17, 239, 259]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.sampled_from([2, 3, 4]),
    channels=st.sampled_from([None, 1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_sizes(height: int, width: int, scale: int, channels: int | None) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    image = np.zeros(shape, dtype=np.uint8)
    assert imresize(image, scale).shape[:2] == (scale * height, scale * width)
    smaller = imresize(image, Fraction(1, scale))
    assert smaller.shape[:2] == (math.ceil(height / scale), math.ceil(width / scale))
    assert smaller.shape[2:] == image.shape[2:]
    if min(height, width) >= scale:
        assert downscale(image, scale).shape[:2] == (height // scale, width // scale)
        assert crop_to_multiple(image, scale).shape[0] % scale == 0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_scale_1_changes_nothing(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    assert np.array_equal(imresize(image, 1), image)


def test_channels_and_directions_do_not_mix() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    whole = imresize(image, Fraction(1, 3))
    for channel in range(3):
        assert np.array_equal(whole[:, :, channel], imresize(image[:, :, channel], Fraction(1, 3)))
    work = image.astype(float)
    # In double, the two passes commute.
    np.testing.assert_allclose(
        imresize(work.transpose(1, 0, 2), 2), imresize(work, 2).transpose(1, 0, 2), atol=1e-9
    )


def test_uint8_is_rounded_between_the_passes() -> None:
    """Vertical first, then rounded, then horizontal: not the same as rounding once at the end."""
    image = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    result = imresize(image, Fraction(1, 2))
    assert result.dtype == np.uint8

    def rounded(x: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.clip(np.floor(x + 0.5), 0, 255))

    def half_columns(x: NDArray[Any]) -> NDArray[np.float64]:
        rows = [[one_pixel(list(row), at, 0.5) for at in range(32)] for row in x.astype(float)]
        return np.array(rows)

    vertical = half_columns(image.T).T
    assert np.array_equal(result, rounded(half_columns(rounded(vertical))))
    # Published low-resolution images differ from single rounding in about one sample of seven.
    assert 0.05 < np.mean(result != rounded(half_columns(vertical))) < 0.3


def test_halves_round_away_from_zero() -> None:
    """The mean of 0 and 1 and of 2 and 3: half to even would give 0 and 2."""
    for low, high, wanted in [(0, 1, 1), (1, 2, 2), (2, 3, 3)]:
        image = np.array([[low], [high]], dtype=np.uint8)
        assert imresize(image, Fraction(1, 2)).item() == wanted


def test_overshoot_is_clipped() -> None:
    edge = np.zeros((8, 8), dtype=np.uint8)
    edge[:, 4:] = 255
    larger = imresize(edge, 4)
    assert larger.min() == 0
    assert larger.max() == 255
    assert imresize(edge.astype(float), 4).max() > 255


BAD = [
    (np.zeros(4, dtype=np.uint8), 2, "an image is"),
    (np.zeros((0, 4), dtype=np.uint8), 2, "an image is"),
    (np.zeros((1, 4, 4, 3), dtype=np.uint8), 2, "an image is"),
    (np.zeros((4, 4), dtype=np.uint8), 0, "scale is a number above 0"),
    (np.zeros((4, 4), dtype=np.uint8), -1, "scale is a number above 0"),
    (np.zeros((4, 4), dtype=np.uint8), math.nan, "scale is a number above 0"),
    (np.zeros((4, 4), dtype=np.int32), 2, "an image is uint8 or floating point, not int32"),
]


@pytest.mark.parametrize(("image", "scale", "message"), BAD)
def test_bad_input_is_refused(image: NDArray[Any], scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imresize(image, scale)


def test_an_image_smaller_than_the_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="an image of 9x2 pixels is smaller than the factor 3"):
        downscale(np.zeros((2, 9, 3), dtype=np.uint8), 3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_pixel_equals_the_published_low_resolution_set5(
    data_root: Path, missing_data: Callable[[str], NoReturn], scale: int
) -> None:
    """The low-resolution files that IMDN's authors publish, made by MATLAB."""
    names = ["baby", "bird", "butterfly", "head", "woman"]
    folder = data_root / "lr-reference" / "Set5" / f"x{scale}"
    if not folder.is_dir():
        missing_data(f"no folder {folder}")
    for name in names:
        published = read_image(folder / f"{name}.png")
        made = downscale(read_image(data_root / "Set5" / f"{name}.png"), scale)
        assert np.array_equal(made, published), name
