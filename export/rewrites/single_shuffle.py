"""Fine and coarse branch end in one pixel shuffle instead of two.

Shuffling only moves numbers, so shuffle(a) + shuffle(b) = shuffle(a + b): the sum is taken at the
low resolution, over the same numbers.
"""

from __future__ import annotations

from torch import Tensor, nn

from gidrn.networks.gidrn import GIDRN


class SingleShuffle(nn.Module):
    """GIDRN with the shuffle taken once."""

    def __init__(self, network: GIDRN) -> None:
        super().__init__()
        self.shallow = network.shallow
        self.deep = network.deep
        self.anrb = network.anrb
        self.fine = network.fine.conv
        self.coarse = network.coarse.conv
        self.shuffle = network.fine.shuffle

    def forward(self, x: Tensor) -> Tensor:
        features = self.anrb(self.deep(self.shallow(x)))
        pixels: Tensor = self.shuffle(self.fine(features) + self.coarse(x))
        return pixels


def rewrite(network: nn.Module) -> nn.Module:
    """The network itself where it has no two branches."""
    return SingleShuffle(network) if isinstance(network, GIDRN) else network
