"""Conversion of frames inside the model or outside of it: time and memory, in one run.

A network is exported twice, to take tensors and to take uint8 frames, and opened by the runtime,
which converts in NumPy for the first. Each is called with and without memory for the picture. The
network `bicubic` costs little by itself, so that it shows what the conversion costs.
"""

from __future__ import annotations

import logging
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import arguments, exported_models, records
from benchmarks.fps import parse_sizes, thread_counts
from benchmarks.low_images import smooth_noise
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, Value, What
from benchmarks.turns import CLOCK
from export.group_forms import REST_S, ROUNDS, WARM_UP, Frame, time_in_turns
from gidrn import command_line, zoo
from gidrn_runtime import Upscaler

ENGINE = "ort-cpu"

PLAIN = "tensors"
"""The form that the others are compared with."""

PROTOCOL = (
    "forms in turns, the order moving on by one a round; uint8 BGR frame in host memory to uint8 "
    f"BGR frame in host memory; batch 1; {REST_S * 1000:.0f} ms of rest before each run. Peak: the "
    "most that Python and NumPy had allocated at once in a further call (tracemalloc), the picture "
    "included where it is new; the engine's own memory does not count"
)


def forms_of(
    of_tensors: Upscaler, of_frames: Upscaler, size_hw: tuple[int, int]
) -> dict[str, Callable[[Frame], Frame]]:
    """Each way from a frame to a picture; those with `out` write to one that is there."""
    height, width = size_hw
    scale = of_tensors.scale
    out = np.empty((scale * height, scale * width, 3), np.uint8)
    return {
        PLAIN: of_tensors,
        "tensors, out": lambda frame: of_tensors(frame, out=out),
        "frames": of_frames,
        "frames, out": lambda frame: of_frames(frame, out=out),
    }


def peak_mib(form: Callable[[Frame], Frame], frame: Frame) -> float:
    """MiB that Python and NumPy allocate at most during a call."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        form(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - before) / 2**20


def levels_apart(forms: Mapping[str, Callable[[Frame], Frame]], frame: Frame) -> dict[str, int]:
    """The largest difference of each form's picture from the plain one's."""
    plain: NDArray[np.int16] = forms[PLAIN](frame).astype(np.int16)
    return {name: int(np.abs(plain - form(frame)).max()) for name, form in forms.items()}


def measure(
    model: str, scale: int, threads: int, sizes_hw: tuple[tuple[int, int], ...], rounds: int
) -> list[Record]:
    """A record of every form at every size."""
    files = [
        exported_models.exported(model, scale, weights_root=None, frames=frames)
        for frames in (None, "bgr")
    ]
    found: list[Record] = []
    with (
        Upscaler(files[0].path, ENGINE, threads=threads) as of_tensors,
        Upscaler(files[1].path, ENGINE, threads=threads) as of_frames,
    ):
        for size_hw in sizes_hw:
            where = records.here(threads)
            frame = np.ascontiguousarray(smooth_noise(size_hw, seed=0)[..., ::-1])
            forms = forms_of(of_tensors, of_frames, size_hw)
            taken = time_in_turns(forms, frame, rounds, time.perf_counter_ns, rest_s=REST_S)
            apart = levels_apart(forms, frame)
            plain = np.asarray(taken[PLAIN])
            what = What(
                model, scale, ENGINE, size_hw=size_hw, weights=files[0].weights, input="noise"
            )
            for name, form in forms.items():
                less = plain - np.asarray(taken[name])
                values: dict[str, Value] = {
                    "form": name,
                    "time_over_tensors": round(float(np.median(1 - less / plain)), 4),
                    "ms_less_than_tensors": round(float(np.median(less)), 3),
                    "python_peak_mib": round(peak_mib(form, frame), 3),
                    "levels_from_tensors": apart[name],
                }
                found.append(
                    records.record(
                        what,
                        How(PROTOCOL, CLOCK, "in and out", WARM_UP, rounds),
                        figures=[Figure.of("end_to_end_ms", taken[name])],
                        values=values,
                        where=where,
                    )
                )
    return found


def table(found: list[Record]) -> str:
    """The records as Markdown."""
    rows = []
    for entry in found:
        assert entry.what.size_hw is not None
        height, width = entry.what.size_hw
        figure, values = entry.figures[0], entry.values
        rows.append(
            [
                f"{entry.what.model} x{entry.what.scale}, {height}x{width}",
                str(entry.where.threads),
                str(values["form"]),
                f"{figure.p50:.2f}",
                f"{figure.p90:.2f}",
                f"{values['time_over_tensors']:.3f}",
                f"{values['ms_less_than_tensors']:.2f}",
                f"{values['python_peak_mib']:.2f}",
                str(values["levels_from_tensors"]),
            ]
        )
    header = ["input", "threads", "form", "p50, ms", "p90, ms", "time / tensors'"]
    header += ["ms less", "peak, MiB", "levels apart"]
    return markdown_table(header, rows)


def main(
    models: str = "bicubic,gidrn",
    scale: int = 2,
    sizes: str = "80x120,180x320,360x640",
    threads: str | None = None,
    rounds: int = ROUNDS,
    out: Path | None = None,
) -> None:
    """Time models of tensors and models of frames, with memory for the picture and without.

    Args:
        models: networks of the zoo, with commas between.
        scale: 2, 3 or 4.
        sizes: HEIGHTxWIDTH of the inputs, or 540p, 720p, 1080p, with commas between.
        threads: CPU threads, such as 1,2; all cores by default.
        rounds: timed runs of each form.
        out: the JSON file to write; benchmarks/results/local/frames_path_... by default.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if rounds < 1:
        raise ValueError(f"--rounds is at least 1, not {rounds}")
    sizes_hw = parse_sizes(sizes)
    path = out or records.RESULTS / "local" / f"frames_path_x{scale}_{records.cpu_slug()}.json"
    records.check_writable(path)
    found: list[Record] = []
    for model in arguments.models(models, zoo.NETWORKS):
        for count in thread_counts(threads):
            found += measure(model, scale, count, sizes_hw, rounds)
    records.write_records(path, found)
    print(table(found))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    command_line.run(main)
