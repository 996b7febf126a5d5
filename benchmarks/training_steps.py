"""Timed training steps: the forms that a step can take, and several runs in turns.

A step is `gidrn.train.take_step` and the drawing of its crops. Its phases are marked from outside,
on the CPU by the clock and on a GPU by events in its stream, so that nothing waits for a mark.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.low_images import smooth_noise
from gidrn import runs, train
from gidrn.crops import CropStore
from gidrn.losses import HighFrequencyLoss
from gidrn.merged_groups import merge_groups
from gidrn.photos import Photo
from gidrn.recipes import Recipe
from gidrn.resize import downscale

Key = TypeVar("Key", bound=Hashable)

PHASES = ("draw", "forward", "loss", "backward", "update")
"""What a step does, in this order; `update` is clipping, Adam and the averaged weights."""

PHOTOS = 4
"""Generated photos that crops are drawn from, each of twice a crop's side."""

WARM_UP_STEPS = {"cpu": 2, "cuda": 10}
"""Steps thrown away after the first one, which compiles."""

EVERY_FORM_COMPILED = {"recompile_limit": 1000, "fail_on_recompile_limit_hit": True}
"""torch.compile's settings: by default it runs the ninth form, or size, of a network uncompiled."""

FORM_PARTS = "eager, bf16, channels_last, compile, graphs, merge_all, or such as merge3"


@dataclass(frozen=True)
class Form:
    """How a network is computed in training; what it computes stays the same."""

    compiled: Literal["no", "yes", "graphs"] = "no"
    """By torch.compile; "graphs" is its mode "reduce-overhead", CUDA graphs."""
    autocast: Literal["none", "bf16"] = "none"
    """Arithmetic of the forward pass."""
    channels_last: bool = False
    """Whether weights and feature maps are in channels-last order."""
    merge: int | Literal["all"] = 1
    """Groups of a convolution taken as one: see `gidrn.merged_groups`."""

    @property
    def name(self) -> str:
        """Its parts with + between, as `parse_form` reads them: "compile+bf16+merge3"."""
        parts = [
            {"no": "", "yes": "compile", "graphs": "graphs"}[self.compiled],
            "bf16" if self.autocast == "bf16" else "",
            "channels_last" if self.channels_last else "",
            "merge_all" if self.merge == "all" else f"merge{self.merge}" if self.merge > 1 else "",
        ]
        return "+".join(part for part in parts if part) or "eager"


EAGER = Form()
"""As PyTorch runs it when nothing is asked for."""


def parse_form(text: str) -> Form:
    """The form of "compile+bf16". Raises ValueError that names the parts there are."""
    form = Form()
    for part in text.split("+"):
        if part == "bf16":
            form = dataclasses.replace(form, autocast="bf16")
        elif part == "channels_last":
            form = dataclasses.replace(form, channels_last=True)
        elif part in ("compile", "graphs"):
            form = dataclasses.replace(form, compiled="yes" if part == "compile" else "graphs")
        elif part == "merge_all":
            form = dataclasses.replace(form, merge="all")
        elif match := re.fullmatch(r"merge([1-9]\d*)", part):
            form = dataclasses.replace(form, merge=int(match[1]))
        elif part != "eager":
            raise ValueError(f"a form is made of {FORM_PARTS}, with + between, not {text!r}")
    return form


class PhaseClock:
    """Time of each phase, from marks at the phases' ends."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._marks: list[tuple[str, Any]] = []  # of integers in ns, or of CUDA events
        self._stream: Any = None

    def start(self) -> None:
        """Forget the marks, and begin."""
        self._marks.clear()
        if self._device.startswith("cuda"):
            self._stream = torch.cuda.current_stream(self._device)
        self.mark("start")

    def mark(self, phase: str) -> None:
        """`phase` ends here."""
        if self._stream is None:
            self._marks.append((phase, time.perf_counter_ns()))
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        self._marks.append((phase, event))

    def milliseconds(self) -> dict[str, float]:
        """Each phase's time, summed over steps. On a GPU only after synchronising."""
        total = dict.fromkeys(PHASES, 0.0)
        for (_, begin), (phase, end) in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(begin, int):
                total[phase] += (end - begin) / 1e6
            else:
                total[phase] += begin.elapsed_time(end)
        return total


@dataclass(frozen=True)
class Sample:
    """A few steps in a row, as means over them."""

    step_s: float
    """Seconds a step, by the host's clock, the device idle at both ends."""
    phases_ms: Mapping[str, float]
    """Milliseconds a step, by PHASES."""


