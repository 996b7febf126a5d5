"""The quality ladder: when frames miss their age budget, something cheaper makes the next ones.

Rung 0 is the stream's own upscaler; each rung below is another way to an image of the same size.
`Climber` decides from ages alone, without threads or a clock, when to step down and up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gidrn_runtime import image_files
from gidrn_runtime.upscaler import Frame, Upscaler

FORGIVEN = 1 / 8
"""How much of a miss one frame in time makes good: more than one miss in nine leads down."""
GAP_S = 1.0
"""A pause between two frames counts as calm for this long at most: an outage proves nothing."""


@dataclass(frozen=True)
class Rung:
    """One way of enlarging, with the name that frames made by it carry."""

    name: str
    upscale: Callable[[Frame], Frame]
    """uint8 (H, W, 3) -> uint8 (s*H, s*W, 3), the same s on every rung."""


@dataclass(frozen=True)
class Ladder:
    """The rungs below a stream's own upscaler, the best first, and how readily to change."""

    rungs: Sequence[Rung]
    patience: int = 5
    """Misses that lead a step down, those made good by frames in time (`FORGIVEN`) not counted."""
    comfort: float = 0.6
    """A step up wants every frame's age at most this part of the budget, …"""
    hold_s: float = 5.0
    """… for so many seconds. Each time that a rung fails after a step up, twice as many next time,
    …"""
    most_hold_s: float = 300.0
    """… but no more than this; a rung that proves itself for as long is trusted anew."""

    def __post_init__(self) -> None:
        names = [rung.name for rung in self.rungs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a ladder has one rung or more, each with its own name, not {names}")
        if self.patience < 1 or not 0 < self.comfort <= 1:
            raise ValueError(f"patience is >= 1 and comfort in (0, 1], not {self}")
        if not 0 < self.hold_s <= self.most_hold_s:
            raise ValueError(f"a ladder needs 0 < hold_s <= most_hold_s, not {self}")


class Climber:
    """Which rung is in use; changed by the ages of frames as they leave inference."""

    def __init__(self, ladder: Ladder, budget_s: float) -> None:
        self.rung = 0
        """0 is the stream's own upscaler, higher is cheaper."""
        self.switches = 0
        """Steps down and up so far."""
        self._ladder, self._budget_s = ladder, budget_s
        self._hold_s = [ladder.hold_s] * (len(ladder.rungs) + 1)  # before a step up to each rung
        self._is_trial = False  # this rung was stepped up to and has not proved itself yet
        self._misses = 0.0
        self._calm_s = 0.0
        self._last: float | None = None

    def note(self, t: float, age_s: float) -> None:
        """A frame made by the present rung left inference at time `t`, `age_s` seconds old."""
        elapsed = 0.0 if self._last is None else min(max(t - self._last, 0.0), GAP_S)
        self._last = t
        if age_s > self._budget_s:
            self._misses += 1
        else:
            self._misses = max(0.0, self._misses - FORGIVEN)
        is_calm = age_s <= self._ladder.comfort * self._budget_s
        self._calm_s = self._calm_s + elapsed if is_calm else 0.0
        if self._misses >= self._ladder.patience and self.rung < len(self._ladder.rungs):
            if self._is_trial:
                longer = 2 * self._hold_s[self.rung]
                self._hold_s[self.rung] = min(longer, self._ladder.most_hold_s)
            self._step(+1)
        elif self._is_trial and self._calm_s >= self._hold_s[self.rung]:
            self._hold_s[self.rung] = self._ladder.hold_s
            self._is_trial = False
        if self.rung > 0 and self._calm_s >= self._hold_s[self.rung - 1]:
            self._step(-1)
            self._is_trial = True

    def _step(self, by: int) -> None:
        self.rung += by
        self.switches += 1
        self._misses = self._calm_s = 0.0
        self._is_trial = False


MARGIN = 8
"""Pixels of the input over which a centred region fades into its surroundings."""


def lower_rungs(upscale: Upscaler, fractions: Sequence[float] = (0.7, 0.5)) -> list[Rung]:
    """The usual rungs below `upscale`: its model on the middle of the frame, then bicubic alone.

    `fractions` are those of each side that the model still sees: 0.7 is half the pixels, 0.5 a
    quarter. A lighter model of the same factor belongs above them where there is one. One of a
    lower factor (`finished`) pays only if it is a lighter network too: G-IDRN works at the input's
    size whatever its factor, and its x2 takes as long as its x4.

    Raises ImportError where OpenCV is missing.
    """
    rungs = [
        Rung(f"centre {fraction:g}", centred(upscale, upscale.scale, fraction))
        for fraction in fractions
    ]
    return [*rungs, Rung("bicubic", bicubic(upscale.scale))]


def bicubic(scale: int) -> Callable[[Frame], Frame]:
    """Enlarges by `scale` without a model, by OpenCV's bicubic interpolation."""
    cv2 = image_files.import_cv2()

    def enlarge(frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        high: Frame = cv2.resize(
            frame, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC
        )
        return high

    return enlarge


def finished(upscale: Upscaler, scale: int) -> Callable[[Frame], Frame]:
    """A model of a lower factor, its output enlarged bicubically to `scale` times the input.

    Raises ValueError where the model's factor is not below `scale`.
    """
    if not upscale.scale < scale:
        raise ValueError(f"a model of a lower factor than {scale} is needed, not {upscale.scale}")
    cv2 = image_files.import_cv2()

    def enlarge(frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        size = (scale * width, scale * height)
        high: Frame = cv2.resize(upscale(frame), size, interpolation=cv2.INTER_CUBIC)
        return high

    return enlarge


def centred(
    upscale: Callable[[Frame], Frame], scale: int, fraction: float
) -> Callable[[Frame], Frame]:
    """`upscale` on the middle of the frame, `fraction` of each side, and bicubic around it.

    The two fade into each other over `MARGIN` pixels of the input.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction of a side is between 0 and 1, not {fraction}")
    enlarge_all = bicubic(scale)

    def enlarge(frame: Frame) -> Frame:
        high = enlarge_all(frame)
        rows, columns = (_middle(side, fraction) for side in frame.shape[:2])
        sharp = upscale(np.ascontiguousarray(frame[rows, columns]))
        place = high[_scaled(rows, scale), _scaled(columns, scale)]
        weight = np.outer(_fade(sharp.shape[0], scale), _fade(sharp.shape[1], scale))[..., None]
        place[:] = np.rint(place + weight * (sharp.astype(np.float32) - place))
        return high

    return enlarge


def _middle(side: int, fraction: float) -> slice:
    kept = max(1, round(side * fraction))
    first = (side - kept) // 2
    return slice(first, first + kept)


def _scaled(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


def _fade(length: int, scale: int) -> np.ndarray:
    """Weights rising from the border to 1 within `MARGIN` input pixels, or to the middle."""
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(from_border / min(MARGIN * scale, length / 2), 1).astype(np.float32)
