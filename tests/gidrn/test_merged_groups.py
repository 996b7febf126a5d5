"""Merged groups are the same function with the same weights, gradients and state dict."""

from __future__ import annotations

import copy
import dataclasses
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from gidrn import runs, train, zoo
from gidrn.losses import HighFrequencyLoss
from gidrn.merged_groups import MergedGroups, fastest_factor, has_groups, merge_groups
from gidrn.networks.gidrn import GIDRN, GIDRNConfig
from gidrn.recipes import Recipe

CONFIG = GIDRNConfig(channels=24, group_width=4, groups_of_blocks=1, blocks_per_group=1)
"""Six groups: they merge by 2, by 3 and all."""

Factor = int | Literal["all"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return GIDRN(2, CONFIG)


def trained_once(network: nn.Module, *, bf16: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and gradients of a made-up loss on a made-up batch."""
    x = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output: Tensor = network(x)
    output.float().square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return output.detach().float(), gradients


def assert_same(a: nn.Module, b: nn.Module, *, bf16: bool = False) -> None:
    (output_a, gradients_a), (output_b, gradients_b) = (
        trained_once(net, bf16=bf16) for net in (a, b)
    )
    # Sums in another order: some units of the last place; bf16 has 8 bits, some of them lost on
    # the way through the network's dozen layers.
    limit = 0.05 if bf16 else 1e-5
    assert (output_a - output_b).abs().max() <= limit * output_a.abs().max()
    assert gradients_a.keys() == gradients_b.keys() == dict(a.named_parameters()).keys()
    for name, of_a in gradients_a.items():
        assert of_a.shape == gradients_b[name].shape
        # ANRB's value bias has next to no gradient, its key bias none but rounding's, which is
        # 1e-10 on some CPUs: the softmax does not see what all keys share.
        whole = of_a.norm().clamp_min(1e-4 if name == "anrb.key.bias" else 1e-6)
        assert (of_a - gradients_b[name]).norm() <= 2 * limit * whole, name


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("factor", [2, 3, 6, "all"])
def test_outputs_and_gradients_are_those_of_the_grouped_form(factor: Factor, bf16: bool) -> None:
    plain, merged = network(), network()
    assert merge_groups(merged, factor) == 4
    assert not has_groups(merged)
    assert_same(plain, merged, bf16=bf16)


@pytest.mark.parametrize(
    ("groups", "factor", "bias", "stride", "dilation", "padding"),
    [
        (4, 2, True, 1, 1, 1),
        (4, 4, False, 2, 1, 0),
        (8, 4, True, 1, 2, "same"),
        (8, 8, True, (1, 2), 1, (0, 2)),  # depthwise
    ],
)
def test_every_kind_of_convolution(
    groups: int, factor: int, bias: bool, stride: int, dilation: int, padding: int | str
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, (3, 5), stride, padding, dilation, groups, bias).double()
    merged = MergedGroups(copy.deepcopy(conv), factor)
    x = torch.rand(2, 8, 11, 12, dtype=torch.float64)
    a, b = conv(x), merged(x)
    torch.testing.assert_close(a, b)
    for output in (a, b):
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    for own, other in zip(conv.parameters(), merged.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_blocks_off_the_diagonal_stay_out_of_it() -> None:
    """A weight that is not finite harms its own group and no other's."""
    conv = nn.Conv2d(4, 4, 1, groups=2, bias=False)
    with torch.no_grad():
        conv.weight[0] = float("inf")
    output = MergedGroups(conv, 2)(torch.ones(1, 4, 1, 1))
    assert torch.isfinite(output[0, 2:]).all()


def test_parameters_and_state_dict_stay() -> None:
    net = network()
    before, state = dict(net.named_parameters()), copy.deepcopy(net.state_dict())
    merge_groups(net, 2)
    after = dict(net.named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    merged_state = net.state_dict()
    assert list(merged_state) == list(state)
    fresh = GIDRN(2, CONFIG)
    fresh.load_state_dict(merged_state)  # strict: no key more, no key less
    net.load_state_dict(state)
    twin = copy.deepcopy(net)  # as training does for the averaged weights
    assert all(a is not b for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_it_compiles() -> None:
    """Traced in one piece, forwards and back; the code generator, which takes a minute, is left
    out."""
    plain, merged = network(), network()
    merge_groups(merged, 3)
    compiled = torch.compile(merged, backend="aot_eager", fullgraph=True)
    output, _ = trained_once(compiled)  # type: ignore[arg-type]  # a module all the same
    wanted, gradients = trained_once(plain)
    torch.testing.assert_close(output, wanted)
    for name, parameter in merged.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_training_goes_on_with_the_same_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of `gidrn.train` in both forms end at the same weights."""
    line = dataclasses.replace(zoo.NETWORKS["gidrn"], config=CONFIG)
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", line)
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    ends = []
    for factor in (1, 2):
        # Adam's first steps have the size of the learning rate whatever the gradient's: a large
        # epsilon keeps them from making rounding into a step.
        recipe = Recipe(scale=2, steps=3, batch=2, patch=8, adam_epsilon=1e-2)
        run = runs.begin(recipe, "cpu")
        merge_groups(run.network, factor)
        run.network.train()
        for _ in range(3):
            train.take_step(run, run.network, HighFrequencyLoss(), low, high)
        ends.append(run)
    fresh = runs.begin(recipe, "cpu").network.state_dict()
    for module in ("network", "average"):
        a, b = (getattr(run, module).state_dict() for run in ends)
        moved = max(float((a[name] - fresh[name]).abs().max()) for name in a)
        assert moved > 0
        assert all((a[name] - b[name]).abs().max() <= 1e-3 * moved for name in a)


def test_what_cannot_be_merged_is_refused_before_anything_changes() -> None:
    net = network()
    with pytest.raises(ValueError, match="divisor of 6"):
        merge_groups(net, 4)
    with pytest.raises(ValueError, match="at least 1"):
        merge_groups(net, 0)
    assert has_groups(net)
    assert merge_groups(net, 1) == 0
    assert has_groups(net)
    with pytest.raises(ValueError, match="not a convolution"):
        merge_groups(nn.Conv2d(4, 4, 3, groups=2), "all")
    with pytest.raises(ValueError, match="padding_mode"):
        MergedGroups(nn.Conv2d(4, 4, 3, groups=2, padding=1, padding_mode="reflect"), 2)
    assert merge_groups(zoo.create("imdn", 2), "all") == 0


def test_the_fastest_factor_is_a_divisor_that_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, groups=6))
    assert fastest_factor(layers, batch=1, patch=8, autocast=False) in (1, 2, 3, 6)
    assert fastest_factor(layers[0], batch=1, patch=8, autocast=True) == 1

    def pretend(seconds: dict[int, float]) -> int:
        """A clock that stands still but in `forward`, which takes `seconds` by factor."""
        now = 0.0
        real = MergedGroups.forward

        def forward(layer: MergedGroups, x: Tensor) -> Tensor:
            nonlocal now
            now += seconds[layer.factor]
            return real(layer, x)

        plain = nn.Conv2d.forward

        def as_it_is(layer: nn.Conv2d, x: Tensor) -> Tensor:
            nonlocal now
            now += seconds[1]
            return plain(layer, x)

        with monkeypatch.context() as patched:
            patched.setattr(MergedGroups, "forward", forward)
            patched.setattr(nn.Conv2d, "forward", as_it_is)
            patched.setattr("gidrn.merged_groups.time.perf_counter", lambda: now)
            return fastest_factor(layers, batch=1, patch=8, autocast=False)

    assert pretend({1: 1.0, 2: 0.7, 3: 0.5, 6: 0.6}) == 3
    assert pretend({1: 1.0, 2: 0.95, 3: 1.5, 6: 2.0}) == 1