class Trainee:
    """A fresh run of `gidrn.train` in one form, which takes steps on crops from `store`.

    Raises ValueError where there are no groups that could be merged as the form says.
    """

    def __init__(self, recipe: Recipe, form: Form, store: CropStore) -> None:
        self.form = form
        self.store = store
        recipe = dataclasses.replace(recipe, autocast=form.autocast)
        self.run = runs.begin(recipe, store.device, channels_last=form.channels_last)
        self.run.network.train()
        if not merge_groups(self.run.network, form.merge) and form.merge != 1:
            raise ValueError(f"{recipe.network} has no groups to merge: leave out {form.name}")
        self.forward: Callable[[Tensor], Tensor] = self.run.network
        if form.compiled != "no":
            mode = "reduce-overhead" if form.compiled == "graphs" else None
            self.forward = torch.compile(self.run.network, mode=mode)
        loss_of = HighFrequencyLoss(recipe.alpha, recipe.beta, recipe.kernel_size, recipe.sigma)
        self.loss_of = loss_of.to(store.device)
        self.clock = PhaseClock(store.device)
        self.first_step_s: float | None = None
        """Seconds of the first step, compilation included; None before it."""
        self._mark_phases()

    def _mark_phases(self) -> None:
        trained = [p for p in self.run.network.parameters() if p.requires_grad]
        self._awaited = 0

        def one_more_gradient(_: Tensor) -> None:
            self._awaited -= 1
            if self._awaited == 0:
                self.clock.mark("backward")

        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                one_more_gradient
            )

        def end_of_loss(module: nn.Module, inputs: Any, output: Any) -> None:
            self._awaited = len(trained)
            self.clock.mark("loss")

        self.loss_of.register_forward_hook(end_of_loss)

    def step(self) -> Tensor:
        """Draw a batch and take one step; returns its loss, a scalar left on the device."""
        if self.form.compiled == "graphs":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        low, high = self.store.draw(self.run.recipe.batch, self.run.generator)
        self.clock.mark("draw")

        def forward(x: Tensor) -> Tensor:
            output = self.forward(x)
            self.clock.mark("forward")
            return output

        loss = train.take_step(self.run, forward, self.loss_of, low, high)
        self.clock.mark("update")
        return loss

    def sample(self, steps: int) -> Sample:
        """Time `steps` steps. Raises ValueError where the loss is no longer finite."""
        synchronise(self.store.device)
        began = time.perf_counter_ns()
        self.clock.start()
        for _ in range(steps):
            loss = self.step()
        synchronise(self.store.device)
        seconds = (time.perf_counter_ns() - began) / 1e9
        if not bool(torch.isfinite(loss)):
            name = self.run.recipe.network
            raise ValueError(f"{name}, {self.form.name}: the loss is {float(loss)}")
        phases = {phase: ms / steps for phase, ms in self.clock.milliseconds().items()}
        return Sample(seconds / steps, phases)

    def warm_up(self) -> int:
        """Take the steps that are thrown away, unless they have been; returns how many.

        Raises ValueError where the form cannot be compiled.
        """
        after = WARM_UP_STEPS[torch.device(self.store.device).type]
        if self.first_step_s is None:
            try:
                self.first_step_s = self.sample(1).step_s
            except RuntimeError as error:
                if self.form.compiled == "no":
                    raise
                reason = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"{self.form.name} does not compile here ({reason}): torch.compile wants a C++ "
                    "compiler, and on a GPU Triton; install them, or leave the form out of --forms"
                ) from error
            for _ in range(after):
                self.sample(1)
        return 1 + after


def synchronise(device: str) -> None:
    """Wait until the device has nothing left to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def stand_in_store(scale: int, patch: int, device: str) -> CropStore:
    """Crops of `patch` low-resolution pixels a side from generated photos, the same every time."""
    side = 2 * patch * scale
    photos = []
    for seed in range(PHOTOS):
        high = smooth_noise((side, side), seed)
        photos.append(Photo(f"stand-in {seed}", high, downscale(high, scale)))
    return CropStore(photos, scale, patch, device)


def order(keys: Sequence[Key], turn: int) -> list[Key]:
    """Who comes when in round `turn`: the first one moves to the end with each round."""
    first = turn % len(keys)
    return [*keys[first:], *keys[:first]]


def in_turns(
    trainees: Mapping[Key, Trainee],
    *,
    samples: int,
    steps: int,
    tick: Callable[[str, int, int], None] = lambda _name, _done, _more: None,
) -> dict[Key, list[Sample]]:
    """Time every run: `samples` rounds, each run taking `steps` steps a round.

    The order of the runs moves on by one with each round, so that what disturbs the machine
    disturbs them alike. `tick(name, done, more)` hears of each run's warm-up and of each sample:
    `more` is what has been added to the work ahead.
    """
    tick("", 0, len(trainees) * (1 + samples))
    for key, trainee in trainees.items():
        tick(f"warm-up {key}", 0, 0)
        trainee.warm_up()
        tick(f"warm-up {key}", 1, 0)
    found: dict[Key, list[Sample]] = {key: [] for key in trainees}
    keys = list(trainees)
    for turn in range(samples):
        for key in order(keys, turn):
            found[key].append(trainees[key].sample(steps))
            tick(str(key), 1, 0)
    return found
