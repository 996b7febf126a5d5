"""One record a measurement, as JSON: what, how, figures, where, when and from which commit.

Tables and plots are drawn from these files and nothing else. A file is
`{"schema": SCHEMA, "percentiles": PERCENTILE_METHOD, "records": [...]}`, one record a line.
Measured figures stand in `figures` and `values`; what the paper prints stands in `published`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from gidrn_runtime import processor

SCHEMA = "gidrn-benchmark/1"

PERCENTILE_METHOD = (
    "linear interpolation between order statistics (Hyndman and Fan's type 7, NumPy's default)"
)

PROJECT = Path(__file__).resolve().parent.parent
"""Root of the work tree that the measured code comes from."""

RESULTS = PROJECT / "benchmarks" / "results"
"""Where results live: those kept in git here, those of your own machine in `local/`, ignored."""

Value = str | int | float | bool | None

_PACKAGES = (
    *("gidrn", "torch", "triton", "onnxruntime", "onnxruntime-gpu", "numpy", "onnx"),
    *("openvino", "ncnn", "tensorrt", "tensorrt-rtx", "cuda-python"),
)
_ARITHMETIC = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"),  # x86-64
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16"),  # aarch64
)


@dataclass(frozen=True)
class What:
    """What was measured."""

    model: str
    """A name of the zoo, or "bicubic"."""
    scale: int
    """The factor."""
    engine: str
    """What ran it: "ort-cpu", "torch-cpu", "numpy", …; "none" for pure counting."""
    precision: str = "fp32"
    """Arithmetic of the network."""
    size_hw: tuple[int, int] | None = None
    """Height and width of the low-resolution input; None where it varies within the record."""
    batch: int = 1
    """Images a run."""
    weights: str = "none"
    """"shipped", "file NAME", "random (seed N)", or "none"."""
    input: str = ""
    """The data: "B100", "B100 sizes, generated stand-ins", …"""


@dataclass(frozen=True)
class How:
    """How it was measured."""

    protocol: str
    """In words: what stands inside the clock or the count, and in which order things ran."""
    clock: str = "none"
    """The clock's name."""
    copies: str = "none"
    """Which copies and conversions are inside the clock."""
    warm_up: int = 0
    """Runs thrown away before the first sample."""
    samples: int = 1
    """Runs kept."""


@dataclass(frozen=True)
class Figure:
    """Samples of one quantity, all of them, with three percentiles. The unit ends the name."""

    name: str
    samples: tuple[float, ...]
    p50: float
    p90: float
    p99: float
    labels: tuple[str, ...] = ()
    """What each sample was taken on, such as an image's name; () where that says nothing."""

    @classmethod
    def of(cls, name: str, samples: Iterable[float], labels: Iterable[str] = ()) -> Figure:
        """A figure from its samples. Raises ValueError for none, or for labels that do not fit."""
        kept, words = tuple(float(sample) for sample in samples), tuple(labels)
        if words and len(words) != len(kept):
            raise ValueError(f"{name} has {len(kept)} samples and {len(words)} labels")
        p50, p90, p99 = (percentile(kept, q) for q in (50, 90, 99))
        return cls(name, kept, p50, p90, p99, words)


@dataclass(frozen=True)
class State:
    """What changes about a machine while it measures; None where the system does not tell."""

    when: str
    """UTC, ISO 8601."""
    load: float | None
    """Load average over the minute before."""
    cpu_mhz: tuple[float, float] | None
    """Clock of the slowest and of the fastest core. A virtual machine tells a constant one."""
    governor: str | None
    """How Linux chooses the clocks: "performance", "powersave", …"""
    power: str | None
    """"mains", or "battery 80 %, Discharging"."""
    temperature_c: float | None
    """Of the hottest thermal zone."""
    cpu_s: float | None
    """Seconds since boot, summed over all CPUs."""
    steal_s: float | None
    """Those of `cpu_s` in which a virtual machine wanted a CPU that its host gave to others."""
    gpu: str | None
    """See `gpu_state`."""


@dataclass(frozen=True)
class Where:
    """The machine, without its name."""

    cpu: str
    arithmetic: tuple[str, ...]
    """Those vector extensions of the CPU that decide the speed of a network."""
    cores: int
    """CPUs that this process may use."""
    threads: int | None
    """Threads that the engine was given; None where that has no meaning."""
    gpu: str | None
    """Name and driver of each GPU, or None."""
    os: str
    python: str
    versions: Mapping[str, str]
    """Installed packages that matter."""
    load: float | None
    """The machine's load average over the minute before; well above 0 means a busy machine."""
    state: State | None = None
    """Clocks, power and load before the measurement; None in files written without it."""


