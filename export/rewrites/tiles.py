"""A network that sees one tile of an image and is told what it would need the whole image for.

Two parts of our networks look at the whole image, and at nothing but a few numbers of it:

CCA: x * weigh(deviation + mean), mean and deviation of each channel over all pixels. A tile says
the mean m and the mean square v of the distance from it over its *core*, the n pixels that are its
and no other tile's. With M = n v those of all tiles merge exactly (Chan, Golub, LeVeque, 1979):

    n = n1 + n2,  m = m1 + (m2 - m1) n2 / n,  M = M1 + M2 + (m2 - m1)^2 n1 n2 / n.

ANRB: keys and values pooled over the image. Pooling is linear: with the image's window matrices P_h
and P_w cut to the tile's rows and columns, and 0 outside of its core, P_h X P_w^T of the tiles add
up to the image's.

So the graph gets more ends. In: weights of the core's rows and columns, each CCA's `contrast`
(deviation + mean), the pooled points, the parts of P_h and P_w. Out: each CCA's moments, the part
of the points. All that is left is local: a tile with a halo of at least the reach, cut off at the
image's borders and nowhere else, gives the image's own pixels, since zero padding then falls where
the whole image has it.

The i-th of these statistics depends on the image and those before it: told exact ones, the tiles
give the next one exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from export.rewrites import RefusedError, replace
from export.rewrites.attention import ExactAttention, ExportedANRB
from export.rewrites.pyramid_pooling import PyramidPooling
from gidrn.networks.attention import ContrastAttention

MOST_REACH = 128
"""A halo beyond this makes tiles of little else; a part that still looks at the whole image
reaches further."""


@dataclass(frozen=True)
class Run:
    """What the parts of a network are told in one run, and what they say."""

    rows: Tensor
    """(1, h): for each row of the core 1 over the core's height, elsewhere 0."""
    columns: Tensor
    """(w, 1): the same of columns."""
    pool_rows: Tensor | None
    """(R, h): the tile's part of P_h."""
    pool_columns: Tensor | None
    """(R, w): the tile's part of P_w."""
    told: Sequence[Tensor]
    """(1, C, 1, 1) for a CCA, (1, 2, S) for an ANRB, in the parts' order."""
    said: dict[int, Tensor] = field(default_factory=dict)
    """By the parts' place in that order: (2, C) of a CCA, mean and mean square of the distance from
    it; (2, S) of an ANRB."""


class Told(nn.Module):
    """A part that is told its statistic. Parts are called with features alone, so the network's
    wrapper lays the run down here."""

    kind: Literal["contrast", "points"]
    shape: tuple[int, ...]
    """Of what it is told."""
    place = 0
    """In the order in which the parts run."""
    run: Run | None = None

    def at_hand(self) -> tuple[Run, Tensor]:
        """The run, and this part's statistic."""
        assert self.run is not None
        return self.run, self.run.told[self.place]


