"""Timing several models in turns, so that what disturbs the machine disturbs them alike.

For each image, each model runs once end to end, once as the bare network where it takes tensors,
and once by the GPU's clock where it has one; the order of the models moves on by one with each
image, and the order of the runs alternates. Every run is a sample. A slow model takes part in fewer
images, its budget deciding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import TOO_LARGE, Runnable
from benchmarks.low_images import LowImages, spread
from benchmarks.records import Figure, How

CLOCK = "time.perf_counter_ns"

WARM_UP_RUNS = (2, 10)
"""Least and most runs of a warm-up, for one model and one size."""

WARM_UP_CLOSENESS = 0.05
"""A warm-up is over when a run takes at most this much longer or shorter than the one before."""

WARM_UP_SECONDS = 4.0
"""A warm-up ends after a run that passes this, be it the first."""

GPU_WARM_UP_SECONDS = 0.5
"""A model with a clock of its own is kept busy for so long at each size: the GPU's own clocks rise
over tens of milliseconds."""

LEAST_SAMPLES = 3
"""Images of each size that even the slowest model takes part in."""

PAUSE_SECONDS = 0.1
"""Rest before each timed run: ONNX Runtime's threads spin for up to some 30 ms after a run, and
would take the cores from the next model."""

COPIES = (
    "end to end: uint8 BGR frame in host memory to uint8 BGR frame in host memory, with every "
    "conversion and copy between; network only: float32 tensor in host memory to float32 tensor "
    "in host memory; device: one run on the GPU, input there already, output left there"
)


def protocol(batch: int, rest_s: float) -> str:
    """How samples are taken, in words."""
    rest = f"{rest_s * 1000:.0f} ms of rest" if rest_s else "no rest"
    return (
        "models in turns: for each image (or batch) each model once end to end, once as the bare "
        "network where it takes tensors, and once by the GPU's clock where it has one, the order "
        f"of models moving on by one an image; batch {batch}; warm-up per model and size until two "
        f"runs differ by less than {WARM_UP_CLOSENESS:.0%} ({WARM_UP_RUNS[0]} to "
        f"{WARM_UP_RUNS[1]} runs, or {WARM_UP_SECONDS:.0f} s), on a GPU {GPU_WARM_UP_SECONDS:g} s "
        f"more; {rest} before each timed run; a "
        f"slow model takes part in fewer images, at least {LEAST_SAMPLES} of each size"
    )


@dataclass
class Samples:
    """What one model took, image by image."""

    images: list[int] = field(default_factory=list)
    """Indices of the images that it took part in."""
    end_to_end_ms: list[float] = field(default_factory=list)
    network_only_ms: list[float] = field(default_factory=list)
    """Empty where the model takes no tensors."""
    device_ms: list[float] = field(default_factory=list)
    """Empty where it has no clock."""
    warm_up: int = 0
    """Runs thrown away, over all sizes."""

    def how(self) -> How:
        """How they were taken, frames one by one."""
        return How(
            protocol(1, PAUSE_SECONDS),
            clock=CLOCK,
            copies=COPIES,
            warm_up=self.warm_up,
            samples=len(self.images),
        )

    def figures(self) -> list[Figure]:
        """End to end, and the network alone."""
        return [
            Figure.of("end_to_end_ms", self.end_to_end_ms),
            Figure.of("network_only_ms", self.network_only_ms),
        ]


@dataclass(frozen=True)
class Input:
    """One image in the two forms that are fed."""

    frame: NDArray[np.uint8]
    """BGR (H, W, 3), or (N, H, W, 3)."""
    tensor: NDArray[np.float32]
    """RGB (1, 3, H, W), or (N, 3, H, W), in [0, 1]."""


class FramesOnly:
    """A call that is timed by itself, without the bare network beside it."""

    takes_tensors = False

    def __init__(self, enlarge: Callable[[NDArray[np.uint8]], object]) -> None:
        """`enlarge` is given each frame, and may make of it what it likes."""
        self._enlarge = enlarge

    def __call__(self, frames: NDArray[np.uint8], /) -> object:
        return self._enlarge(frames)

    def run_tensor(self, x: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Never called."""
        raise NotImplementedError

    def device_ms(self, frames: NDArray[np.uint8], /) -> float | None:
        """There is no clock but the host's."""
        return None


def prepared(low: LowImages) -> list[Input]:
    """Each image as a BGR frame and as a tensor; the same frame is made into both once."""
    made: dict[int, Input] = {}
    for frame in low.frames:
        if id(frame) not in made:
            several = frame if frame.ndim == 4 else frame[None]
            made[id(frame)] = Input(
                np.ascontiguousarray(frame[..., ::-1]),
                np.ascontiguousarray(several.transpose(0, 3, 1, 2), dtype=np.float32)
                / np.float32(255),
            )
    return [made[id(frame)] for frame in low.frames]


def milliseconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def warm_up(run: Callable[[], object]) -> list[float]:
    """Call until two runs in a row take about the same time; the times in ms."""
    least, most = WARM_UP_RUNS
    times: list[float] = []
    while len(times) < most and sum(times) < WARM_UP_SECONDS * 1000:
        times.append(milliseconds(run))
        if len(times) >= least and abs(times[-1] / times[-2] - 1) <= WARM_UP_CLOSENESS:
            break
    return times


