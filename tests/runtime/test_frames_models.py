"""Models that take and give uint8 frames: channel orders, sizes, and what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import ModelError, Upscaler, __main__
from gidrn_runtime.frames import upscale_image
from tests.runtime.conftest import MakeFramesModel

Repeat = Callable[..., np.ndarray]


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_the_file_s_order_meets_the_caller_s(
    make_frames_model: MakeFramesModel, repeat: Repeat, order: str, color: str
) -> None:
    frames = np.random.default_rng(0).integers(0, 250, (2, 5, 7, 3), np.uint8)
    added = np.array([1, 2, 3] if order == color else [3, 2, 1], np.uint8)
    with Upscaler(make_frames_model(color=order), color=color) as upscale:
        assert upscale.describe()["frames"] == order
        assert upscale.describe()["color"] == color
        wanted = [repeat(frame) + added for frame in frames]
        high = upscale(frames[0])
        assert high.flags.c_contiguous
        np.testing.assert_array_equal(high, wanted[0])
        np.testing.assert_array_equal(upscale.batch(frames), wanted)
        np.testing.assert_array_equal(
            upscale(frames[0, ::-1, ::2]), repeat(frames[0, ::-1, ::2]) + added
        )
        high[...] = 0  # it is the caller's
        np.testing.assert_array_equal(upscale(frames[0]), wanted[0])


def test_a_fixed_size_is_kept_to(make_frames_model: MakeFramesModel) -> None:
    with Upscaler(make_frames_model(size=(1, 4, 6))) as upscale:
        assert upscale.size_hw == (4, 6)
        assert len(upscale.batch(np.zeros((2, 4, 6, 3), np.uint8))) == 2
        with pytest.raises(ValueError, match="height x width of 4x6, not 6x4"):
            upscale(np.zeros((6, 4, 3), np.uint8))


def test_tensors_gray_and_16_bits_are_refused(make_frames_model: MakeFramesModel) -> None:
    with Upscaler(make_frames_model()) as upscale:
        assert upscale_image(upscale, np.zeros((4, 5, 3), np.uint8)).shape == (8, 10, 3)
        for call in (
            lambda: upscale.run_tensor(np.zeros((1, 3, 4, 5), np.float32)),
            lambda: upscale_image(upscale, np.zeros((4, 5), np.uint8)),
            lambda: upscale_image(upscale, np.zeros((4, 5, 3), np.uint16)),
            lambda: upscale_image(upscale, np.zeros((4, 5, 4), np.uint8)),
        ):
            with pytest.raises(ValueError, match="exported without --frames"):
                call()


def test_the_command_line_enlarges_colour_and_refuses_gray(
    make_frames_model: MakeFramesModel,
    repeat: Repeat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import cv2

    monkeypatch.chdir(tmp_path)
    photo = np.random.default_rng(1).integers(0, 250, (4, 6, 3), np.uint8)
    cv2.imwrite("photo.png", photo)
    cv2.imwrite("gray.png", photo[..., 0])
    command = ["upscale", "--model", str(make_frames_model())]
    assert __main__.main([*command, "photo.png", "-o", "big.png"]) == 0
    added = np.array([1, 2, 3], np.uint8)
    np.testing.assert_array_equal(cv2.imread("big.png"), repeat(photo) + added)
    capsys.readouterr()
    assert __main__.main([*command, "gray.png", "-o", "gray_big.png"]) == 2
    assert "exported without --frames" in capsys.readouterr().err
    assert not Path("gray_big.png").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"range": "0-1"}, "'input' as float32 (N, 3, H, W), came uint8"),
        ({"color": "yuv"}, "metadata color='bgr' or 'rgb', came 'yuv'"),
        ({"size": ("N", 4, 6), "scale": "3"}, "enlarged by its scale 3, came 4 -> 8"),
        ({"scale": "4"}, "says scale 4, so uint8 (1, 8, 8, 3) should become (1, 32, 32, 3)"),
    ],
)
def test_what_breaks_the_contract_is_refused(
    make_frames_model: MakeFramesModel, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError) as caught:
        Upscaler(make_frames_model(**change))
    assert words in str(caught.value)
