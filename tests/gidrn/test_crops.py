"""Crops: where they come from, and that low and high show the same spot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gidrn.crops import CropStore
from gidrn.photos import Photo


def numbered(height: int, width: int, scale: int, *, tag: int) -> Photo:
    """A photo whose every low pixel (y, x) is (y, x, tag), and high pixels carry their low's."""
    y, x = np.mgrid[:height, :width]
    low = np.stack([y, x, np.full_like(y, tag)], axis=2).astype(np.uint8)
    high = low.repeat(scale, axis=0).repeat(scale, axis=1)
    return Photo(f"{tag}", high, low)


def levels(crops: torch.Tensor) -> torch.Tensor:
    return (crops * 255).round().long()


def test_low_and_high_crops_show_the_same_spot_the_same_way() -> None:
    scale, patch = 3, 5
    photos = [numbered(9, 14, scale, tag=1), numbered(20, 7, scale, tag=2)]
    store = CropStore(photos, scale, patch, "cpu")
    low, high = (levels(t) for t in store.draw(1500, torch.Generator().manual_seed(0)))
    assert low.shape == (1500, 3, patch, patch)
    assert high.shape == (1500, 3, patch * scale, patch * scale)
    assert torch.equal(high, low.repeat_interleave(scale, 2).repeat_interleave(scale, 3))
    ways, spots = set(), set()
    for crop in low:
        y, x, tag = crop
        assert tag.unique().numel() == 1
        # Neighbours differ by one row or one column: an unbroken window of one photo.
        down, right = crop[:2, 1, 0] - crop[:2, 0, 0], crop[:2, 0, 1] - crop[:2, 0, 0]
        assert sorted([abs(down).tolist(), abs(right).tolist()]) == [[0, 1], [1, 0]]
        ways.add((*down.tolist(), *right.tolist()))
        spots.add((int(tag[0, 0]), int(y.min()), int(x.min())))
        assert int(y.max() - y.min()) == int(x.max() - x.min()) == patch - 1
    assert len(ways) == 8
    assert len({spot for spot in spots if spot[0] == 1}) == (9 - 4) * (14 - 4)
    assert {spot[1:] for spot in spots if spot[0] == 2} >= {(0, 0), (15, 2)}


def test_equal_generators_draw_equal_crops_and_shares_make_the_whole() -> None:
    store = CropStore([numbered(16, 16, 2, tag=1)], 2, 4, "cpu")
    whole = store.draw(8, torch.Generator().manual_seed(3))[0]
    shares = [
        store.draw(8, torch.Generator().manual_seed(3), part=part)[0]
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert torch.equal(torch.cat(shares), whole)
    assert not torch.equal(store.draw(8, torch.Generator().manual_seed(4))[0], whole)


def test_larger_photos_are_drawn_more_often() -> None:
    photos = [numbered(10, 10, 2, tag=1), numbered(30, 10, 2, tag=2)]
    store = CropStore(photos, 2, 4, "cpu")
    low, _ = store.draw(4000, torch.Generator().manual_seed(0))
    share = float((levels(low)[:, 2, 0, 0] == 2).float().mean())
    assert 0.71 < share < 0.79  # three quarters, give or take six standard deviations


def test_crops_larger_than_a_photo_are_refused() -> None:
    with pytest.raises(ValueError, match="crops of 11 pixels"):
        CropStore([numbered(10, 20, 2, tag=1)], 2, 11, "cpu")
