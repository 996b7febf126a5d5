"""RFDN, RFDN-L and the steps from RFDN to G-IDRN that the paper's Table 1 measures.

Liu et al., "Residual feature distillation network for lightweight image super-resolution", ECCV
Workshops 2020; "the paper" is the one of `gidrn.networks.gidrn`, whose tables count this form.

Departures and choices:
- A block ends in contrast attention with reduction 4, not in the ESA of the authors' AIM 2020 code:
  only so do the parameter counts of the paper's Tables 1 and 4 come out.
- RGB in [0, 1], where the AIM 2020 code takes 0 to 255.
- The dense shortcut joins the first three blocks and then the last three, one after the other
  (Sec. 3.3), with no scalars across the two.
- ANRB stands right before the upsampler, after the global skip where there is one.
- A G-IDB without a dense shortcut adds its input as it is, with no scalar.
- Table 1's last row (G-IDB, everything on) prints 383.2 K parameters; the rules that give its other
  rows give 372,771 and 12 scalars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gidrn.networks.anrb import ANRB
from gidrn.networks.attention import ContrastAttention
from gidrn.networks.gidrn import GIDB, DenseShortcut
from gidrn.networks.upsampler import Upsampler


@dataclass(frozen=True)
class RFDNConfig:
    """RFDN's sizes, and what Table 1 switches on and off."""

    channels: int = 48
    """C, the width of every feature map; 52 is RFDN-L."""
    blocks: int = 6
    """How many blocks there are."""
    attention_reduction: int = 4
    """CCA's reduction: C -> C / 4 -> C."""
    block: Literal["rfdb", "gidb"] = "rfdb"
    """RFDN's own block, or G-IDRN's."""
    group_width: int | None = 8
    """m of a G-IDB, channels a group; None for ordinary convolutions. RFDB has no groups."""
    dual_path: bool = False
    """Whether a coarse branch from the input replaces the last convolution and the global skip."""
    dense_shortcut: bool = False
    """Whether learnt shortcuts replace the concatenation of all blocks' outputs."""
    anrb: bool = False
    """Whether the asymmetric non-local block stands before the upsampler."""
    pool_sizes: tuple[int, ...] = (1, 3, 6, 8)
    """ANRB's pyramid; () keeps all points."""

    def __post_init__(self) -> None:
        if self.block not in ("rfdb", "gidb"):
            raise ValueError(f"block is 'rfdb' or 'gidb', not {self.block!r}")
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels is an even number of at least 2, not {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"blocks is at least 1, not {self.blocks}")
        if self.dense_shortcut and self.blocks % 2:
            raise ValueError(
                f"dense_shortcut joins two halves: blocks must be even, and {self.blocks} is odd"
            )
        if not 0 < self.attention_reduction <= self.channels:
            raise ValueError(
                f"attention_reduction is between 1 and channels={self.channels}, "
                f"not {self.attention_reduction}"
            )
        if self.group_width is not None and self.block == "gidb":
            if self.group_width < 1 or self.channels % self.group_width:
                raise ValueError(
                    f"group_width must divide channels={self.channels}, "
                    f"and {self.group_width} does not"
                )
        if any(size < 1 for size in self.pool_sizes):
            raise ValueError(f"pool_sizes are positive integers, not {self.pool_sizes}")

    @property
    def groups(self) -> int:
        """g = C / m, the number of groups of a G-IDB's 3x3 convolutions."""
        return 1 if self.group_width is None else self.channels // self.group_width


class SRB(nn.Module):
    """One step of an RFDB: a distilled half and a shallow residual block (Sec. 3.2).

    Returns the distilled features (N, C/2, H, W) and the step's output (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.distil = nn.Conv2d(channels, channels // 2, kernel_size=1)
        self.refine = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.activation = nn.LeakyReLU(0.05, inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.activation(self.distil(x)), self.activation(self.refine(x) + x)


class RFDB(nn.Module):
    """Residual feature distillation block (Sec. 3.2), without a skip around it."""

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList(SRB(channels) for _ in range(3))
        self.last = nn.Sequential(
            nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1),
            nn.LeakyReLU(0.05, inplace=True),
        )
        self.fuse = nn.Conv2d(4 * (channels // 2), channels, kernel_size=1)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in self.steps:
            distilled, x = step(x)
            kept.append(distilled)
        kept.append(self.last(x))
        fused = self.fuse(torch.cat(kept, dim=1))  # (N, 4 * C/2, H, W) -> (N, C, H, W)
        weighted: Tensor = self.attention(fused)
        return weighted


class PlainResidual(nn.Module):
    """A body plus its input, with no scalar: a G-IDB on its own (Table 1, row 7)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output + x


class ConcatFusion(nn.Module):
    """Blocks in a row, and a 1x1 convolution over all their outputs (N, C, H, W) -> the same."""

    def __init__(self, blocks: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fuse = nn.Sequential(
            nn.Conv2d(len(blocks) * channels, channels, kernel_size=1),
            nn.LeakyReLU(0.05, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        fused: Tensor = self.fuse(torch.cat(outputs, dim=1))  # (N, B*C, H, W) -> (N, C, H, W)
        return fused


class GlobalSkip(nn.Module):
    """A body, then a 3x3 convolution, plus the input: what the dual path does away with."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.smooth = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        smooth: Tensor = self.smooth(self.body(x))
        return smooth + x


class RFDN(nn.Module):
    """The whole network (Sec. 3.1): (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    Any H, W >= 1. The output is not clamped. CCA (and ANRB) look at the whole image.
    """

    def __init__(self, scale: int, config: RFDNConfig) -> None:
        super().__init__()
        channels = config.channels
        self.shallow = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        blocks = [_block(config) for _ in range(config.blocks)]
        half = config.blocks // 2
        body: nn.Module = (
            nn.Sequential(DenseShortcut(blocks[:half]), DenseShortcut(blocks[half:]))
            if config.dense_shortcut
            else ConcatFusion(blocks, channels)
        )
        self.deep = body if config.dual_path else GlobalSkip(body, channels)
        self.anrb = ANRB(channels, config.pool_sizes) if config.anrb else nn.Identity()
        self.fine = Upsampler(channels, scale)
        self.coarse = Upsampler(3, scale, kernel_size=5) if config.dual_path else None

    def forward(self, x: Tensor) -> Tensor:
        features = self.shallow(x)  # (N, 3, H, W) -> (N, C, H, W)
        features = self.deep(features)
        features = self.anrb(features)
        pixels: Tensor = self.fine(features)  # -> (N, 3, s*H, s*W)
        return pixels if self.coarse is None else pixels + self.coarse(x)


def _block(config: RFDNConfig) -> nn.Module:
    """One block; a G-IDB brings its own residual where no dense shortcut gives it one."""
    if config.block == "rfdb":
        attention = ContrastAttention(config.channels, config.attention_reduction)
        return RFDB(config.channels, attention)
    block = GIDB(config.channels, config.groups, config.attention_reduction)
    return block if config.dense_shortcut else PlainResidual(block)
