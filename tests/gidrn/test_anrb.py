"""ANRB against loops that follow the paper's equations pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gidrn.networks.anrb import ANRB, pyramid_pool

TABLE_2 = [  # pool sizes, points
    ((1, 2, 3, 6), 50),
    ((1, 3, 6, 8), 110),
    ((1, 6, 8, 11), 222),
]

SIZES_HW = [(1, 1), (1, 7), (5, 3), (8, 8), (13, 9)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are quickest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pooled_by_loops(channel: Tensor, pool_sizes: tuple[int, ...]) -> list[float]:
    """Means over the windows [floor(i*H/n), ceil((i+1)*H/n)), row by row; (H, W) -> numbers."""
    height, width = channel.shape
    if not pool_sizes:
        return [channel[y, x].item() for y in range(height) for x in range(width)]
    means = []
    for size in pool_sizes:
        for i in range(size):
            top, bottom = i * height // size, math.ceil((i + 1) * height / size)
            for j in range(size):
                left, right = j * width // size, math.ceil((j + 1) * width / size)
                means.append(channel[top:bottom, left:right].mean().item())
    return means


def anrb_by_loops(block: ANRB, x: Tensor) -> Tensor:
    """Eq. 7 to 10 for one image (1, C, H, W), one pixel after the other."""
    query = block.query(x)[0, 0]
    keys = pooled_by_loops(block.key(x)[0, 0], block.pool_sizes)
    values = pooled_by_loops(block.value(x)[0, 0], block.pool_sizes)
    attended = torch.zeros_like(query)
    for row in range(query.shape[0]):
        for column in range(query.shape[1]):
            weights = [math.exp(query[row, column].item() * key) for key in keys]
            blend = sum(w * v for w, v in zip(weights, values, strict=True))
            attended[row, column] = blend / sum(weights)
    expanded: Tensor = block.expand(attended[None, None])
    return x + expanded


@pytest.mark.parametrize(("pool_sizes", "points"), TABLE_2)
@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_number_of_points(
    pool_sizes: tuple[int, ...], points: int, size_hw: tuple[int, int]
) -> None:
    assert pyramid_pool(torch.rand(2, 1, *size_hw), pool_sizes).shape == (2, 1, points)


def test_no_pool_sizes_keep_every_point() -> None:
    image = torch.rand(2, 1, 4, 3)
    assert torch.equal(pyramid_pool(image, ()), image.view(2, 1, 12))


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("pool_sizes", [*(sizes for sizes, _ in TABLE_2), ()])
def test_pooling_agrees_with_loops(pool_sizes: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    torch.manual_seed(1)
    channel = torch.rand(size_hw, dtype=torch.double)
    pooled = pyramid_pool(channel[None, None], pool_sizes).flatten()
    wanted = torch.tensor(pooled_by_loops(channel, pool_sizes), dtype=torch.double)
    torch.testing.assert_close(pooled, wanted, atol=1e-14, rtol=0)  # double, a few sums


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("pool_sizes", [*(sizes for sizes, _ in TABLE_2), ()])
def test_block_agrees_with_loops(pool_sizes: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    torch.manual_seed(2)
    block = ANRB(6, pool_sizes).double()
    image = 4 * torch.randn(1, 6, *size_hw, dtype=torch.double)  # large: softmax far from flat
    with torch.inference_mode():
        torch.testing.assert_close(block(image), anrb_by_loops(block, image), atol=1e-12, rtol=0)


def test_block_has_the_papers_parameters() -> None:
    """Three 1x1 convolutions C -> 1 and one 1 -> C: 363 at C = 72, 243 at C = 48."""
    counts = [sum(p.numel() for p in ANRB(channels).parameters()) for channels in (72, 48)]
    assert counts == [363, 243]


def test_images_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(3)
    block = ANRB(4).double()
    images = torch.randn(2, 4, 5, 6, dtype=torch.double)
    apart = torch.cat([block(images[:1]), block(images[1:])])
    torch.testing.assert_close(block(images), apart, atol=1e-12, rtol=0)
