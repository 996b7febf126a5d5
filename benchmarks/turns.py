"""Timing several models in turns, so that what disturbs the machine disturbs them alike.

For each image, each model runs once end to end and once as the bare network; the order of the
models moves on by one with each image, and the order of the two runs alternates. Every run is a
sample. A slow model takes part in fewer images, its budget deciding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.low_images import LowImages, spread

CLOCK = "time.perf_counter_ns"

WARM_UP_RUNS = (2, 10)
"""Least and most runs of a warm-up, for one model and one size."""

WARM_UP_CLOSENESS = 0.05
"""A warm-up is over when a run takes at most this much longer or shorter than the one before."""

WARM_UP_SECONDS = 4.0
"""A warm-up ends after a run that passes this, be it the first."""

LEAST_SAMPLES = 3
"""Images of each size that even the slowest model takes part in."""

PAUSE_SECONDS = 0.1
"""Rest before each timed run: ONNX Runtime's threads spin for up to some 30 ms after a run, and
would take the cores from the next model."""

PROTOCOL = (
    "models in turns: for each image each model once end to end and once as the bare network, the "
    "order of models moving on by one an image; batch 1; warm-up per model and size until two runs "
    f"differ by less than {WARM_UP_CLOSENESS:.0%} ({WARM_UP_RUNS[0]} to {WARM_UP_RUNS[1]} runs, "
    f"or {WARM_UP_SECONDS:.0f} s); {PAUSE_SECONDS * 1000:.0f} ms of rest before each timed run; "
    f"a slow model takes part in fewer images, at least {LEAST_SAMPLES} of each size"
)

COPIES = (
    "end to end: uint8 BGR frame in host memory to uint8 BGR frame in host memory, with every "
    "conversion and copy between; network only: float32 tensor in host memory to float32 tensor "
    "in host memory"
)


class Runnable(Protocol):
    """What is timed: `gidrn_runtime.Upscaler`, or a test's stand-in."""

    def __call__(self, frame: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """Enlarge a BGR frame."""
        ...

    def run_tensor(self, x: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Enlarge an RGB tensor."""
        ...


@dataclass
class Samples:
    """What one model took, image by image."""

    images: list[int] = field(default_factory=list)
    """Indices of the images that it took part in."""
    end_to_end_ms: list[float] = field(default_factory=list)
    network_only_ms: list[float] = field(default_factory=list)
    warm_up: int = 0
    """Runs thrown away, over all sizes."""


@dataclass(frozen=True)
class Input:
    """One image in the two forms that are fed."""

    frame: NDArray[np.uint8]
    """BGR (H, W, 3)."""
    tensor: NDArray[np.float32]
    """RGB (1, 3, H, W) in [0, 1]."""


def prepared(low: LowImages) -> list[Input]:
    """Each image as a BGR frame and as a tensor."""
    return [
        Input(
            np.ascontiguousarray(frame[:, :, ::-1]),
            np.ascontiguousarray(frame.transpose(2, 0, 1)[None], dtype=np.float32)
            / np.float32(255),
        )
        for frame in low.frames
    ]


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


def in_turns(
    models: Mapping[str, Runnable],
    low: LowImages,
    *,
    seconds: float,
    tick: Callable[[str, int, int], None] = lambda _name, _done, _more: None,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Samples]:
    """Time every model on the images; about `seconds` of timed runs a model.

    `tick(name, done, more)` hears of each step: `more` is what has been added to the work ahead.
    """
    inputs = prepared(low)
    samples = {name: Samples() for name in models}
    chosen: dict[str, set[int]] = {}
    sizes_hw = low.sizes_hw
    examples = [inputs[sizes_hw.index(size)] for size in dict.fromkeys(sizes_hw)]
    tick("warm-up", 0, len(models) * len(examples))
    for name, model in models.items():
        both_ms = 0.0
        for example in examples:
            check_output(name, model.run_tensor(example.tensor))
            times = warm_up(lambda model=model, example=example: model(example.frame))  # type: ignore[misc]
            samples[name].warm_up += 1 + len(times)
            both_ms = max(both_ms, 2 * times[-1])
            tick(f"warm-up {name}", 1, 0)
        count = int(seconds * 1000 / max(both_ms, 1e-6))
        count = min(count, len(inputs))
        chosen[name] = set(spread(sizes_hw, count, least=LEAST_SAMPLES))
    tick("", 0, sum(len(images) for images in chosen.values()))
    names: Sequence[str] = list(models)
    for i, image in enumerate(inputs):
        turn = i % len(names)
        for name in [*names[turn:], *names[:turn]]:
            if i not in chosen[name]:
                continue
            frame_ms, tensor_ms = _both(models[name], image, tensor_first=i % 2 == 1, pause=pause)
            samples[name].images.append(i)
            samples[name].end_to_end_ms.append(frame_ms)
            samples[name].network_only_ms.append(tensor_ms)
            tick(name, 1, 0)
    return samples


def _both(
    model: Runnable, image: Input, *, tensor_first: bool, pause: Callable[[float], None]
) -> tuple[float, float]:
    """Milliseconds end to end and as the bare network."""

    def end_to_end() -> float:
        pause(PAUSE_SECONDS)
        return milliseconds(lambda: model(image.frame))

    def network_only() -> float:
        pause(PAUSE_SECONDS)
        return milliseconds(lambda: model.run_tensor(image.tensor))

    if tensor_first:
        tensor_ms = network_only()
        return end_to_end(), tensor_ms
    return end_to_end(), network_only()


def paired_ratios(samples: Samples, reference: Samples) -> dict[int, float]:
    """This model's end-to-end time over the reference's, for each image that both took part in."""
    of_reference = dict(zip(reference.images, reference.end_to_end_ms, strict=True))
    return {
        image: taken / of_reference[image]
        for image, taken in zip(samples.images, samples.end_to_end_ms, strict=True)
        if image in of_reference
    }
