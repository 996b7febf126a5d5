"""The paper on this machine: Tables 1 to 6 and Figures 1, 2 and 6 to 12, measured, and a report.

What is measured is in `replay_parts`; this file keeps each part's records as a JSON file, goes on
where a run was stopped, and writes `report.html`, one file that loads nothing else. A part counts
as measured while its settings, the code and the machine are those that it was measured with.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    arguments,
    noise,
    records,
    replay_parts,
    report_evidence,
    report_page,
    weight_files,
)
from benchmarks.records import Record
from benchmarks.replay_parts import LEFT, Part, Parts, Sources
from gidrn import benchmark_sets, command_line, world
from gidrn.files import replacing

LEDGER = "replay.json"
"""Beside the parts' files: what each was measured with, and how long it took."""

SCHEMA = "gidrn-replay/1"

PRIOR_S = 30.0
"""How many seconds of measuring the forecasts count for."""

_SHOWN = (
    *("report_*.py", "replay.py", "noise.py", "audit.py", "contradictions/*.py"),
    *("choose.py", "compare.py", "median_ratios.py"),
    *("readme_tables.py", "cpu_speed_tables.py", "generated_tables.py", "result_cells.py"),
)
"""Files of this folder that measure nothing which a part keeps."""

_MEASURES = ("gidrn", "export", "runtime/gidrn_runtime")
"""Packages whose source decides what is measured, beside this folder's own."""


@dataclass(frozen=True)
class Done:
    """A part that has been measured, now or by an earlier run."""

    part: str
    key: str
    """Digest of settings, code and machine."""
    seconds: float
    pulses_ms: tuple[float, float]
    """`noise.pulse_ms` before and after."""


@dataclass(frozen=True)
class Progress:
    """How far a replay is."""

    done: Mapping[str, Done]
    measured: tuple[str, ...]
    """Of those, the parts that this very run measured."""
    absent: Mapping[str, str]
    """What there is no figure of from here, with the reason."""
    seconds: float
    """Of this run."""


def machine(device: str) -> str:
    """The machine's name as a folder's: of its GPU, or of its CPU."""
    return records.gpu_slug() if device.startswith("cuda") else records.cpu_slug()