def check_output(name: str, output: NDArray[np.float32]) -> None:
    """Raise ValueError for an output that is not finite, or denormal, and so unfit to time."""
    size = np.abs(output)
    if not np.isfinite(output).all():
        raise ValueError(f"{name} gives numbers that are not finite: its times would mean nothing")
    if ((size > 0) & (size < np.finfo(np.float32).tiny)).any():
        raise ValueError(f"{name} gives denormal numbers, which distort its times")


EVERY_PICTURE = 1e9
"""Seconds a model for `in_turns` that leave no picture out."""


def in_turns(
    models: Mapping[str, Runnable],
    low: LowImages,
    *,
    seconds: float,
    tick: Callable[[str, int, int], None] = lambda _name, _done, _more: None,
    left_out: Callable[[str, str], None] | None = None,
    rest_s: float = PAUSE_SECONDS,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Samples]:
    """Time every model on the images; about `seconds` of timed runs a model.

    `tick(name, done, more)` hears of each step: `more` is what has been added to the work ahead.
    `left_out(name, reason)` hears of a model that fails in its warm-up, as where its memory is too
    little: the others go on without it. Without `left_out` that is an error like others.
    """
    inputs = prepared(low)
    samples = {name: Samples() for name in models}
    chosen: dict[str, set[int]] = {}
    clocked: dict[str, bool] = {}
    sizes_hw = low.sizes_hw
    examples = [inputs[sizes_hw.index(size)] for size in dict.fromkeys(sizes_hw)]
    tick("warm-up", 0, len(models))
    for name, model in models.items():
        try:
            clocked[name], turn_ms = _warmed_up(name, model, examples, samples[name])
        except (RuntimeError, ValueError, *TOO_LARGE) as error:
            if left_out is None:
                raise
            left_out(name, " ".join(str(error).split())[:200] or type(error).__name__)
            del samples[name]
            continue
        finally:
            tick(f"warm-up {name}", 1, 0)
        count = int(seconds * 1000 / max(turn_ms, 1e-6))
        count = min(count, len(inputs))
        chosen[name] = set(spread(sizes_hw, count, least=LEAST_SAMPLES))
    tick("", 0, sum(len(images) for images in chosen.values()))
    names: Sequence[str] = list(samples)
    for i, image in enumerate(inputs):
        turn = i % max(len(names), 1)
        for name in [*names[turn:], *names[:turn]]:
            if i not in chosen[name]:
                continue
            samples[name].images.append(i)
            _sample(models[name], image, samples[name], clocked[name], i % 2, lambda: pause(rest_s))
            tick(name, 1, 0)
    return samples


def _warmed_up(
    name: str, model: Runnable, examples: Sequence[Input], samples: Samples
) -> tuple[bool, float]:
    """Whether it has a clock, and the milliseconds of all its runs at the slowest size."""
    clocked, turn_ms = False, 0.0
    for example in examples:
        if model.takes_tensors:
            check_output(name, model.run_tensor(example.tensor))
            samples.warm_up += 1
        clocked = model.device_ms(example.frame) is not None
        times = warm_up(lambda example=example: model(example.frame))  # type: ignore[misc]
        samples.warm_up += clocked + len(times)
        began = time.perf_counter_ns()
        while clocked and time.perf_counter_ns() - began < GPU_WARM_UP_SECONDS * 1e9:
            model(example.frame)
            samples.warm_up += 1
        turn_ms = max(turn_ms, (1 + model.takes_tensors + clocked) * times[-1])
    return clocked, turn_ms


def _sample(
    model: Runnable,
    image: Input,
    samples: Samples,
    clocked: bool,
    turn: int,
    rest: Callable[[], None],
) -> None:
    """One run of each kind that the model has, the last one first in odd turns."""
    kinds: list[tuple[list[float], Callable[[], float | None]]] = [
        (samples.end_to_end_ms, lambda: milliseconds(lambda: model(image.frame)))
    ]
    if model.takes_tensors:
        kinds.append(
            (samples.network_only_ms, lambda: milliseconds(lambda: model.run_tensor(image.tensor)))
        )
    if clocked:
        kinds.append((samples.device_ms, lambda: model.device_ms(image.frame)))
    for kept, run in reversed(kinds) if turn else kinds:
        rest()
        taken = run()
        assert taken is not None
        kept.append(taken)


def paired_ratios(samples: Samples, reference: Samples) -> dict[int, float]:
    """This model's end-to-end time over the reference's, for each image that both took part in."""
    return _ratios(samples, samples.end_to_end_ms, reference, reference.end_to_end_ms)


def device_ratios(samples: Samples, reference: Samples) -> dict[int, float]:
    """The same of the GPU's times; none where one of them has none."""
    if not samples.device_ms or not reference.device_ms:
        return {}
    return _ratios(samples, samples.device_ms, reference, reference.device_ms)


def _ratios(
    samples: Samples, taken_ms: list[float], reference: Samples, reference_ms: list[float]
) -> dict[int, float]:
    of_reference = dict(zip(reference.images, reference_ms, strict=True))
    return {
        image: taken / of_reference[image]
        for image, taken in zip(samples.images, taken_ms, strict=True)
        if image in of_reference
    }
