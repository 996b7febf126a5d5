"""Weights of one factor as a start for another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gidrn import zoo
from gidrn.networks.upsampler import Upsampler
from gidrn.transfer import resample, start_from


@pytest.mark.parametrize("name", ["gidrn", "idrn", "rfdn_l", "imdn"])
def test_the_body_carries_over_and_the_last_convolutions_are_resampled(name: str) -> None:
    torch.manual_seed(0)
    source, target = zoo.create(name, 4), zoo.create(name, 2)
    changed = start_from(target, source.state_dict(), source="a test")
    ends = [place for place, module in source.named_modules() if isinstance(module, Upsampler)]
    assert sorted(changed) == sorted(
        f"{e}.conv.{part}" for e in ends for part in ("weight", "bias")
    )
    given = source.state_dict()
    for key, value in target.state_dict().items():
        if key not in changed:
            assert torch.equal(value, given[key])


@pytest.mark.parametrize(("before", "after"), [(4, 2), (4, 3), (2, 4), (3, 2)])
def test_resampling_is_resizing_the_output(before: int, after: int) -> None:
    """Each input pixel's block of the new output is its block of the old one, resized."""
    torch.manual_seed(0)
    old = Upsampler(5, before)
    new = Upsampler(5, after)
    start_from(new_holder := Holder(new), Holder(old).state_dict(), source="a test")
    x = torch.randn(2, 5, 4, 3)
    shown: Tensor = new_holder.up(x)
    blocks = old(x).unfold(2, before, before).unfold(3, before, before)  # (2, 3, 4, 3, s, s)
    resized = functional.interpolate(
        blocks.reshape(-1, 1, before, before),
        size=(after, after),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    ).reshape(*blocks.shape[:4], after, after)
    wanted = resized.permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 4 * after, 3 * after)
    torch.testing.assert_close(shown, wanted)  # float32's default tolerances


class Holder(nn.Module):
    """A network that is its upsampler alone."""

    def __init__(self, up: Upsampler) -> None:
        super().__init__()
        self.up = up


def test_the_same_factor_is_a_plain_copy() -> None:
    weights = torch.randn(48, 5, 3, 3)
    assert torch.equal(resample(weights, 4), weights)
    source, target = zoo.create("gidrn", 3), zoo.create("gidrn", 3)
    assert start_from(target, source.state_dict(), source="a test") == []


def test_a_flat_colour_stays_flat() -> None:
    """Resampling weights sum to 1: what all 16 pixels agree on, the new ones say too."""
    flat = torch.ones(48)
    torch.testing.assert_close(resample(flat, 2), torch.ones(12))
    torch.testing.assert_close(resample(flat, 3), torch.ones(27))


@pytest.mark.parametrize("name", ["edsr", "rcan"])
def test_networks_whose_factors_differ_by_more_are_refused(name: str) -> None:
    with torch.device("meta"):
        source, target = zoo.create(name, 4), zoo.create(name, 2)
    with pytest.raises(ValueError, match="a test does not fit this network"):
        start_from(target, source.state_dict(), source="a test")


def test_another_network_is_refused() -> None:
    source, target = zoo.create("imdn", 4), zoo.create("gidrn", 2)
    with pytest.raises(ValueError, match="does not fit this network"):
        start_from(target, source.state_dict(), source="a test")
