"""Where ONNX Runtime's time goes, by kinds of operator: its own profiler, read run by run."""

from __future__ import annotations

import bisect
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.low_images import smooth_noise

PROTOCOL = (
    "ONNX Runtime's profiler, on a session of its own; runs before the kept ones thrown away; "
    "bytes are those of an operator's inputs, weights and output, each once, whatever the caches "
    "hold"
)
KERNEL = "_kernel_time"
"""How the name of the event of an operator's own time ends."""


@dataclass(frozen=True)
class Event:
    """One operator in one run."""

    run: int
    kind: str
    ms: float
    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class KindTime:
    """All operators of a kind."""

    kind: str
    calls: int
    """In a run."""
    ms: tuple[float, ...]
    """Of each run."""
    multiply_adds: int
    """Of a run."""
    bytes: int
    """Of a run."""

    @property
    def p50_ms(self) -> float:
        """Median over the runs."""
        return statistics.median(self.ms)

    @property
    def g_per_s(self) -> float | None:
        """Multiply-adds a second, in G."""
        return self.multiply_adds / self.p50_ms / 1e6 if self.multiply_adds else None

    @property
    def gb_per_s(self) -> float:
        """1e9 bytes read and written a second."""
        return self.bytes / self.p50_ms / 1e6


def profiled(model: Path, size_hw: tuple[int, int], threads: int, runs: int) -> list[KindTime]:
    """Times of a model's operators by kind, the longest first."""
    import onnxruntime

    warm_up = 2
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        frame = smooth_noise(size_hw, 0)
        x = (frame.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
        for _ in range(warm_up + runs):
            session.run(None, {session.get_inputs()[0].name: x})
        trace = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return by_kind(event for event in events(trace) if event.run >= warm_up)


def events(trace: Sequence[dict[str, Any]]) -> list[Event]:
    """The operators' own events in a trace of ONNX Runtime's profiler."""
    starts = sorted(one["ts"] for one in trace if one.get("name") == "model_run")
    found = []
    for one in trace:
        if one.get("cat") != "Node" or not one["name"].endswith(KERNEL):
            continue
        facts = one["args"]
        moved = sum(int(facts[f"{what}_size"]) for what in ("activation", "parameter", "output"))
        inputs, outputs = (_shapes(facts[f"{end}_type_shape"]) for end in ("input", "output"))
        kind, multiply_adds = _kind(facts["op_name"], inputs, outputs)
        run = bisect.bisect_right(starts, one["ts"]) - 1
        found.append(Event(run, kind, one["dur"] / 1000, multiply_adds, moved))
    return found


def by_kind(found: Iterable[Event]) -> list[KindTime]:
    """Events added up run by run. Raises ValueError for none."""
    every = list(found)
    runs = sorted({event.run for event in every})
    if not runs:
        raise ValueError("the profile holds no operator of a run that is kept")
    kinds = []
    for kind in {event.kind for event in every}:
        of_kind = [event for event in every if event.kind == kind]
        of_run = [event for event in of_kind if event.run == runs[0]]
        ms = tuple(sum(one.ms for one in of_kind if one.run == run) for run in runs)
        kinds.append(
            KindTime(
                *(kind, len(of_run), ms),
                *(sum(one.multiply_adds for one in of_run), sum(one.bytes for one in of_run)),
            )
        )
    return sorted(kinds, key=lambda one: -one.p50_ms)


def _shapes(types: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [next(iter(one.values())) for one in types]


def _kind(operator: str, inputs: list[list[int]], outputs: list[list[int]]) -> tuple[str, int]:
    """A name that tells convolutions apart, and the multiply-adds."""
    if operator in ("Conv", "FusedConv") and len(inputs[1]) == 4:
        _, a_group, height, width = inputs[1]
        groups = max(1, inputs[0][1] // a_group)
        multiply_adds = math.prod(outputs[0]) * a_group * height * width
        grouped = f", {groups} groups" if groups > 1 else ""
        return f"{height}x{width} convolution{grouped}", multiply_adds
    if operator in ("MatMul", "FusedMatMul", "Gemm"):
        return operator, math.prod(outputs[0]) * inputs[0][-1]
    return operator, 0