@functools.cache
def code_sha256() -> str:
    """Digest of all source that decides what is measured."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    shown = {path for pattern in _SHOWN for path in here.glob(pattern)}
    found = [path for path in here.rglob("*.py") if path not in shown]
    for package in _MEASURES:
        root = records.PROJECT / package
        found += [p for p in root.rglob("*") if p.suffix in (".py", ".cpp", ".h", ".safetensors")]
    for path in sorted(found):
        digest.update(path.relative_to(records.PROJECT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(part: Part) -> str:
    """Digest of all that a part's figures depend on."""
    where = records.here()
    facts = {
        "settings": part.settings,
        "code": code_sha256(),
        "cpu": [where.cpu, where.arithmetic, where.cores],
        "gpu": where.gpu,
        "versions": where.versions,
        "python": where.python,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def read_ledger(folder: Path) -> dict[str, Done]:
    """What earlier runs measured, by part. Raises ValueError for a file of another kind."""
    path = folder / LEDGER
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}, not {SCHEMA!r}")
        return {
            entry["part"]: Done(
                entry["part"], entry["key"], entry["seconds"], tuple(entry["pulses_ms"])
            )
            for entry in content["parts"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no ledger of a replay ({error}): take it away to measure anew"
        ) from error


def write_ledger(folder: Path, done: Mapping[str, Done]) -> None:
    """Write the ledger, whole or not at all."""
    parts = [vars(one) for one in done.values()]
    with replacing(folder / LEDGER) as temporary:
        text = json.dumps({"schema": SCHEMA, "parts": parts}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def path_of(folder: Path, name: str) -> Path:
    """Where a part's records lie."""
    return folder / f"{name}.json"


def run(parts: Parts, folder: Path, budget_s: float) -> Progress:
    """Measure what is not there yet, as far as the budget goes, part by part.

    A part begins when its forecast fits into what is left; forecasts are corrected by what the
    parts before took. One that fails is told and does not end the others; Ctrl-C ends the
    measuring, and what is left is told.
    """
    began = time.monotonic()
    earlier = read_ledger(folder)
    keys = {part.name: key_of(part) for part in parts.here}
    done = _kept(parts, folder, earlier, keys)
    absent, measured = dict(parts.absent), list[str]()
    pulse = noise.pulse_ms()
    try:
        for part in parts.here:
            if part.name in done:
                continue
            left = max(0.0, budget_s - (time.monotonic() - began))
            forecast = _forecast(part, parts, done)
            if forecast > left:
                absent[part.name] = (
                    f"{LEFT}: about {_minutes(forecast)} are wanted and {_minutes(left)} of the "
                    "budget were left"
                )
                continue
            _say(f"[{_minutes(left)} left, about {_minutes(forecast)} for this] {part.title}")
            started = time.monotonic()
            if failure := _measure(part, folder):
                absent[part.name] = failure
                _say(f"{part.name} {failure}")
                continue
            seconds, after = round(time.monotonic() - started, 2), noise.pulse_ms()
            done[part.name] = Done(part.name, keys[part.name], seconds, (pulse, after))
            measured.append(part.name)
            write_ledger(folder, {**earlier, **done})
            pulse = after
    except KeyboardInterrupt:
        _say("interrupted: the report has what was measured until now")
        for part in parts.here:
            if part.name not in done:
                absent.setdefault(part.name, f"{LEFT}: this one was interrupted")
    if late := [part for part in parts.here if absent.get(part.name, "").startswith(LEFT)]:
        forecast = sum(_forecast(part, parts, done) for part in late)
        _say(f"{LEFT}, which goes on with them: {len(late)} parts, about {_minutes(forecast)}")
    return Progress(done, tuple(measured), absent, time.monotonic() - began)


def _kept(
    parts: Parts, folder: Path, earlier: Mapping[str, Done], keys: Mapping[str, str]
) -> dict[str, Done]:
    """What earlier runs measured and still holds."""
    found = {}
    for part in parts.here:
        one = earlier.get(part.name)
        if one and one.key == keys[part.name] and path_of(folder, part.name).is_file():
            found[part.name] = one
    if found:
        seconds = sum(one.seconds for one in found.values())
        _say(f"kept: {len(found)} parts, measured before in {_minutes(seconds)}")
    return found


def _measure(part: Part, folder: Path) -> str:
    """Measure a part and write its records; "", or what went wrong."""
    try:
        found = part.measure(path_of(folder, part.name))
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return f"failed: {' '.join(str(error).split())[:300] or type(error).__name__}"
    records.write_records(path_of(folder, part.name), found)
    return ""


def _forecast(part: Part, parts: Parts, done: Mapping[str, Done]) -> float:
    """Seconds that a part may take here: its forecast, corrected by those that are done.

    Parts of its own kind tell the most; where there are none, all do. It is as if another PRIOR_S
    had gone by the forecast, since a few short parts say little of a long one.
    """
    known = [one for one in parts.here if one.name in done]
    same = [one for one in known if one.kind == part.kind] or known
    forecast = sum(one.seconds for one in same)
    taken = sum(done[one.name].seconds for one in same)
    return part.seconds * (taken + PRIOR_S) / (forecast + PRIOR_S)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured_records(parts: Parts, folder: Path, progress: Progress) -> dict[str, list[Record]]:
    """The records of every part that is done, by the part's name."""
    return {
        part.name: records.read_records(path_of(folder, part.name))
        for part in parts.here
        if part.name in progress.done
    }


def main(
    device: str = "auto",
    budget: str = "20m",
    data_root: Path | None = None,
    weights_root: Path | None = None,
    photos: tuple[Path, ...] = (),
    threads: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure the paper's tables and figures on this machine, and write report.html.

    Run it again to go on: what has been measured with the same settings and code is kept. Sets that
    are not under the data root, networks without weights and what the budget does not reach stand
    in the report with the reason.

    Args:
        device: auto, cpu or cuda: where networks are timed and trained.
        budget: time after which no further part begins, such as 90s, 20m or 2h.
        data_root: folder with Set5, Set14, B100 and, if you have them, Urban100, Manga109 and
            RealSR; else the variable GIDRN_DATA.
        weights_root: folder with the rivals' official weights, such as imdn_x4.pth; else the
            variable GIDRN_WEIGHTS.
        photos: folders of photos to train Tables 1 to 3 on at a small budget (hours on a CPU).
        threads: CPU threads; all cores by default.
        out: folder for the parts' JSON files, the pictures and report.html;
            benchmarks/results/MACHINE by default.
    """
    seconds = command_line.duration_s(budget)
    device = world.choose_device(device)
    if device not in ("cpu", "cuda"):
        raise ValueError(
            f"--device is auto, cpu or cuda, not {device}: CUDA_VISIBLE_DEVICES chooses among GPUs"
        )
    threads = arguments.cpu_threads(threads)
    weights = weight_files.folder(weights_root)
    if data_root or os.environ.get("GIDRN_DATA"):
        data_root = benchmark_sets.data_root(data_root)
    folder = out or records.RESULTS / machine(device)
    folder.mkdir(parents=True, exist_ok=True)
    records.check_writable(folder / "report.html")
    sources = Sources(device, threads, data_root, weights, tuple(photos))
    parts = replay_parts.all_parts(sources)
    progress = run(parts, folder, seconds)
    evidence = report_evidence.gather(
        measured_records(parts, folder, progress), parts, progress.absent, records.RESULTS
    )
    page = report_page.write(folder / "report.html", evidence, progress.done.values(), folder)
    print(page.summary)
    print(f"\n{_minutes(progress.seconds)}; written to {folder / 'report.html'}")


if __name__ == "__main__":
    command_line.run(main)
