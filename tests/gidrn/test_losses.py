"""The high-frequency loss against sums written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gidrn.losses import HighFrequencyLoss, HighPass


def high_pass_by_loops(image: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """I - Gaussian(I), one pixel after the other, edge pixels repeated; (N, C, H, W)."""
    reach = kernel_size // 2
    offsets = range(-reach, reach + 1)
    window = {
        (dy, dx): math.exp(-(dy * dy + dx * dx) / (2 * sigma**2))
        for dy in offsets
        for dx in offsets
    }
    total = sum(window.values())
    height, width = image.shape[2:]
    low = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            for (dy, dx), weight in window.items():
                row, column = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                low[:, :, y, x] += weight / total * image[:, :, row, column]
    return image - low


@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, 0.5), (5, 1.0), (7, 2.5)])
@pytest.mark.parametrize("size_hw", [(3, 4), (8, 5)])
def test_high_pass_agrees_with_loops(
    kernel_size: int, sigma: float, size_hw: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, *size_hw)
    wanted = high_pass_by_loops(image, kernel_size, sigma)
    # FP32, 49 terms of at most 1.
    torch.testing.assert_close(HighPass(kernel_size, sigma)(image), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, 0.5), (5, 1.0), (11, 2.5)])
def test_high_pass_agrees_with_scipy(kernel_size: int, sigma: float) -> None:
    torch.manual_seed(3)
    image = torch.rand(2, 3, 17, 12)
    low = gaussian_filter(
        image.double().numpy(), sigma, mode="nearest", radius=kernel_size // 2, axes=(2, 3)
    )
    wanted = (image.double() - torch.from_numpy(low)).float()
    # FP32, 121 terms of at most 1.
    torch.testing.assert_close(HighPass(kernel_size, sigma)(image), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_flat_images_have_no_high_frequencies(level: float) -> None:
    flat = torch.full((1, 3, 6, 9), level)
    assert HighPass()(flat).abs().max() < 1e-6  # FP32 at 1


def test_high_pass_is_linear() -> None:
    torch.manual_seed(1)
    first, second = torch.rand(2, 1, 3, 7, 6)
    high_pass = HighPass()
    together = high_pass(2 * first - 3 * second)
    apart = 2 * high_pass(first) - 3 * high_pass(second)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)  # FP32 at 5


@pytest.mark.parametrize(("alpha", "beta"), [(0.4, 0.6), (1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_loss_is_its_formula(alpha: float, beta: float) -> None:
    """The two images are filtered apart here, as Eq. 12 is written."""
    torch.manual_seed(2)
    output, target = torch.rand(2, 2, 3, 8, 9)
    l1 = (output - target).abs().mean()
    high = high_pass_by_loops(output, 5, 1.0) - high_pass_by_loops(target, 5, 1.0)
    wanted = alpha * l1 + beta * high.abs().mean()
    torch.testing.assert_close(
        HighFrequencyLoss(alpha, beta)(output, target), wanted, atol=1e-6, rtol=0
    )


def test_defaults_are_table_3s_best_row() -> None:
    loss = HighFrequencyLoss()
    assert (loss.alpha, loss.beta) == (0.4, 0.6)


def test_equal_images_cost_nothing_and_a_shift_only_l1() -> None:
    image = torch.rand(1, 3, 8, 8)
    loss = HighFrequencyLoss(0.4, 0.6)
    assert loss(image, image).item() == 0
    assert loss(image + 0.25, image).item() == pytest.approx(0.4 * 0.25, abs=1e-6)


def test_gradient_flows_and_filter_is_no_parameter() -> None:
    loss = HighFrequencyLoss()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    output = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss(output, torch.rand(1, 3, 8, 8)).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kernel_size": 4}, "kernel_size is an odd number of at least 3, not 4"),
    ({"kernel_size": 1}, "kernel_size is an odd number of at least 3, not 1"),
    ({"sigma": 0.0}, "sigma is a positive number"),
    ({"sigma": math.nan}, "sigma is a positive number"),
    ({"sigma": math.inf}, "sigma is a positive number"),
    ({"alpha": -0.1}, "alpha and beta are >= 0 and not both 0"),
    ({"alpha": 0.0, "beta": 0.0}, "alpha and beta are >= 0 and not both 0"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HighFrequencyLoss(**parameters)


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of one shape, not \(1, 3, 8, 8\) and \(1, 3, 1, 8\)"):
        HighFrequencyLoss()(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 1, 8))
