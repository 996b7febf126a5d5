"""Gray, alpha and 16-bit images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import Upscaler
from gidrn_runtime.engines.ort_cpu import OrtCpu
from gidrn_runtime.frames import cover_hidden, upscale_image

Repeat = Callable[..., np.ndarray]
DTYPES = (np.uint8, np.uint16)


def noise(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """All values of the dtype are possible."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4), (1, 1), (1, 1, 4)])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_kind_is_kept_and_every_value_exact(
    tiny: Path, repeat: Repeat, shape: tuple[int, ...], dtype: Any, color: str
) -> None:
    image = noise(shape, dtype)
    if image.ndim == 3 and shape[2] == 4:
        image[..., 3] |= 1  # nothing hidden: hidden colour is not kept
    before = image.copy()
    with Upscaler(tiny, color=color) as upscale:
        high = upscale_image(upscale, image)
    assert high.dtype == dtype
    np.testing.assert_array_equal(high, repeat(before))
    np.testing.assert_array_equal(image, before)


def test_sixteen_bits_are_not_rounded_to_eight(make_model: Any) -> None:
    ramp = np.linspace(0, 65535, 2000).astype(np.uint16).reshape(20, 100)
    with Upscaler(make_model(mode="linear")) as upscale:
        for image in (ramp, np.dstack([ramp] * 3)):
            high = upscale_image(upscale, image)
            assert high.dtype == np.uint16
            assert len(np.unique(high)) > 2000


def test_bit_depth_is_told_by_dtype_alone(tiny: Path, repeat: Repeat) -> None:
    dark = np.full((3, 4, 3), 200, np.uint16)  # would pass for an 8-bit image by its largest value
    with Upscaler(tiny) as upscale:
        high = upscale_image(upscale, dark)
    assert high.dtype == np.uint16
    np.testing.assert_array_equal(high, repeat(dark))


