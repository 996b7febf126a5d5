"""G-IDRN and IDRN: group-information distillation residual networks.

Wang et al., "Lightweight image super-resolution with a group-information distillation residual
network", Acta Automatica Sinica 50(10), 2024, DOI 10.16383/j.aas.c211089.

Departures and choices where the paper is silent:
- A shortcut scalar w_i^j starts at 1 for i = j and at 0 elsewhere: with all of them at 1, fresh
  weights turn inputs in [0, 1] into activations in the thousands.
- An LSRB adds its input before the activation, as RFDN's shallow residual block does.
- Inside contrast attention a variance under 1e-12 counts as 1e-12 (sqrt has no gradient at 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gidrn.networks.anrb import ANRB
from gidrn.networks.attention import ContrastAttention
from gidrn.networks.upsampler import Upsampler


@dataclass(frozen=True)
class GIDRNConfig:
    """What Section 2 fixes and Tables 1, 2 and 6 vary."""

    channels: int = 72
    """C, the width of every feature map (Sec. 3.2)."""
    group_width: int | None = 8
    """m, channels a group of the 3x3 convolutions; None for ordinary ones (IDRN, Table 6)."""
    groups_of_blocks: int = 3
    """How many G-IDRGs there are (Eq. 2)."""
    blocks_per_group: int = 3
    """How many G-IDBs make a G-IDRG (Sec. 2.2)."""
    attention_reduction: int = 4
    """CCA's reduction: C -> C / 4 -> C."""
    anrb: bool = True
    """Whether the asymmetric non-local block stands before the reconstruction (Table 1)."""
    pool_sizes: tuple[int, ...] = (1, 3, 6, 8)
    """ANRB's pyramid; () keeps all points (Table 2)."""

    def __post_init__(self) -> None:
        if self.group_width is not None and (
            self.group_width < 1 or self.channels % self.group_width
        ):
            raise ValueError(
                f"group_width must divide channels={self.channels}, and {self.group_width} does not"
            )
        if not 0 < self.attention_reduction <= self.channels:
            raise ValueError(
                f"attention_reduction is between 1 and channels={self.channels}, "
                f"not {self.attention_reduction}"
            )
        if self.groups_of_blocks < 1 or self.blocks_per_group < 1:
            raise ValueError(
                "groups_of_blocks and blocks_per_group are at least 1, "
                f"not {self.groups_of_blocks} and {self.blocks_per_group}"
            )
        if any(size < 1 for size in self.pool_sizes):
            raise ValueError(f"pool_sizes are positive integers, not {self.pool_sizes}")

    @property
    def groups(self) -> int:
        """g = C / m, the number of groups of a 3x3 convolution (Sec. 2.2)."""
        return 1 if self.group_width is None else self.channels // self.group_width


class LSRB(nn.Module):
    """Lightweight shallow residual block: pointwise, then grouped 3x3, plus input (Sec. 2.2).

    Returns the pointwise output, kept for the block's concatenation, and the block's own output,
    both (N, C, H, W).
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, kernel_size=1)
        self.grouped = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups)
        self.activation = nn.LeakyReLU(0.05, inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        distilled = self.pointwise(x)
        return distilled, self.activation(self.grouped(distilled) + x)


class GIDB(nn.Module):
    """Group-information distillation block (Sec. 2.2, Fig. 4b), without its weighted residual.

    The residual is the dense shortcut's scalar w_j^j: see `DenseShortcut`.
    """

    def __init__(self, channels: int, groups: int, attention_reduction: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(LSRB(channels, groups) for _ in range(3))
        self.grouped = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups)
        self.fuse = nn.Conv2d(4 * channels, channels, kernel_size=1)
        self.attention = ContrastAttention(channels, attention_reduction)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in self.steps:
            distilled, x = step(x)
            kept.append(distilled)
        kept.append(self.grouped(x))
        fused = self.fuse(torch.cat(kept, dim=1))  # (N, 4C, H, W) -> (N, C, H, W)
        weighted: Tensor = self.attention(fused)
        return weighted


class DenseShortcut(nn.Module):
    """Modules in a row, each output plus a learnt blend of all inputs so far (Sec. 2.2).

    output_j = body_j(input_j) + sum over i <= j of w_i^j * input_i, and input_{j+1} = output_j.
    `weights[j][i]` is w_i^j: n(n+1)/2 scalars for n modules.
    """

    def __init__(self, bodies: list[nn.Module]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.tensor([0.0] * j + [1.0])) for j in range(len(bodies))
        )

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x]
        for body, weights in zip(self.bodies, self.weights, strict=True):
            output = body(inputs[-1])
            for i, earlier in enumerate(inputs):
                output = output + weights[i] * earlier
            inputs.append(output)
        return inputs[-1]


class GIDRN(nn.Module):
    """The whole network (Sec. 2.1, Fig. 3): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. CCA and ANRB look at the whole image, so a crop's
    output differs slightly from the crop of the whole image's output.
    """

    def __init__(self, scale: int, config: GIDRNConfig) -> None:
        super().__init__()
        channels = config.channels
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.deep = DenseShortcut(
            [
                DenseShortcut(
                    [
                        GIDB(channels, config.groups, config.attention_reduction)
                        for _ in range(config.blocks_per_group)
                    ]
                )
                for _ in range(config.groups_of_blocks)
            ]
        )
        self.anrb = ANRB(channels, config.pool_sizes) if config.anrb else nn.Identity()
        self.fine = Upsampler(channels, scale)
        self.coarse = Upsampler(3, scale, kernel_size=5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.shallow(x)  # (N, 3, H, W) -> (N, C, H, W)
        features = self.deep(features)
        features = self.anrb(features)
        fine: Tensor = self.fine(features)  # -> (N, 3, s*H, s*W)
        coarse: Tensor = self.coarse(x)  # -> (N, 3, s*H, s*W)
        return fine + coarse
