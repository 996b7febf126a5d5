"""Y, PSNR and SSIM against numbers worked out by hand and by plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gidrn.metrics import luma, psnr, ssim


def noise(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


LUMA = [  # colour, Y by the formula's decimals
    ((0, 0, 0), 16.0),
    ((255, 255, 255), 235.0),
    ((255, 0, 0), 81.481),
    ((0, 255, 0), 144.553),
    ((0, 0, 255), 40.966),
    ((1, 0, 0), 16.25678823529412),
]


@pytest.mark.parametrize(("color", "wanted"), LUMA)
def test_luma(color: tuple[int, int, int], wanted: float) -> None:
    frame = np.full((2, 3, 3), color, dtype=np.uint8)
    for image in (frame, frame.astype(np.float32), frame.astype(np.float64)):
        y = luma(image)
        assert y.shape == (2, 3)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, wanted, atol=1e-10)  # double at values up to 235


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 4), (1, 4, 4, 3)])
def test_luma_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"RGB image of shape \(H, W, 3\)"):
        luma(np.zeros(shape, dtype=np.uint8))


PSNR = [  # error at every pixel, dB = 20 log10(255 / error)
    (1, 48.1308036086791),
    (255, 0.0),
    (51, 13.979400086720377),
]


@pytest.mark.parametrize(("error", "wanted"), PSNR)
def test_psnr_of_a_constant_error(error: int, wanted: float) -> None:
    black = np.zeros((5, 4), dtype=np.uint8)
    other = np.full((5, 4), error, dtype=np.uint8)
    assert psnr(black, other, border=1) == pytest.approx(wanted, abs=1e-9)
    assert psnr(other, black, border=1) == pytest.approx(wanted, abs=1e-9)  # and no uint8 wrap


def test_psnr_of_equal_channels_is_infinite() -> None:
    channel = noise(6, 6, seed=0)
    assert psnr(channel, channel, border=0) == math.inf


def test_psnr_does_not_see_the_border() -> None:
    clean = np.full((9, 9), 100.0)
    marked = clean.copy()
    marked[:2] = marked[-2:] = marked[:, :2] = marked[:, -2:] = 0
    marked[4, 4] = 101.0
    assert psnr(clean, marked, border=2) == pytest.approx(10 * math.log10(255**2 * 25))
    assert psnr(clean, marked, border=1) < 20


def ssim_by_loops(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """One window after the other, straight from the definition."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(first.shape[0] - 10):
        for left in range(first.shape[1] - 10):
            a = first[top : top + 11, left : left + 11].astype(float)
            b = second[top : top + 11, left : left + 11].astype(float)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            spread_a = (window * (a - mean_a) ** 2).sum()
            spread_b = (window * (b - mean_b) ** 2).sum()
            together = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 6.5025)
                * (2 * together + 58.5225)
                / ((mean_a**2 + mean_b**2 + 6.5025) * (spread_a + spread_b + 58.5225))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("size_hw", [(11, 11), (12, 17), (20, 13)])
def test_ssim_agrees_with_loops(size_hw: tuple[int, int]) -> None:
    first, second = noise(*size_hw, seed=1), noise(*size_hw, seed=2)
    second[:5] = first[:5]
    wanted = ssim_by_loops(first, second)
    assert ssim(first, second, border=0) == pytest.approx(wanted, abs=1e-12)  # double
    bordered = [np.pad(channel, 3, constant_values=k) for k, channel in enumerate((first, second))]
    assert ssim(bordered[0], bordered[1], border=3) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("size_hw", [(11, 11), (24, 40), (63, 37)])
@pytest.mark.parametrize("border", [0, 4])
def test_scikit_image_gives_the_same(size_hw: tuple[int, int], border: int) -> None:
    """Its SSIM is Wang's when told so, and its mean leaves out the same 5 pixels a side."""
    rng = np.random.default_rng(4)
    clean = rng.integers(0, 256, (size_hw[0] + 8, size_hw[1] + 8, 3), dtype=np.uint8)
    off = np.clip(clean + rng.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    first, second = luma(clean), luma(off)
    # scikit-image's matrix has BT.601's coefficients with as many decimals.
    np.testing.assert_allclose(first, rgb2ycbcr(clean)[:, :, 0], atol=1e-10)
    inner = slice(border, -border or None)
    cut = [channel[inner, inner] for channel in (first, second)]
    assert psnr(first, second, border=border) == pytest.approx(
        peak_signal_noise_ratio(*cut, data_range=255), abs=1e-9
    )
    theirs = structural_similarity(
        *cut, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(first, second, border=border) == pytest.approx(theirs, abs=1e-12)  # double


def test_ssim_of_equal_channels_is_1() -> None:
    for channel in (noise(15, 15, seed=3), np.zeros((15, 15)), np.full((15, 15), 255.0)):
        assert ssim(channel, channel, border=2) == pytest.approx(1, abs=1e-12)


def test_ssim_of_black_and_white_is_almost_0() -> None:
    """Flat channels: only the means count, C1 / (255^2 + C1)."""
    value = ssim(np.zeros((11, 11)), np.full((11, 11), 255.0), border=0)
    assert value == pytest.approx(6.5025 / (255**2 + 6.5025), rel=1e-9)


BAD = [
    (np.zeros((20, 20)), np.zeros((20, 21)), 0, "of one shape"),
    (np.zeros((20, 20, 3)), np.zeros((20, 20, 3)), 0, "two channels"),
    (np.zeros((20, 20)), np.zeros((20, 20)), -1, "border is a number of pixels of at least 0"),
    (np.zeros((20, 8)), np.zeros((20, 8)), 4, "8x20 pixels less 4 on each side is too small"),
]


@pytest.mark.parametrize(("first", "second", "border", "message"), BAD)
def test_bad_input_is_refused(
    first: NDArray[np.float64], second: NDArray[np.float64], border: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        psnr(first, second, border=border)
    with pytest.raises(ValueError, match=message):
        ssim(first, second, border=border)


def test_ssim_needs_a_window() -> None:
    with pytest.raises(ValueError, match="11 pixels a side are wanted"):
        ssim(np.zeros((14, 20)), np.zeros((14, 20)), border=2)


def test_border_is_named_and_nothing_else_is_swallowed() -> None:
    channel = np.zeros((20, 20))
    with pytest.raises(TypeError):
        psnr(channel, channel, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        psnr(channel, channel, border=2, test_y_channel=True)  # type: ignore[call-arg]
