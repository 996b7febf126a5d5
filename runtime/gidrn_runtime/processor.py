"""The CPU that this process runs on: its name, its instructions, and how many cores there are."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

from gidrn_runtime import control_groups

CPUINFO = Path("/proc/cpuinfo")


@cache
def name() -> str:
    """The CPU's name, as the system gives it."""
    found = _in_cpuinfo("model name")
    if found:
        return found
    listed = re.search(r"^Model name:\s*(.+)$", answer("lscpu") or "", re.MULTILINE)  # ARM's Linux
    if listed:
        return listed.group(1).strip()
    apple = answer("sysctl", "-n", "machdep.cpu.brand_string")
    return apple or platform.processor() or platform.machine() or "unknown"


@cache
def features() -> frozenset[str]:
    """Its instruction sets by Linux's names; none where the system does not list them."""
    return frozenset((_in_cpuinfo("flags") or _in_cpuinfo("Features")).split())


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: those it may run on, or as many as its control groups
    (containers, services) grant the time of, rounded up, if less. `root` is where ``proc`` and
    ``sys`` are."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for version, group in control_groups.folders("cpu", root):
        if version == 1:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            granted = [line for name in names for line in control_groups.lines(group / name)]
        else:
            granted = " ".join(control_groups.lines(group / "cpu.max")).split()
        quota_us, period_us = (control_groups.number(text) for text in (*granted, "", "")[:2])
        if quota_us and period_us:
            cores = min(cores, -(-quota_us // period_us))
    return cores


def _in_cpuinfo(key: str) -> str:
    """The first value of a key, or nothing."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def answer(*command: str) -> str | None:
    """What a command prints, or None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
