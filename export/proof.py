"""The proof that an ONNX file does what its network does, in 8-bit levels of the picture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from gidrn.evaluation import to_tensor
from gidrn.images import read_rgb
from gidrn.photos import find_photos
from gidrn.resize import downscale
from gidrn_runtime import Upscaler

MOST_MISROUNDED = {"fp32": 0.01, "fp16": 0.25}
"""Share of a frame's levels that may be other than PyTorch's, as those near a half may."""

LIMIT_LEVELS = 1.0
"""Most that any value of any output may differ, and most that its rounded level may."""

Dtype = Literal["fp32", "fp16"]

SIZES_HW = ((80, 120), (81, 117), (13, 9), (7, 5), (1, 1), (128, 128), (333, 500))
"""Sizes that pooling windows, odd borders and the paper's own B100 input make interesting."""

MOST_WORK = 1.5e11
"""Cases of more multiply-adds than this are left out, but for the first of `SIZES_HW`: EDSR has
50 M a pixel and would take minutes. Networks of G-IDRN's class run them all."""

SMALL = 20_000
"""Pixels of the cases on which the attention is studied for its own sake: small images spread
pooled keys and values furthest, and large ones only take longer."""

SAMPLES = Path(__file__).resolve().parents[1] / "gidrn" / "samples"


class NotProvedError(ValueError):
    """An export that differs from its network by more than the limit, or is not finite."""


@dataclass(frozen=True, eq=False)
class Case:
    """An input to compare on."""

    name: str
    image: Tensor
    """(N, 3, H, W) in [0, 1]."""

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[2], self.image.shape[3]


@dataclass(frozen=True)
class Deviation:
    """How far an export is from its network on one case."""

    case: str
    size_hw: tuple[int, int]
    levels: float
    """Largest difference of a value, in levels (times 255), before rounding."""
    rounded_levels: int
    """Largest difference of a rounded 8-bit level."""

    @property
    def within_limit(self) -> bool:
        return self.levels <= LIMIT_LEVELS and self.rounded_levels <= LIMIT_LEVELS


@dataclass(frozen=True)
class Diverged:
    """A case that proves nothing, since the network itself is lost on it.

    Networks without normalisation may grow without bounds on images unlike those they learnt from:
    PAN's published weights answer noise with values of 1e19. PyTorch's own arithmetic is then
    further from the truth than `LIMIT_LEVELS`, and so would be any export's.
    """

    case: str
    size_hw: tuple[int, int]
    levels: float
    """How far PyTorch in FP32 is from PyTorch in FP64."""

    def __str__(self) -> str:
        return f"{self.case} {self.size_hw[0]}x{self.size_hw[1]}"


@dataclass(frozen=True)
class Comparison:
    """What a file and its network gave on every case."""

    deviations: list[Deviation]
    diverged: list[Diverged]


def read_photos(folder: Path = SAMPLES) -> list[NDArray[np.uint8]]:
    """RGB photos (H, W, 3) of a folder; by default the samples that come with the project."""
    return [read_rgb(path) for path in find_photos([folder])]


