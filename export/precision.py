"""Which parts of a network stay FP32 when the rest is FP16: decided by measurement, without a GPU.

The network runs in `export.fp16`'s emulation. First every part that overflows is kept in FP32, on
frames made to provoke it and with sums taken as those of a 1080p frame. Then, as long as photos
come out further from FP32 than the budget, the parts that do most of the damage follow.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from export import fp16, proof
from export.fp16 import Accumulation, Emulator
from export.rewrites import RefusedError, channel_attention
from gidrn.evaluation import to_image, to_tensor
from gidrn.metrics import luma, psnr
from gidrn.networks.fixed_convolution import FixedConvolution
from gidrn.resize import crop_to_multiple, downscale

BUDGET_DB = 0.01
"""Most that FP16 may change the PSNR of a photo, either way."""
BUDGET_LEVELS = 1.0
"""Most that FP16 may move a value, in 8-bit levels; the proof's own limit."""

FRAME_PIXELS = 1920 * 1080
"""Sums over images are taken as those of a frame of this size."""

SIDE = 96
"""Photos are cut to this many low-resolution pixels: adding up in FP16 takes ten times as long."""

ACCUMULATIONS: tuple[Accumulation, ...] = ("fp32", "fp16")
"""Both ways in which a GPU's convolutions may add up are emulated."""


@dataclass(frozen=True)
class Distance:
    """How far an FP16 network is from its FP32 original on photos."""

    levels: float
    """Largest difference of a value, in 8-bit levels, before rounding."""
    rms_levels: float
    """Root mean square of the differences, on the photo where it is largest."""
    psnr_db: float
    """Largest change of a photo's PSNR on Y, after rounding."""

    @property
    def is_within_budget(self) -> bool:
        return self.levels <= BUDGET_LEVELS and self.psnr_db <= BUDGET_DB


@dataclass(frozen=True)
class Plan:
    """The certificate: what stays FP32, why, and what that leaves of the difference."""

    fp32: Mapping[str, str]
    """Module path -> reason; everything else is FP16."""
    parts: int
    """How many parts there are."""
    convolutions: Mapping[proof.Dtype, int]
    """How many convolutions are of which type."""
    distances: Mapping[Accumulation, Distance]
    """By the way in which convolutions add up."""

    def as_json(self) -> str:
        """For the file's metadata."""
        return json.dumps(
            {
                "fp32": dict(self.fp32),
                "parts": self.parts,
                "frame_pixels": FRAME_PIXELS,
                "emulated": {
                    f"sums in {accumulation}": {
                        key: round(value, 5) for key, value in dataclasses.asdict(found).items()
                    }
                    for accumulation, found in self.distances.items()
                },
            }
        )

    def in_words(self) -> str:
        """For the screen: how far from FP32, and what stays FP32."""
        lines = [
            f"FP16 as emulated, convolutions adding up in {accumulation}: at most "
            f"{found.levels:.2f} levels from FP32, {found.psnr_db:.4f} dB on a photo"
            for accumulation, found in self.distances.items()
        ]
        lines.append(f"FP32: {len(self.fp32)} of {self.parts} parts")
        return "\n".join([*lines, *(f"  {path}: {why}" for path, why in self.fp32.items())])