@dataclass(frozen=True)
class Commit:
    """The source that was measured."""

    sha: str
    """Full hash, or "unknown" outside git."""
    dirty: bool | None
    """Whether files differed from it (results aside); None where that is unknown."""

    @property
    def in_words(self) -> str:
        """For tables: "commit 0123456789, dirty"."""
        return f"commit {self.sha[:10]}{', dirty' if self.dirty else ''}"


@dataclass(frozen=True)
class Record:
    """One measurement."""

    what: What
    how: How
    figures: tuple[Figure, ...]
    where: Where
    when: str
    """UTC, ISO 8601."""
    commit: Commit
    values: Mapping[str, Value] = field(default_factory=dict)
    """Single numbers and words that have no samples: counts, ratios, peaks."""
    published: Mapping[str, Value] = field(default_factory=dict)
    """What the paper prints for the same thing, on its own machine."""
    after: State | None = None
    """The machine's state when the measurement was over; None in files written without it."""

    def figure(self, name: str) -> Figure:
        """The figure called `name`. Raises KeyError that names those there are."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(f"no figure {name!r}, only {[figure.name for figure in self.figures]}")


def percentile(samples: Sequence[float], q: float) -> float:
    """The `q`-th percentile, q in [0, 100], by PERCENTILE_METHOD."""
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    return float(np.percentile(np.asarray(samples, dtype=np.float64), q, method="linear"))


def record(
    what: What,
    how: How,
    *,
    figures: Iterable[Figure] = (),
    values: Mapping[str, Value] | None = None,
    published: Mapping[str, Value] | None = None,
    where: Where | None = None,
    commit: Commit | None = None,
) -> Record:
    """A record stamped with now, and with this machine and commit where none are given.

    `where` is best taken before the measurement: its state is the one before, that of now the one
    after.
    """
    after = state()
    return Record(
        what,
        how,
        tuple(figures),
        where or here(),
        after.when,
        commit or commit_of(PROJECT),
        dict(values or {}),
        dict(published or {}),
        after,
    )


def state() -> State:
    """Clocks, power and load of this machine now."""
    cpu_s, steal_s = _cpu_seconds()
    return State(
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        load=_load(),
        cpu_mhz=_cpu_mhz(),
        governor=_content(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        power=_power(),
        temperature_c=_temperature_c(),
        cpu_s=cpu_s,
        steal_s=steal_s,
        gpu=gpu_state(),
    )


def here(threads: int | None = None) -> Where:
    """This machine, now."""
    now = state()
    return Where(
        cpu=processor.name(),
        arithmetic=tuple(flag for flag in _ARITHMETIC if flag in processor.features()),
        cores=processor.usable_cores(),
        threads=threads,
        gpu=_gpu(),
        os=_os(),
        python=platform.python_version(),
        versions=_versions(),
        load=now.load,
        state=now,
    )


def cpu_slug() -> str:
    """The CPU's name as part of a file name: "amd-epyc"."""
    return _slug(processor.name()) or "cpu"


def gpu_slug() -> str:
    """The first GPU's name as part of a file name: "nvidia-h200"."""
    return _slug((_gpu() or "gpu").split(",")[0])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit_of(folder: Path) -> Commit:
    """The commit checked out in `folder`; unknown where that is no git work tree's root."""
    top = processor.answer("git", "-C", str(folder), "rev-parse", "--show-toplevel")
    sha = processor.answer("git", "-C", str(folder), "rev-parse", "--verify", "HEAD")
    if top is None or sha is None or Path(top).resolve() != folder.resolve():
        return Commit("unknown", None)
    status = processor.answer(
        "git", "-C", str(folder), "status", "--porcelain", "--", ".", ":!benchmarks/results"
    )
    return Commit(sha, None if status is None else bool(status))


