"""Each rewrite against what it replaces, on its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gidrn
from export.rewrites import (
    RefusedError,
    attention,
    blocked_layout,
    merged_groups,
    shortcut_scalars,
    single_shuffle,
    split_fusion,
)
from export.rewrites.attention import (
    CurveAttention,
    ExactAttention,
    choose_knots,
    interpolation_error,
)
from export.rewrites.pyramid_pooling import PyramidPooling
from gidrn.networks.anrb import ANRB, pyramid_pool
from gidrn.networks.gidrn import DenseShortcut, GIDRNConfig

TINY = GIDRNConfig(channels=16, groups_of_blocks=2, blocks_per_group=2)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    sizes=st.sampled_from([(1, 3, 6, 8), (1, 2, 3, 6), (1, 6, 8, 11), (5,), (2, 2)]),
)
def test_pooling_is_pytorchs_for_any_size(height: int, width: int, sizes: tuple[int, ...]) -> None:
    x = torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(height))
    # 1e-5: sums of up to 130 * 130 values of size 1 in FP32, in another order.
    torch.testing.assert_close(
        PyramidPooling(sizes)(x), pyramid_pool(x, sizes), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("sizes", [(1, 3, 6, 8), ()])
def test_exported_anrb_is_the_block(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    block = ANRB(16, sizes)
    for part in (block.query, block.key, block.value):
        nn.init.normal_(part.weight)
    x = torch.randn(2, 16, 17, 23)
    wrapped = nn.Sequential(block)
    wanted = wrapped(x)
    assert attention.apply(wrapped, ExactAttention) == 1
    torch.testing.assert_close(wrapped(x), wanted, atol=2e-6, rtol=1e-5)


def curve_error(knots: int, query: Tensor, key: Tensor, value: Tensor) -> float:
    curve = CurveAttention(knots).double()(query, key, value)
    return float((curve - ExactAttention()(query, key, value)).abs().max())


def error_bound(knots: int, query: Tensor, key: Tensor, value: Tensor) -> float:
    dq, dk, dv = (float(t.max() - t.min()) for t in (query, key, value))
    return interpolation_error(dq * dk, key.shape[2]) * dv / (knots - 1) ** 2


KEYS = {
    "even": lambda keys: keys,
    "one apart": lambda keys: (keys >= keys.max()).double(),  # what the bound's supremum is made of
    "at both ends": lambda keys: (keys > 0.5).double(),
    "crowded": lambda keys: keys**8,
}


@settings(max_examples=150, deadline=None)
@given(
    log_spread=st.floats(-2, 5),
    shift=st.floats(-1.5, 0.5),
    kind=st.sampled_from(sorted(KEYS)),
    points=st.sampled_from([1, 2, 50, 222]),
    knots=st.sampled_from([64, 256, 1024]),
    seed=st.integers(0, 99),
)
def test_the_curve_keeps_to_its_error_bound(
    log_spread: float, shift: float, kind: str, points: int, knots: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    even = torch.linspace(0, 1, 20_000, dtype=torch.float64) + shift
    near = torch.linspace(-1, 1, 4_000, dtype=torch.float64) * 30 * 10**-log_spread
    query = torch.cat([even, near[(near >= even[0]) & (near <= even[-1])]]).view(1, 1, -1)
    key = KEYS[kind](torch.rand(1, 1, points, generator=generator, dtype=torch.float64))
    key = key * 10**log_spread + 1
    for value in (key / 10**log_spread, torch.rand_like(key)):
        error = curve_error(knots, query, key, value)
        # 1e-5: the grid is stored in FP32, a relative 6e-8 of a width of up to 2 log(1e5).
        assert error <= error_bound(knots, query, key, value) + 1e-5


def test_the_bound_is_no_idle_promise() -> None:
    """A curve with far too few knots does leave the bound of one with many."""
    query = torch.linspace(-10, 10, 4001, dtype=torch.float64).view(1, 1, -1)
    key = torch.linspace(-3, 3, 110, dtype=torch.float64).view(1, 1, -1)
    assert curve_error(8, query, key, key.square()) > error_bound(128, query, key, key.square())
    # Nor is it far too large, where all but one key are at one distance.
    one = (torch.arange(110) == 0).double().view(1, 1, -1)
    query = torch.linspace(-20, 20, 4001, dtype=torch.float64).view(1, 1, -1)
    assert curve_error(64, query, one, one) > error_bound(64, query, one, one) / 10


def test_sharp_attention_asks_for_few_more_knots() -> None:
    at_100, at_100_000 = (interpolation_error(spread, 110) for spread in (1e2, 1e5))
    assert (at_100_000 / at_100) ** 0.5 < 5


def test_a_flat_image_has_one_query() -> None:
    query = torch.full((1, 1, 50), 0.3)
    key, value = torch.randn(2, 1, 1, 110)
    torch.testing.assert_close(
        CurveAttention(64)(query, key, value), ExactAttention()(query, key, value)
    )


def test_knots_grow_with_the_attention() -> None:
    torch.manual_seed(0)
    network = gidrn.create("gidrn", 2, config=TINY).eval()
    images = [torch.rand(1, 3, 20, 24)]
    few = choose_knots(network, images)
    for part in network.modules():
        if isinstance(part, ANRB):
            with torch.no_grad():
                part.query.weight.mul_(100)
    many = choose_knots(network, images)
    assert few.bound_levels <= 0.01
    assert many.bound_levels <= 0.01
    assert many.knots > few.knots


def test_too_many_knots_are_refused() -> None:
    network = gidrn.create("gidrn", 2, config=TINY).eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, ANRB):
                part.value.weight.mul_(1e9)
    with pytest.raises(RefusedError, match="--attention exact"):
        choose_knots(network, [torch.rand(1, 3, 20, 24)])


def test_no_attention_no_curve() -> None:
    network = gidrn.create("gidrn", 2, config=dataclasses.replace(TINY, anrb=False))
    with pytest.raises(RefusedError, match="ANRB"):
        choose_knots(network, [torch.rand(1, 3, 20, 24)])


def _with_scalars(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, DenseShortcut):
                for n, row in enumerate(part.weights):
                    row.copy_(torch.linspace(-0.3, 0.9, row.numel()) + n / 10)
    return network.eval()


def test_shortcut_scalars_become_constants() -> None:
    network = _with_scalars(gidrn.create("gidrn", 2, config=TINY))
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        wanted = network(x)
        assert shortcut_scalars.apply(network) == 3  # two groups and the one across them
        assert not any(isinstance(part, DenseShortcut) for part in network.modules())
        torch.testing.assert_close(network(x), wanted)


def test_one_shuffle_serves_both_branches() -> None:
    network = _with_scalars(gidrn.create("gidrn", 3, config=TINY))
    x = torch.rand(2, 3, 9, 11)
    with torch.no_grad():
        changed = single_shuffle.rewrite(network)
        torch.testing.assert_close(changed(x), network(x))
    assert sum(isinstance(part, nn.PixelShuffle) for part in changed.modules()) == 1


def test_other_networks_keep_their_end() -> None:
    network = nn.Conv2d(3, 3, 1)
    assert single_shuffle.rewrite(network) is network


@pytest.mark.usefixtures("fixed_windows")
def test_a_fixed_window_is_another_pooling() -> None:
    """The fault that `test_to_onnx` plants is a fault at 80x120 and none at 48x48."""
    x = torch.rand(1, 1, 80, 120)
    even = torch.rand(1, 1, 48, 48)
    pool = PyramidPooling((1, 3, 6, 8))
    assert not torch.allclose(pool(x), pyramid_pool(x, (1, 3, 6, 8)), atol=1e-3)
    assert torch.allclose(pool(even), pyramid_pool(even, (1, 3, 6, 8)), atol=1e-5)


@pytest.mark.parametrize(("factor", "groups"), [(1, 6), (2, 3), (3, 2), (6, 1), (None, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_groups_are_the_same_function(factor: int | None, groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(12, 24, 3, stride=2, padding=1, groups=6, bias=bias), nn.Conv2d(24, 3, 1)
    ).double()
    x = torch.rand(2, 12, 9, 8, dtype=torch.float64)
    wanted = network(x)
    assert merged_groups.apply(network.float(), factor) == 1
    wide = network[0]
    assert isinstance(wide, nn.Conv2d)
    assert wide.groups == groups
    assert (wide.bias is not None) == bias
    assert wide.weight.count_nonzero() == 24 * 2 * 9
    torch.testing.assert_close(network.double()(x), wanted, rtol=1e-6, atol=1e-6)


def test_groups_that_do_not_merge_are_refused_before_anything_changes() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(6, 6, 1, groups=3))
    before = list(network)
    for factor, message in ((2, "1 has 3 groups, which do not merge 2"), (0, "do not merge 0")):
        with pytest.raises(RefusedError, match=message):
            merged_groups.apply(network, factor)
        assert list(network) == before
    with pytest.raises(RefusedError, match="no grouped convolutions"):
        merged_groups.apply(nn.Sequential(nn.Conv2d(4, 4, 1)), None)


def test_fusion_in_parts_is_the_fusion() -> None:
    torch.manual_seed(4)
    network = gidrn.create("gidrn", 2, config=TINY).eval()
    x = torch.randn(2, 3, 9, 13)
    wanted = network(x)
    assert split_fusion.apply(network) == 4
    assert split_fusion.apply(network) == 0  # no G-IDB is left
    came = network(x)
    assert not torch.equal(came, wanted)  # another order of the sums
    torch.testing.assert_close(came, wanted, atol=1e-5, rtol=1e-5)


def test_the_blocked_layout_s_form_is_the_same_to_the_bit() -> None:
    torch.manual_seed(5)
    network = gidrn.create("gidrn", 2, config=TINY).eval()
    x = torch.randn(2, 3, 9, 13)
    wanted = network(x)
    assert blocked_layout.apply(network) == 12
    assert torch.equal(network(x), wanted)
    with pytest.raises(RefusedError, match="already"):  # a second pass would nest
        blocked_layout.apply(network)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3)), "no LSRB"),
        (
            gidrn.create("gidrn", 2, config=dataclasses.replace(TINY, channels=12, group_width=4)),
            "channels by 8, not 12",
        ),
    ],
)
def test_what_has_no_blocked_form_is_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        blocked_layout.apply(network)