def adversarial(size_hw: tuple[int, int] = (48, 64)) -> list[proof.Case]:
    """Frames that drive features to their ends: plain colours, patterns, black-and-white noise."""
    height, width = size_hw
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    noise = torch.rand(1, 3, *size_hw, generator=torch.Generator().manual_seed(0)).round()
    flat = {
        name: torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, *size_hw).contiguous()
        for name, rgb in {
            "black": (0.0, 0.0, 0.0),
            "white": (1.0, 1.0, 1.0),
            "red": (1.0, 0.0, 0.0),
            "green": (0.0, 1.0, 0.0),
            "blue": (0.0, 0.0, 1.0),
        }.items()
    }
    made = {
        "chessboard": ((rows + columns) % 2).float(),
        "stripes": (columns % 4 < 2).float(),
        "edge": (columns < width // 2).float(),
    }
    patterns = {name: x.expand(1, 3, *size_hw).contiguous() for name, x in made.items()}
    return [
        proof.Case(name, image)
        for name, image in {**flat, **patterns, "black-white noise": noise}.items()
    ]


def to_fp16(
    rewritten: nn.Module,
    scale: int,
    photos: Sequence[NDArray[np.uint8]],
    cases: Sequence[proof.Case],
) -> tuple[nn.Module, Plan]:
    """A rewritten FP32 network in FP16, and which of its parts are not: see `make_plan`.

    Its channel attention is rewritten in place.
    """
    channel_attention.apply(rewritten)
    plan = make_plan(rewritten, scale, photos, cases)
    return fp16.typed(rewritten, plan.fp32), plan


def typed_by_rule(rewritten: nn.Module) -> nn.Module:
    """A rewritten FP32 network in FP16 but for what is FP32 by rule; nothing is measured.

    Its channel attention is rewritten in place.
    """
    channel_attention.apply(rewritten)
    return fp16.typed(rewritten, fp16.always_fp32(rewritten))


@torch.no_grad()
def make_plan(
    rewritten: nn.Module,
    scale: int,
    photos: Sequence[NDArray[np.uint8]],
    cases: Sequence[proof.Case],
) -> Plan:
    """The parts of a rewritten FP32 network that must stay FP32.

    `photos`, RGB (H, W, 3), measure what is lost; overflows are looked for on `cases` as well.
    Raises RefusedError where FP16 does not hold whatever stays FP32.
    """
    fp32 = fp16.always_fp32(rewritten)
    samples = [_sample(rewritten, photo, scale) for photo in photos]
    for case in tqdm([*adversarial(), *cases], desc="FP16 overflows", unit="", leave=False):
        while path := _overflow(rewritten, fp32, case.image):
            if path in fp32:
                raise RefusedError(f"FP16 overflows behind {path} on {case.name}, FP32 as it is")
            fp32[path] = f"overflows on {case.name}"
    found = _distances(rewritten, fp32, samples, scale)
    if not all(one.is_within_budget for one in found.values()):
        order = _by_damage(rewritten, fp32, samples[0])
        while order and not all(one.is_within_budget for one in found.values()):
            fp32[order.pop(0)] = "one of those that lose most"
            found = _distances(rewritten, fp32, samples, scale)
    parts = fp16.parts(rewritten)
    calls = _convolutions(rewritten, samples[0].low)
    kept = sum(count for path, count in calls.items() if path in fp32)
    if all(isinstance(parts[path], FixedConvolution) for path in calls):
        raise RefusedError("nothing here can be FP16: colours and interpolation always stay FP32")
    if kept == sum(calls.values()):
        raise RefusedError(
            f"no convolution can be FP16 within {BUDGET_LEVELS} levels and {BUDGET_DB} dB of FP32"
        )
    counts: dict[proof.Dtype, int] = {"fp16": sum(calls.values()) - kept, "fp32": kept}
    return Plan(fp32, len(parts), counts, found)


def _convolutions(network: nn.Module, image: Tensor) -> dict[str, int]:
    """How often each convolution runs: not at all, or several times where it is shared."""
    calls: dict[str, int] = {}

    def hook_of(path: str) -> Callable[..., None]:
        def count(*_: object) -> None:
            calls[path] = calls.get(path, 0) + 1

        return count

    hooks = [
        part.register_forward_hook(hook_of(path))
        for path, part in fp16.parts(network).items()
        if isinstance(part, fp16.CONVOLUTIONS)
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@dataclass(frozen=True, eq=False)
class _Sample:
    """A photo to measure on."""

    low: Tensor
    high: NDArray[np.uint8]
    wanted: Tensor
    """What the FP32 network makes of `low`."""


def _sample(network: nn.Module, photo: NDArray[np.uint8], scale: int) -> _Sample:
    """The middle of a photo, at most `SIDE` low-resolution pixels a side."""
    top, left = (max(0, (side - SIDE * scale) // 2) for side in photo.shape[:2])
    high = crop_to_multiple(photo[top : top + SIDE * scale, left : left + SIDE * scale], scale)
    low = to_tensor(downscale(high, scale))
    return _Sample(low, high, network(low))


def _overflow(network: nn.Module, fp32: Mapping[str, str], image: Tensor) -> str | None:
    return fp16.first_overflow(
        fp16.typed(network, fp32), image, Emulator(frame_pixels=FRAME_PIXELS)
    )


def _distances(
    network: nn.Module, fp32: Mapping[str, str], samples: Sequence[_Sample], scale: int
) -> dict[Accumulation, Distance]:
    half = fp16.typed(network, fp32)
    return {
        accumulation: _distance(half, samples, scale, accumulation)
        for accumulation in ACCUMULATIONS
    }


def _distance(
    half: nn.Module, samples: Sequence[_Sample], scale: int, accumulation: Accumulation
) -> Distance:
    levels = rms = psnr_db = 0.0
    for one in tqdm(samples, desc=f"FP16, sums in {accumulation}", unit="", leave=False):
        with Emulator(accumulation=accumulation):
            came = half(one.low)
        difference = (came.float() - one.wanted) * 255
        levels = max(levels, float(difference.abs().max()))
        rms = max(rms, float(difference.square().mean().sqrt()))
        scores = [
            psnr(luma(to_image(output)), luma(one.high), border=scale)
            for output in (came, one.wanted)
        ]
        psnr_db = max(psnr_db, abs(scores[0] - scores[1]))
    return Distance(levels, rms, psnr_db)


def _by_damage(network: nn.Module, fp32: Mapping[str, str], sample: _Sample) -> list[str]:
    """The FP16 parts, that first whose FP16 alone moves the output furthest."""
    tried = [path for path in fp16.parts(network) if path not in fp32]
    damage = {}
    for path in tqdm(tried, desc="FP16 part by part", unit="", leave=False):
        alone = fp16.typed(network, [other for other in fp16.parts(network) if other != path])
        with Emulator():
            damage[path] = float((alone(sample.low).float() - sample.wanted).square().mean())
    return sorted(tried, key=lambda path: -damage[path])