def check_writable(path: Path) -> None:
    """Raise OSError now rather than after the measurement where `path` cannot be written.

    The folder of a path inside RESULTS is made; any other must be there.
    """
    if RESULTS in path.resolve().parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    with tempfile.NamedTemporaryFile(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent):
        pass


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write `records` as JSON, whole or not at all.

    Raises ValueError for a figure that is not finite (JSON has no such numbers) and OSError where
    `path` cannot be written.
    """
    lines = []
    for entry in records:
        try:
            lines.append(json.dumps(dataclasses.asdict(entry), allow_nan=False, ensure_ascii=False))
        except ValueError as error:
            raise ValueError(f"{entry.what} has a figure that is no finite number") from error
    head = f'"schema": {json.dumps(SCHEMA)},\n"percentiles": {json.dumps(PERCENTILE_METHOD)},\n'
    from gidrn.files import replacing  # brings PyTorch along, which reading does without

    text = "{\n" + head + '"records": [\n' + ",\n".join(lines) + "\n]\n}\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

    Raises FileNotFoundError, and ValueError for a file of another kind or another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no benchmark results {path}") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path} is no whole JSON file: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} has the schema {schema!r}, not {SCHEMA!r}: measure again")
    try:
        return [_record_from(entry) for entry in content["records"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds a record that is not whole: {error!r}") from error


def _record_from(entry: dict[str, Any]) -> Record:
    size = entry["what"]["size_hw"]
    return Record(
        what=What(**{**entry["what"], "size_hw": None if size is None else (size[0], size[1])}),
        how=How(**entry["how"]),
        figures=tuple(
            Figure(
                **{
                    **figure,
                    "samples": tuple(figure["samples"]),
                    "labels": tuple(figure["labels"]),
                }
            )
            for figure in entry["figures"]
        ),
        where=Where(
            **{
                **entry["where"],
                "arithmetic": tuple(entry["where"]["arithmetic"]),
                "state": _state_from(entry["where"].get("state")),
            }
        ),
        when=entry["when"],
        commit=Commit(**entry["commit"]),
        values=entry["values"],
        published=entry["published"],
        after=_state_from(entry.get("after")),
    )


def _state_from(entry: dict[str, Any] | None) -> State | None:
    if entry is None:
        return None
    mhz = entry["cpu_mhz"]
    return State(**{**entry, "cpu_mhz": None if mhz is None else (mhz[0], mhz[1])})


def _content(path: Path) -> str | None:
    """What a file of the system says, or None where it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has none
        return None


def _cpu_mhz() -> tuple[float, float] | None:
    cores = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    mhz = [float(khz) / 1000 for core in cores if (khz := _content(core)) and khz.isdecimal()]
    if not mhz:
        listed = _content(Path("/proc/cpuinfo")) or ""
        mhz = [float(m) for m in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", listed, re.MULTILINE)]
    return (round(min(mhz), 1), round(max(mhz), 1)) if mhz else None


def _power() -> str | None:
    """Mains or battery, from Linux's power supplies; a server has none of them."""
    found = {}
    for supply in sorted(Path("/sys/class/power_supply").glob("*")):
        kind, online = _content(supply / "type"), _content(supply / "online")
        if kind == "Battery" and (left := _content(supply / "capacity")):
            found["battery"] = f"battery {left} %, {_content(supply / 'status') or 'unknown'}"
        elif kind == "Mains" and online == "1":
            found["mains"] = "mains"
    return found.get("mains") or found.get("battery")


def _temperature_c() -> float | None:
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    degrees = [float(t) / 1000 for zone in zones if (t := _content(zone)) and t.isdecimal()]
    return round(max(degrees), 1) if degrees else None


def _cpu_seconds() -> tuple[float | None, float | None]:
    """All CPUs' seconds since boot and the stolen ones among them, from Linux's /proc/stat."""
    found = re.search(r"^cpu +(.+)$", _content(Path("/proc/stat")) or "", re.MULTILINE)
    ticks = [int(part) for part in found.group(1).split()] if found else []
    if len(ticks) < 8:  # user, nice, system, idle, iowait, irq, softirq, steal
        return None, None
    a_second = os.sysconf("SC_CLK_TCK")
    return round(sum(ticks[:8]) / a_second, 2), round(ticks[7] / a_second, 2)


def _os() -> str:
    """System, kernel's first two numbers, machine, distribution."""
    release = ".".join(platform.release().split(".")[:2])
    try:
        distribution = f", {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError):  # macOS and Windows have none
        distribution = ""
    return f"{platform.system()} {release} {platform.machine()}{distribution}"


def _gpu() -> str | None:
    query = processor.answer(
        "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"
    )
    return "; ".join(query.splitlines()) if query else None


def gpu_state() -> str | None:
    """Clocks, power and temperature of each GPU now, or None where there is no nvidia-smi.

    As in "SM 1980 MHz, memory 2619 MHz, 310.5 W, 41 C, P0".
    """
    fields = "clocks.sm,clocks.mem,power.draw,temperature.gpu,pstate"
    answer = processor.answer(
        "nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"
    )
    if not answer:
        return None
    found = []
    for line in answer.splitlines():
        sm, memory, power, temperature, state = (part.strip() for part in line.split(","))
        found.append(f"SM {sm} MHz, memory {memory} MHz, {power} W, {temperature} C, {state}")
    return "; ".join(found)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