@pytest.mark.parametrize("dtype", DTYPES)
def test_color_order_of_every_kind(make_model: Any, repeat: Repeat, dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    for channels in (3, 4):
        image = np.full((2, 3, channels), peak, dtype)
        image[0, 0, 1] = 0  # some colour: an image without any stays gray
        for color, expected in (("bgr", [0, peak, peak]), ("rgb", [peak, peak, 0])):
            with Upscaler(make_model(gain=(1, 1, 0)), color=color) as upscale:
                high = upscale_image(upscale, image)
            assert (high[2:, :, :3] == expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_comes_out_as_luma_of_a_network_that_tints(make_model: Any, dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    gray = np.full((3, 4), peak, dtype)
    for gain, luma in (((1, 0, 0), 0.299), ((0, 1, 0), 0.587), ((0, 0, 1), 0.114)):
        with Upscaler(make_model(gain=gain)) as upscale:
            high = upscale_image(upscale, gray)
        assert high.ndim == 2
        assert (high == round(luma * peak)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opaque_stays_opaque(make_model: Any, dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    image = noise((7, 8, 4), dtype)
    image[..., 3] = peak
    with Upscaler(make_model(mode="linear", bias=(-0.01, -0.01, -0.01))) as upscale:
        high = upscale_image(upscale, image)
        assert (high[..., 3] == peak).all()
        if dtype == np.uint8:  # and the colour is what it would be without alpha
            np.testing.assert_array_equal(high[..., :3], upscale(image[..., :3].copy()))


def test_opaque_alpha_costs_no_run_of_its_own(
    upscale: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = OrtCpu.run

    def counted(self: OrtCpu, tensor: Any) -> Any:
        runs.append(tensor.shape)
        return run(self, tensor)

    monkeypatch.setattr(OrtCpu, "run", counted)
    upscale_image(upscale, np.full((3, 4, 4), 255, np.uint8))
    assert runs == [(1, 3, 3, 4)]


def test_alpha_is_exact_away_from_its_edges(make_model: Any) -> None:
    image = np.zeros((8, 16, 4), np.uint8)
    image[:, 8:, 3] = 255
    for bias in (-0.02, 0.02):  # a network that would make opaque 250, or clear 5
        with Upscaler(make_model(mode="linear", bias=(bias,) * 3)) as upscale:
            alpha = upscale_image(upscale, image)[..., 3]
        assert (alpha[:, :14] == 0).all()
        assert (alpha[:, 18:] == 255).all()
        assert ((alpha[:, 15:17] > 5) & (alpha[:, 15:17] < 250)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_colour_does_not_bleed(make_model: Any, dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    results = []
    with Upscaler(make_model(mode="linear")) as upscale:
        for hidden in (0, peak):
            image = np.full((9, 10, 4), hidden, dtype)
            image[2:7, 3:8] = [peak // 2, peak // 4, peak // 8, peak]
            image[..., 3] = 0
            image[2:7, 3:8, 3] = peak
            results.append(upscale_image(upscale, image))
    np.testing.assert_array_equal(results[0], results[1])
    visible = results[0][results[0][..., 3] > 0]
    assert len(visible) > 100  # the blurred edge is among them
    # One colour is visible in the image, so it is the only one in the result; one level for floats.
    assert np.abs(visible[:, :3].astype(int) - [peak // 2, peak // 4, peak // 8]).max() <= 1


def test_an_image_with_nothing_visible(make_model: Any) -> None:
    image = np.zeros((3, 5, 4), np.uint8)
    image[..., :3] = 200
    with Upscaler(make_model(mode="linear", bias=(0, 0, 0))) as upscale:
        assert not upscale_image(upscale, image).any()


def test_cover_hidden_keeps_the_visible_and_takes_the_nearest() -> None:
    colour = np.random.default_rng(1).random((3, 13, 9)).astype(np.float32)
    alpha = np.zeros((13, 9), np.float32)
    alpha[2, 2], alpha[2, 3], alpha[11, 8] = 1, 0.25, 0.5
    covered = cover_hidden(colour, alpha)
    assert covered.dtype == np.float32
    np.testing.assert_array_equal(covered[:, alpha > 0], colour[:, alpha > 0])
    mean = (colour[:, 2, 2] + 0.25 * colour[:, 2, 3]) / 1.25
    # A few roundings of float32.
    np.testing.assert_allclose(covered[:, 3, 2], mean, atol=1e-6)
    np.testing.assert_allclose(covered[:, 0, 0], mean, atol=1e-6)
    np.testing.assert_allclose(covered[:, 12, 8], colour[:, 11, 8], atol=1e-6)
    assert np.isfinite(covered).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "not NoneType"),
        (np.zeros((4, 4, 3), np.float32), "not float32 (4, 4, 3); scale it to 0..65535"),
        (np.zeros((4, 4), bool), "not bool (4, 4)"),
        (np.zeros((4, 4), np.int16), "not int16 (4, 4)"),
        (np.zeros((4, 4, 2), np.uint8), "not uint8 (4, 4, 2); split it"),
        (np.zeros((4, 4, 5), np.uint8), "not uint8 (4, 4, 5); split it"),
        (np.zeros((4,), np.uint8), "not uint8 (4,)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "not uint8 (1, 4, 4, 3)"),
        (np.zeros((0, 4), np.uint8), "not uint8 (0, 4)"),
        (np.zeros((4, 0, 3), np.uint16), "not uint16 (4, 0, 3)"),
    ],
)
def test_refuses_other_images(upscale: Upscaler, image: Any, words: str) -> None:
    with pytest.raises(ValueError, match="an image is") as caught:
        upscale_image(upscale, image)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_model_on_every_kind(shipped_model: Path) -> None:
    with Upscaler(shipped_model) as upscale:
        for dtype in DTYPES:
            for shape in ((5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)):
                high = upscale_image(upscale, noise(shape, dtype))
                assert high.shape == (20, 24, *shape[2:])
                assert high.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_with_alpha_stays_gray(make_model: Any, dtype: Any) -> None:
    """A decoder makes BGRA of a gray PNG with alpha; a network's colours would tint it."""
    gray, alpha = noise((9, 7), dtype), noise((9, 7), dtype) | dtype(1)
    with Upscaler(make_model(gain=(0.5, 1, 0.8))) as upscale:
        high = upscale_image(upscale, np.dstack([gray, gray, gray, alpha]))
    assert (high[..., 0] == high[..., 1]).all()
    assert (high[..., 1] == high[..., 2]).all()


def premultiply(image: np.ndarray) -> np.ndarray:
    peak = np.iinfo(image.dtype).max
    out = image.copy()
    out[..., :3] = np.rint(image[..., :3].astype(float) * image[..., 3:] / peak)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_premultiplied_alpha_comes_out_premultiplied(make_model: Any, dtype: Any) -> None:
    """One colour, fading out: a network that saw the premultiplied colour would see it darken."""
    peak = np.iinfo(dtype).max
    straight = np.empty((9, 12, 4), dtype)
    straight[..., :3] = [peak // 2, peak // 4, peak // 5 * 4]
    straight[..., 3] = np.linspace(peak // 4, peak, 12).astype(dtype)
    with Upscaler(make_model(mode="linear", gain=(0.5, 0.5, 0.5), bias=(0.1, 0.1, 0.1))) as upscale:
        plain = upscale_image(upscale, straight)
        high = upscale_image(upscale, premultiply(straight), premultiplied=True)
    np.testing.assert_array_equal(high[..., 3], plain[..., 3])
    # At a quarter of full alpha, dividing by it makes a rounding of half a level two levels.
    assert np.abs(high.astype(int) - premultiply(plain)).max() <= 2
    assert (high[..., :3] <= high[..., 3:]).all()
    with Upscaler(make_model(mode="linear", gain=(0.5, 0.5, 0.5), bias=(0.1, 0.1, 0.1))) as upscale:
        wrong = upscale_image(upscale, premultiply(straight))  # taken for straight
    assert np.abs(wrong.astype(int) - premultiply(plain)).max() > 10


def test_premultiplied_without_alpha_is_refused(upscale: Upscaler) -> None:
    with pytest.raises(ValueError, match=r"without alpha, \(4, 4, 3\), cannot be premultiplied"):
        upscale_image(upscale, np.zeros((4, 4, 3), np.uint8), premultiplied=True)


def test_a_dark_sixteen_bit_image_keeps_its_detail(make_model: Any) -> None:
    """Its largest value is below 256: told by value it would pass for 8 bits, and become white."""
    dark = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint16)
    with Upscaler(make_model(mode="linear")) as upscale:
        high = upscale_image(upscale, dark)
    assert high.dtype == np.uint16
    assert high.max() < 256
    assert len(np.unique(high)) > 200
    # Each 2x2 block averages to about its pixel; linear interpolation blurs, so compare the means.
    assert abs(float(high.mean()) - float(dark.mean())) < 2