class ToldAttention(Told):
    """CCA that is told the image's contrast."""

    kind = "contrast"

    def __init__(self, block: ContrastAttention) -> None:
        super().__init__()
        self.weigh = block.weigh
        first = next(part for part in block.weigh.modules() if isinstance(part, nn.Conv2d))
        self.shape = (1, first.in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        run, contrast = self.at_hand()
        mean = run.rows @ x @ run.columns  # (1, C, h, w) -> (1, C, 1, 1)
        centred = x - mean
        square = run.rows @ (centred * centred) @ run.columns
        run.said[self.place] = torch.cat([mean, square]).flatten(1)  # (2, C)
        weighted: Tensor = x * self.weigh(contrast)
        return weighted


class ToldANRB(Told):
    """ANRB that is told the image's pooled keys and values."""

    kind = "points"

    def __init__(self, block: ExportedANRB) -> None:
        super().__init__()
        if not isinstance(block.pool, PyramidPooling):
            raise RefusedError(
                "an ANRB without pooling looks at every pixel of the image; a tile cannot be told "
                "them all"
            )
        self.project, self.attention, self.expand = block.project, block.attention, block.expand
        self.pool = block.pool
        self.shape = (1, 2, len(self.pool.cells))

    def forward(self, x: Tensor) -> Tensor:
        run, points = self.at_hand()
        assert run.pool_rows is not None
        assert run.pool_columns is not None
        height, width = x.shape[2:]
        projected = self.project(x)  # (1, C, h, w) -> (1, 3, h, w): query, key, value
        sums = run.pool_rows @ projected[:, 1:] @ run.pool_columns.transpose(0, 1)
        run.said[self.place] = sums.flatten(2)[0][:, self.pool.cells]  # (1, 2, R, R) -> (2, S)
        query = projected[:, :1].flatten(2)
        attended = self.attention(query, points[:, :1], points[:, 1:])
        expanded: Tensor = self.expand(attended.reshape(-1, 1, height, width))
        return x + expanded


@dataclass(frozen=True)
class Statistic:
    """One thing that a tile is told and says its part of."""

    kind: Literal["contrast", "points"]
    shape: tuple[int, ...]
    """Of what the tile is told."""
    reach: int
    """In input pixels, of the features that it is taken of."""


class TileNetwork(nn.Module):
    """The graph of one tile; its ends are `input_names` and `output_names`.

    `network` has its other rewrites behind it, and is changed. Raises RefusedError where something
    in it still looks at the whole image, or further than `MOST_REACH`.
    """

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        replace(network, ContrastAttention, ToldAttention)
        replace(network, ExportedANRB, ToldANRB)
        self.network = network
        self.told = [part for part in network.modules() if isinstance(part, Told)]
        if not self.told:
            raise RefusedError(
                "there is no contrast attention and no ANRB in this network, so there is nothing "
                "to tell a tile; where its reach is known, the runtime makes tiles of the plain "
                "file"
            )
        pools = [part.pool for part in self.told if isinstance(part, ToldANRB)]
        if len(pools) > 1:
            raise RefusedError(f"one ANRB can be told its points, and here are {len(pools)}")
        self.pool: PyramidPooling | None = pools[0] if pools else None
        self._put_in_order()
        self.statistics, self.reach = reaches(self, scale)

    def _put_in_order(self) -> None:
        """Give each part its place in the order in which they run."""
        for place, part in enumerate(self.told):
            part.place = place
        order: list[Told] = []
        hooks = [
            part.register_forward_pre_hook(lambda part, _: order.append(part)) for part in self.told
        ]
        with torch.no_grad():
            self(*self.example(8, 8))
        for hook in hooks:
            hook.remove()
        self.told = order
        for place, part in enumerate(order):
            part.place = place

    @property
    def pool_sizes(self) -> tuple[int, ...]:
        """The pyramid's sides; () without an ANRB."""
        return self.pool.pool_sizes if self.pool is not None else ()

    @property
    def input_names(self) -> list[str]:
        """The inputs' names, in the order of `forward`."""
        pools = ["pool_rows", "pool_columns"] if self.pool is not None else []
        return ["input", "rows", "columns", *pools, *(f"told_{i}" for i in range(len(self.told)))]

    @property
    def output_names(self) -> list[str]:
        """The outputs' names, in the order of `forward`."""
        return ["output", *(f"said_{i}" for i in range(len(self.told)))]

    def example(self, height: int, width: int) -> list[Tensor]:
        """Inputs of a tile that is the whole image, its statistics all 0."""
        found = [
            torch.rand(1, 3, height, width),
            torch.full((1, height), 1 / height),
            torch.full((width, 1), 1 / width),
        ]
        if self.pool is not None:
            found += [self.pool.windows(height), self.pool.windows(width)]
        return found + [torch.zeros(part.shape) for part in self.told]

    def forward(
        self, tile: Tensor, rows: Tensor, columns: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        """(1, 3, h, w) in [0, 1] and what `input_names` says -> what `output_names` says."""
        pool_rows = pool_columns = None
        if self.pool is not None:
            pool_rows, pool_columns = others[:2]
        told = others[2:] if self.pool is not None else others
        run = Run(rows, columns, pool_rows, pool_columns, told)
        for part in self.told:
            part.run = run
        output: Tensor = self.network(tile)
        for part in self.told:
            part.run = None
        return (output, *(run.said[part.place] for part in self.told))


@torch.no_grad()
def reaches(tiles: TileNetwork, scale: int) -> tuple[tuple[Statistic, ...], int]:
    """Its statistics with their reach, and the reach of its output, in input pixels.

    Told its statistics, a network has nothing left that is not local, so that one pixel which is
    not a number spoils what can see it, and nothing else: in FP64, since fast convolutions would
    spoil more. Raises RefusedError where that is beyond `MOST_REACH`.
    """
    tiles = copy.deepcopy(tiles).double()
    spoilt: list[Tensor] = []
    for part in tiles.told:
        if isinstance(part, ToldANRB):
            part.attention = ExactAttention()  # the curve looks for the least and largest query
        part.register_forward_pre_hook(lambda _, inputs: spoilt.append(inputs[0].isnan()))
    worst = [0] * (len(tiles.told) + 1)
    length = MOST_REACH + 16
    for height, width in ((length, 6), (6, length)):
        spoilt.clear()
        inputs = [x.double() for x in tiles.example(height, width)]
        inputs[0][:, :, 0, 0] = torch.nan
        output = tiles(*inputs)[0].isnan()
        for i, mask in enumerate([*spoilt, output]):
            last = int(mask.nonzero()[:, 2:].max())
            worst[i] = max(worst[i], last // scale if i == len(spoilt) else last)
    if max(worst) > MOST_REACH:
        raise RefusedError(
            "told the statistics of its contrast attentions and its ANRB, this network still looks "
            f"further than {MOST_REACH} pixels: its tiles would not be exact"
        )
    statistics = tuple(
        Statistic(part.kind, part.shape, reach)
        for part, reach in zip(tiles.told, worst, strict=False)
    )
    return statistics, worst[-1]
