"""Which form of the grouped convolutions is the fastest, measured where the file will run.

The forms (`export.rewrites.merged_groups`) compute the same function, so that time alone decides.
Kernels for narrow groups differ much from library to library and device to device; the choice holds
for the engine, device, precision and size that it names, and goes into the file's metadata.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from export import to_tensorrt
from export.profiles import Profile
from export.rewrites import RefusedError
from gidrn_runtime import Upscaler, engines, tensorrt_api
from gidrn_runtime.plans import SUFFIXES

Frame = NDArray[np.uint8]
Clock = Callable[[], int]

WARM_UP = 3
ROUNDS = 15
REST_S = 0.05
"""Before each run on a CPU, since ONNX Runtime's threads spin for some 30 ms after one. A GPU would
lower its clocks."""

WORTH = 0.98
"""A form with more multiply-adds is taken where it needs at most this share of the plain one's
time."""


@dataclass(frozen=True)
class Choice:
    """The fastest form and how it was found."""

    merged: str
    """How many groups are one: a number, or "all"."""
    engine: str
    engine_version: str
    device: str
    dtype: str
    size_hw: tuple[int, int]
    median_ms: dict[str, float]
    """Of each form."""
    over_plain: dict[str, float]
    """Median of each form's time over that of the plain one in the same round."""

    @property
    def factor(self) -> int | None:
        """Groups that become one; None for all of them."""
        return None if self.merged == "all" else int(self.merged)

    def to_text(self) -> str:
        """As one line of JSON, for the file's metadata."""
        return json.dumps(asdict(self))

    def in_words(self) -> str:
        """One line: the form, where it was timed, and each form's time over the plain one's."""
        told = [
            f"{form} {ms:.1f} ms" + (f" ({self.over_plain[form]:.2f} times)" if form != "1" else "")
            for form, ms in self.median_ms.items()
        ]
        height, width = self.size_hw
        where = f"{self.engine} {self.engine_version}, {self.device}, {self.dtype}"
        return f"groups merged by {self.merged}, by time on {where} at {height}x{width}: " + (
            ", ".join(told)
        )


def forms_of(network: nn.Module) -> list[str]:
    """The forms that every grouped convolution of a network can take, the plain one first.

    Raises RefusedError where it has no grouped convolution.
    """
    groups = [
        part.groups for part in network.modules() if isinstance(part, nn.Conv2d) and part.groups > 1
    ]
    if not groups:
        raise RefusedError("this network has no grouped convolutions to choose a form for")
    common = math.gcd(*groups)
    divisors = [k for k in range(1, common + 1) if common % k == 0]
    if len(set(groups)) == 1:
        divisors.remove(common)
    return [*map(str, divisors), "all"]


def choose(
    write: Callable[[str, Path], None],
    forms: list[str],
    folder: Path,
    *,
    engine: str,
    dtype: str,
    size_hw: tuple[int, int],
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter_ns,
) -> tuple[Choice, dict[str, list[float]]]:
    """Write every form with `write(form, path)`, run them in turns, and take the fastest.

    Args:
        write: Writes the ONNX file of a form.
        forms: Of `forms_of`.
        folder: Where the files go.
        engine: A name of `gidrn_runtime.engines.ENGINES`; for the two of TensorRT a plan of each
            form is built for this size.
        dtype: What the forms compute in, to be kept with the choice.
        size_hw: Of the frame that is timed.
        rounds: Timed runs of each form.
        clock: Nanoseconds.

    Returns:
        The choice, and the milliseconds of every run of each form.

    Raises:
        EngineUnavailable: the engine is not here.
    """
    with ExitStack() as stack:
        opened: dict[str, Upscaler] = {}
        for form in tqdm(forms, desc="forms of the groups", unit="form", leave=False):
            path = folder / f"{form}.onnx"
            write(form, path)
            opened[form] = stack.enter_context(open_form(path, engine, size_hw))
        frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
        taken = time_in_turns(opened, frame, rounds, clock, rest_s=rest_s(engine))
        facts = opened[forms[0]].describe()
    plain = np.asarray(taken[forms[0]])
    over = {form: float(np.median(np.asarray(ms) / plain)) for form, ms in taken.items()}
    fastest = min(over, key=lambda form: over[form])
    choice = Choice(
        merged=fastest if over[fastest] <= WORTH else forms[0],
        engine=str(facts["engine"]),
        engine_version=str(facts["engine_version"]),
        device=str(facts["device"]),
        dtype=dtype,
        size_hw=size_hw,
        median_ms={form: round(float(np.median(ms)), 3) for form, ms in taken.items()},
        over_plain={form: round(ratio, 3) for form, ratio in over.items()},
    )
    return choice, taken


def open_form(path: Path, engine: str, size_hw: tuple[int, int]) -> Upscaler:
    """A form's file on an engine, built first where the engine opens plans.

    Raises EngineUnavailable where the engine is not here.
    """
    if SUFFIXES[0] in engines.engine_class(engine).opens:
        api = tensorrt_api.open_api(engine)
        size = (1, *size_hw)
        request = to_tensorrt.Request(Profile(size, size, size))
        source = to_tensorrt.read_source(path)
        plan = path.with_suffix(SUFFIXES[0])
        path = to_tensorrt.build(source, plan, request, api, to_tensorrt.find_device(api)).path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about random weights
        return Upscaler(path, engine=engine, check=False)


def rest_s(engine: str) -> float:
    """Rest before each run on an engine."""
    return REST_S if engine in engines.ON_CPU else 0.0


def time_in_turns(
    forms: Mapping[str, Callable[[Frame], Frame]],
    frame: Frame,
    rounds: int,
    clock: Clock,
    *,
    rest_s: float,
) -> dict[str, list[float]]:
    """Milliseconds of every run of every form, the order moving on by one each round."""
    taken: dict[str, list[float]] = {form: [] for form in forms}
    names = list(forms)
    for turn in range(WARM_UP + rounds):
        first = turn % len(names)
        for form in names[first:] + names[:first]:
            time.sleep(rest_s)
            began = clock()
            forms[form](frame)
            if turn >= WARM_UP:
                taken[form].append((clock() - began) / 1e6)
    return taken
