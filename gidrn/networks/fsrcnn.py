"""FSRCNN: SRCNN at the low resolution, with a transposed convolution at its end.

Dong et al., "Accelerating the super-resolution convolutional neural network", ECCV 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gidrn.networks.luma import LumaNetwork


@dataclass(frozen=True)
class FSRCNNConfig:
    """The sizes of the published network, FSRCNN(56, 12, 4)."""

    channels: int = 56
    """d, the width of the features."""
    shrunk: int = 12
    """s, the width of the mapping layers."""
    mappings: int = 4
    """m, how many mapping layers there are."""

    def __post_init__(self) -> None:
        if min(self.channels, self.shrunk, self.mappings) < 1:
            raise ValueError(
                f"channels, shrunk and mappings are at least 1, not {self.channels}, "
                f"{self.shrunk} and {self.mappings}"
            )


class FSRCNN(LumaNetwork):
    """The whole network (Sec. 3.2): extract, shrink, map, expand, and enlarge."""

    def __init__(self, scale: int, config: FSRCNNConfig) -> None:
        super().__init__(scale)
        wide, narrow = config.channels, config.shrunk

        def layer(channels: int, out: int, side: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, out, side, padding=side // 2), nn.PReLU(out)]

        self.deep = nn.Sequential(
            *layer(1, wide, 5),
            *layer(wide, narrow, 1),
            *(part for _ in range(config.mappings) for part in layer(narrow, narrow, 3)),
            *layer(narrow, wide, 1),
        )
        self.reconstruct = nn.ConvTranspose2d(
            wide, 1, kernel_size=9, stride=scale, padding=4, output_padding=scale - 1
        )

    def enhance(self, low: Tensor, enlarged: Tensor) -> Tensor:
        luma: Tensor = self.reconstruct(self.deep(low))  # (N, 1, H, W) -> (N, 1, s*H, s*W)
        return luma