def cases(
    photos: Sequence[NDArray[np.uint8]], scale: int, *, size_hw: tuple[int, int] | None = None
) -> list[Case]:
    """Real photos, made low by the field's resize, and the inputs on which exports break.

    Each of `SIZES_HW` is cut from a photo at its full resolution, mirrored where the photo is too
    small; flat black, flat white, noise and a batch of two follow. With `size_hw` everything has
    that size.
    """
    found: list[Case] = []
    sizes = SIZES_HW if size_hw is None else (size_hw,)
    if size_hw is None:
        for n, photo in enumerate(photos):
            found.append(Case(f"photo {n + 1}", to_tensor(downscale(photo, scale))))
    for n, (height, width) in enumerate(sizes):
        photo = photos[n % len(photos)]
        rows, columns = (
            max(0, wanted - has)
            for wanted, has in zip((height, width), photo.shape[:2], strict=True)
        )
        padded = np.pad(photo, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
        top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
        cut = np.ascontiguousarray(padded[top : top + height, left : left + width])
        found.append(Case("photo cut", to_tensor(cut)))
    height, width = (24, 36) if size_hw is None else size_hw
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    found.append(Case("black", torch.zeros(1, 3, height, width)))
    found.append(Case("white", torch.ones(1, 3, height, width)))
    found.append(Case("noise", noise))
    if size_hw is None:
        found.append(Case("batch of 2", torch.cat([noise, 1 - noise.square()])))
    return found


def affordable(network: nn.Module, on: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The cases to run for a network of this size, and those to leave out: see `MOST_WORK`."""
    a_pixel = multiply_adds_a_pixel(network)

    def runs(case: Case) -> bool:
        work = case.size_hw[0] * case.size_hw[1] * a_pixel
        return work <= MOST_WORK or (case.name == "photo cut" and case.size_hw == SIZES_HW[0])

    kept = [case for case in on if runs(case)] or list(on[:1])
    return kept, [case for case in on if case not in kept]


def multiply_adds_a_pixel(network: nn.Module) -> float:
    """Multiply-adds of convolutions and matrix products for each pixel of a small input."""
    side = 16
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()) / 2 / side**2


def small(on: Sequence[Case]) -> list[Case]:
    """The cases of at most `SMALL` pixels, or all where there are none."""
    return [case for case in on if case.size_hw[0] * case.size_hw[1] <= SMALL] or list(on)


def _check_shape(what: str, came: NDArray[Any], wanted: NDArray[Any]) -> None:
    if came.shape != wanted.shape:
        raise NotProvedError(f"{what} the output is {came.shape}, not {wanted.shape}")


@torch.inference_mode()
def compare(
    network: nn.Module,
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    on: Sequence[Case],
    *,
    title: str = "proof",
) -> Comparison:
    """Run both on every case.

    Raises NotProvedError for an output that is not finite or of another shape.
    """
    found = Comparison([], [])
    for case in tqdm(on, desc=title, unit="", leave=False):
        output = network(case.image)
        if (lost := diverged(network, case, case.image, output)) is not None:
            found.diverged.append(lost)
            continue
        wanted = output.numpy()
        came = run(case.image.numpy())
        where = f"{case.name} {case.size_hw[0]}x{case.size_hw[1]}"
        _check_shape(f"{title}: on {where}", came, wanted)
        if not np.isfinite(came).all():
            raise NotProvedError(f"{title}: on {where} the output is not finite")
        levels = float(np.abs(came - wanted).max()) * 255
        rounded = [np.rint(np.clip(x, 0, 1) * 255).astype(np.int16) for x in (came, wanted)]
        found.deviations.append(
            Deviation(case.name, case.size_hw, levels, int(np.abs(rounded[0] - rounded[1]).max()))
        )
    return found


@torch.inference_mode()
def compare_frames(
    network: nn.Module,
    upscale: Upscaler,
    on: Sequence[Case],
    *,
    dtype: Dtype = "fp32",
    title: str = "proof",
) -> Comparison:
    """The same for a file that takes uint8 frames, opened in RGB or BGR order.

    A deviation's `levels` is how far, beyond the half level of rounding, a value is from PyTorch's.
    Raises NotProvedError for an output of another shape, and where more than `MOST_MISROUNDED` (by
    the file's `dtype`) of the values are not PyTorch's rounded ones.
    """
    found = Comparison([], [])
    for case in tqdm(on, desc=title, unit="", leave=False):
        low = np.rint(case.image.numpy() * 255).astype(np.uint8)  # RGB (N, 3, H, W)
        image = torch.from_numpy(low.astype(np.float32)) / 255
        high = network(image)
        if (lost := diverged(network, case, image, high)) is not None:
            found.diverged.append(lost)
            continue
        wanted = np.clip(high.numpy(), 0, 1) * 255
        channels = [0, 1, 2] if upscale.color == "rgb" else [2, 1, 0]
        frames = np.ascontiguousarray(low[:, channels].transpose(0, 2, 3, 1))
        came = np.stack(upscale.batch(frames)).transpose(0, 3, 1, 2)[:, channels]
        where = f"{case.name} {case.size_hw[0]}x{case.size_hw[1]}"
        _check_shape(f"{title}: on {where}", came, wanted)
        off = np.abs(came - np.rint(wanted))
        if float((off > 0).mean()) > MOST_MISROUNDED[dtype]:
            raise NotProvedError(
                f"{title}: on {where} {(off > 0).mean():.1%} of the levels are not PyTorch's, and "
                f"{MOST_MISROUNDED[dtype]:.0%} is the limit; no file was written"
            )
        levels = max(0.0, float(np.abs(came - wanted).max()) - 0.5)
        found.deviations.append(Deviation(case.name, case.size_hw, levels, int(off.max())))
    return found


def diverged(network: nn.Module, case: Case, image: Tensor, output: Tensor) -> Diverged | None:
    """Whether `network` is lost on a case; None also where its output is a picture's.

    FP64 decides, and is asked only about output outside [-1, 2]: a picture has [0, 1]. A network
    that cannot compute in FP64 is held to what it gave.
    """
    if bool(((output >= -1) & (output <= 2)).all()):
        return None
    try:
        exact = copy.deepcopy(network).double()(image.double())
    except RuntimeError:  # a constant of another type within
        return None
    levels = float((exact - output.double()).abs().max()) * 255
    if levels <= LIMIT_LEVELS:
        return None
    return Diverged(case.name, case.size_hw, levels)


def require(found: Comparison, *, title: str) -> None:
    """Raises NotProvedError, naming the worst case, where a deviation passes `LIMIT_LEVELS`.

    And where the network diverges on half of the cases or more: too little is left to prove.
    """
    if len(found.diverged) >= len(found.deviations):
        raise NotProvedError(
            f"{title}: the network itself diverges on {len(found.diverged)} of "
            f"{len(found.diverged) + len(found.deviations)} inputs, where PyTorch in FP32 is up to "
            f"{max(one.levels for one in found.diverged):.3g} levels from PyTorch in FP64, so that "
            "nothing can be proved there: are these its weights? No file was written"
        )
    worst = max(
        found.deviations, key=lambda one: (not one.within_limit, one.rounded_levels, one.levels)
    )
    if not worst.within_limit:
        raise NotProvedError(
            f"{title}: the export differs from PyTorch by {worst.levels:.3g} levels on "
            f"{worst.case} {worst.size_hw[0]}x{worst.size_hw[1]}, and {LIMIT_LEVELS:g} is the "
            "limit; no file was written"
        )
