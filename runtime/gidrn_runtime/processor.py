"""The CPU that this process runs on: its name, its instructions, and how many cores there are."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

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


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
