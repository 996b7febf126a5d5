"""ANRB for export: one convolution for query, key and value; the attention exact or as a curve.

Exact: softmax(q k^T) v over the S pooled points, an (H*W, S) matrix.

Curve: query, key and value have one channel, so a pixel's attention is a function of one number,
f(q) = sum_j softmax_j(q * k_j) * v_j, the same f for the whole image. f is evaluated at K knots and
read off by linear interpolation: memory O(H*W + K*S).

Far from q = 0 the softmax settles on the largest or the smallest key and f is flat; near 0 it turns
within 1/Dk, Dk the spread (largest less smallest) of the image's keys. The knots therefore stand
evenly in u(q) = sign(q) * log(1 + |q| / s), with s = CENTRE / Dk, between the u of the image's
smallest query and that of its largest. A spread of queries and keys a thousand times wider asks for
twice the knots, not for a thousand times as many.

The interpolation error is at most h^2 / 8 * max|g''|, h the distance in u between knots and
g(u) = f(q(u)). With q' = s + |q| and |q''| = s + |q|,

    |g''| <= |f''| (s + |q|)^2 + |f'| (s + |q|).

Under the softmax weights, f' = Cov(k, v) and f'' = E[(k - mean k)^2 (v - mean v)]. Dv being the
spread of the values,

    |f'| <= min(Dk Dv / 4, Dv / 2 * sqrt(Var k)),    |f''| <= Dv min(Dk^2 / 4, Var k)

(Gruess, Cauchy-Schwarz), and Var k <= B / q^2: it is at most the mean square of the distances from
the key with the largest weight, whose supremum over all sets of S keys has S - 1 of them at one
distance, B = x (x - 2) where x = 2 + W(2 (S - 1) / e^2), W Lambert's function. Both bounds meet at
|q| Dk = 2 sqrt(B), and |g''| / Dv is largest there, or at the image's largest |q| Dk where that is
less. Dq being the spread of the queries and r = CENTRE + min(2 sqrt(B), Dq Dk),

    |error| <= h^2 / 8 * (r^2 + r) / 4 * Dv,    h <= 2 log(1 + Dq Dk / (2 CENTRE)) / (K - 1).

(Queries all of one sign may pass Dq Dk; the product of both factors is then smaller still.)

From there to a pixel it is multiplied by the 1x1 convolution 1 -> C and the fine branch's 3x3
convolution: at most by the largest, over output channels, of the sum over taps of
|sum_c fine[o, c, tap] * expand[c]|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from export.rewrites import RefusedError, replace
from export.rewrites.pyramid_pooling import PyramidPooling
from gidrn.networks.anrb import ANRB, pyramid_pool

Attention = Literal["exact", "curve"]

LEAST_KNOTS, MOST_KNOTS = 64, 65_536
CENTRE = 4.0
"""Where the knots' spacing turns from even to a constant ratio, as |q| times the keys' spread."""
BUDGET_LEVELS = 0.01
"""What interpolation may move a pixel by, in 8-bit levels."""
SPREAD_MARGIN = 2.0
"""Images may spread queries, keys and values this much further than those measured here."""


class ExactAttention(nn.Module):
    """softmax(q k^T) v: query (N, 1, P), key and value (N, 1, S) -> (N, 1, P)."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = torch.softmax(query.transpose(1, 2) * key, dim=2)  # (N, P, S)
        return (weights @ value.transpose(1, 2)).transpose(1, 2)


