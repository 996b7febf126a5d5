"""A stream at a camera's pace for a long time: what becomes of the frames, and of the memory.

The stream runs in a process of its own; see `long_stream`.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.long_stream import Task
from benchmarks.records import Figure, How, What
from export.to_onnx import parse_size
from gidrn import command_line
from gidrn_runtime import models

PROTOCOL = (
    "live stream of MPEG-TS over UDP from FFmpeg on loopback, which is killed and restarted; "
    "decode, enlarge by the ladder's rung, encode as JPEG; memory noted every second, in a process "
    "that imports the runtime and no PyTorch"
)


def main(
    model: str = "gidrn_x2",
    minutes: float = 30.0,
    size: str = "120x160",
    fps: int = 25,
    age_ms: float = 500.0,
    threads: int | None = None,
    restart_minutes: float = 5.0,
    out: Path | None = None,
) -> None:
    """Run a stream at a camera's pace, and say what became of frames and memory.

    Args:
        model: a shipped model, or an ONNX file.
        minutes: how long.
        size: HEIGHTxWIDTH of the camera's frames.
        fps: frames a second of the camera.
        age_ms: the age budget.
        threads: CPU threads of the model; the engine's choice by default.
        restart_minutes: how long the camera lives before it is killed.
        out: the JSON file to write; benchmarks/results/local/soak_... by default.
    """
    if minutes <= 0 or restart_minutes <= 0 or fps < 1:
        raise ValueError("--minutes and --restart-minutes are above 0, --fps is at least 1")
    size_hw = parse_size(size)
    path = out or records.RESULTS / "local" / f"soak_{Path(model).stem}_{records.cpu_slug()}.json"
    records.check_writable(path)
    # Before half an hour in which both may move on:
    where, commit = records.here(threads), records.commit_of(records.PROJECT)
    task = Task(model, minutes, size_hw, fps, age_ms, threads, restart_minutes)
    done = in_its_own_process(task)
    what, values = done["what"], done["values"]
    shipped = models.find(model).parent == models.MODELS_DIR
    entry = records.record(
        What(
            what["model"],
            what["scale"],
            what["engine"],
            size_hw=size_hw,
            weights="shipped" if shipped else f"file {Path(model).name}",
            input="FFmpeg's testsrc2 as a camera",
        ),
        How(PROTOCOL, "time.monotonic", "in and out", samples=len(done["rss_mib"])),
        figures=[Figure.of("rss_mib", done["rss_mib"])],
        values=values,
        where=where,
        commit=commit,
    )
    records.write_records(path, [entry])
    print(values["report"])
    print(
        "memory {rss_start_mib:.0f} MiB at the start, {rss_peak_mib:.0f} at most, "
        "{rss_end_mib:.0f} at the end, {rss_mib_an_hour:+.1f} MiB an hour; threads "
        "{threads_start} -> {threads_end}, descriptors {descriptors_start} -> "
        "{descriptors_end}".format(**values)
    )
    print(f"written to {path}")


def in_its_own_process(task: Task) -> dict[str, Any]:
    """What `long_stream.run` gives; its report lines go to stderr meanwhile.

    Raises ChildProcessError where the process fails; it has said why on stderr.
    """
    command = [sys.executable, "-m", "benchmarks.long_stream", json.dumps(dataclasses.asdict(task))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ChildProcessError(f"the stream's process ended with code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    command_line.run(main)
