"""Whole photos through a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gidrn.evaluation import mean_psnr, to_image, to_tensor, upscale
from gidrn.photos import Photo


class Repeat(nn.Module):
    """Nearest-neighbour enlargement, so that the right answer is known."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_images_survive_the_way_to_tensors_and_back() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 4, 6)
    assert float(tensor[0, 2, 1, 4]) == pytest.approx(image[1, 4, 2] / 255)
    assert np.array_equal(to_image(tensor), image)


def test_output_is_clamped_and_rounded_half_to_even() -> None:
    x = torch.tensor([-1.0, 2.0, 0.5 / 255, 1.5 / 255]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert to_image(x)[0, :, 0].tolist() == [0, 255, 0, 2]


def test_a_perfect_network_scores_infinity_and_a_level_off_48_db() -> None:
    low = np.random.default_rng(0).integers(1, 254, (8, 9, 3), dtype=np.uint8)
    high = low.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(upscale(Repeat(), low), high)
    assert mean_psnr(Repeat(), [Photo("a", high, low)], scale=2) == np.inf
    off = mean_psnr(Repeat(), [Photo("a", high + 1, low)], scale=2)
    assert off == pytest.approx(20 * np.log10(255 / (219 / 255)))  # one level of RGB in Y


def test_an_output_that_is_not_finite_has_no_score() -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((1, 3, 2 * x.shape[2], 2 * x.shape[3]), float("nan"))

    high = np.zeros((16, 20, 3), np.uint8)
    photo = Photo("black", high, high[::2, ::2].copy())
    assert np.isnan(mean_psnr(Broken(), [photo], scale=2))