class CurveAttention(nn.Module):
    """The same, tabulated at `knots` points and interpolated."""

    def __init__(self, knots: int) -> None:
        super().__init__()
        self.exact = ExactAttention()
        self.last = float(knots - 1)
        self.fraction: Tensor
        grid = torch.arange(knots, dtype=torch.float32) / (knots - 1)
        self.register_buffer("fraction", grid.view(1, 1, -1), persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        spread = key.amax(dim=2, keepdim=True) - key.amin(dim=2, keepdim=True)  # (N, 1, 1)
        slope = (spread / CENTRE).clamp_min(1e-6)  # of equal keys f is flat, whatever the knots
        u = query.sign() * (1 + query.abs() * slope).log()  # (N, 1, P)
        low = u.amin(dim=2, keepdim=True)
        width = u.amax(dim=2, keepdim=True) - low
        knots = low + width * self.fraction  # (N, 1, K)
        table: Tensor = self.exact(knots.sign() * (knots.abs().exp() - 1) / slope, key, value)
        # Equal queries have no width: all of them read the first knot.
        position = (u - low) * (self.last / width.clamp_min(1e-20))
        left = position.floor().clamp(0.0, self.last - 1)
        at = left.long()
        before = table.gather(2, at)
        return before + (position - left) * (table.gather(2, at + 1) - before)


class ExportedANRB(nn.Module):
    """ANRB with its three projections in one convolution and its pooling as matrix products."""

    def __init__(self, block: ANRB, attention: nn.Module) -> None:
        super().__init__()
        channels = block.query.in_channels
        self.project = nn.Conv2d(channels, 3, kernel_size=1)
        parts = (block.query, block.key, block.value)
        with torch.no_grad():
            self.project.weight.copy_(torch.cat([part.weight for part in parts]))
            biases = [part.bias for part in parts if part.bias is not None]
            assert self.project.bias is not None
            self.project.bias.copy_(torch.cat(biases))
        self.pool = PyramidPooling(block.pool_sizes) if block.pool_sizes else nn.Flatten(2)
        self.attention = attention
        self.expand = block.expand

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        projected = self.project(x)  # (N, C, H, W) -> (N, 3, H, W): query, key, value
        pooled = self.pool(projected[:, 1:])  # (N, 2, S)
        query = projected[:, :1].flatten(2)  # (N, 1, H*W)
        attended = self.attention(query, pooled[:, :1], pooled[:, 1:])
        expanded: Tensor = self.expand(attended.reshape(-1, 1, height, width))
        return x + expanded


@dataclass(frozen=True)
class Curve:
    """How many knots a network's curve has, and what that guarantees."""

    knots: int
    bound_levels: float
    """Most that interpolation can move an output pixel, in 8-bit levels, on the images measured
    and on others whose queries, keys and values spread up to the margin's factor as far."""


def interpolation_error(dq_dk: float, points: int) -> float:
    """Most that linear interpolation with two knots can err, as a part of the values' spread.

    With K knots it is (K - 1)^2 times less. `dq_dk` is the product of the queries' and keys'
    spreads, `points` the number of keys: see the module's first lines.
    """
    wanted = 2 * max(0, points - 1) / math.e**2
    lambert = math.log1p(wanted)
    for _ in range(20):  # Newton's steps towards lambert * e^lambert = wanted, from above
        lambert -= (lambert - wanted * math.exp(-lambert)) / (lambert + 1)
    x = 2 + lambert
    r = CENTRE + min(2 * math.sqrt(x * (x - 2)), dq_dk)
    width = 2 * math.log1p(dq_dk / (2 * CENTRE))
    return width**2 / 8 * (r**2 + r) / 4


def gain(block: ANRB, fine: nn.Conv2d) -> float:
    """Most that an error of 1 in the attention's output can become in an output pixel."""
    expand = block.expand.weight.detach()[:, 0, 0, 0].double()
    taps = torch.einsum("ochw,c->ohw", fine.weight.detach().double(), expand)
    return float(taps.abs().sum(dim=(1, 2)).max())


@torch.no_grad()
def choose_knots(
    network: nn.Module,
    images: Iterable[Tensor],
    *,
    budget_levels: float = BUDGET_LEVELS,
    margin: float = SPREAD_MARGIN,
) -> Curve:
    """Fewest knots (a power of two) whose computed error bound stays within `budget_levels`.

    `images` are tensors (N, 3, H, W) on which the spread of queries, keys and values is measured;
    the bound holds for others that spread up to `margin` times as far.
    Raises RefusedError where more than `MOST_KNOTS` would be needed.
    """
    blocks = [part for part in network.modules() if isinstance(part, ANRB)]
    fine = getattr(getattr(network, "fine", None), "conv", None)
    if len(blocks) != 1 or not isinstance(fine, nn.Conv2d):
        raise RefusedError("the curve needs one ANRB followed by the fine branch's convolution")
    block = blocks[0]
    worst = 0.0  # over the images, the bound on the error in the attention with one interval

    def measure(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal worst
        x = inputs[0]
        query = block.query(x).flatten(1)
        pooled = [pyramid_pool(p(x), block.pool_sizes).flatten(1) for p in (block.key, block.value)]
        spreads = ((t.amax(dim=1) - t.amin(dim=1)) * margin for t in (query, *pooled))
        for dq, dk, dv in torch.stack(tuple(spreads), dim=1).tolist():
            worst = max(worst, interpolation_error(dq * dk, pooled[0].shape[1]) * dv)

    handle = block.register_forward_pre_hook(measure)
    try:
        for image in images:
            network(image)
    finally:
        handle.remove()
    at_one = 255 * gain(block, fine) * worst
    wanted = math.sqrt(at_one / budget_levels) + 1
    if wanted > MOST_KNOTS:
        raise RefusedError(
            f"a curve within {budget_levels} levels needs {wanted:.0f} knots, more than "
            f"{MOST_KNOTS}: take --attention exact"
        )
    knots = max(LEAST_KNOTS, 2 ** math.ceil(math.log2(wanted)))
    return Curve(knots, at_one / (knots - 1) ** 2)


def apply(network: nn.Module, make_attention: Callable[[], nn.Module]) -> int:
    """Rewrite every ANRB of `network` in place; returns how many there were."""
    return replace(network, ANRB, lambda block: ExportedANRB(block, make_attention()))
