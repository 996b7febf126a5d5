"""A typed function as a command: tyro for the arguments, one line for a user's mistake."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable

import tyro

TOO_LITTLE_MEMORY = ("out of memory", "can't allocate memory")
"""What PyTorch says in a RuntimeError."""


def words(text: str) -> tuple[str, ...]:
    """The parts of "a, b", each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def duration_s(text: str) -> float:
    """Seconds of "90s", "45m", "1.5h", or "90". Raises ValueError for other words, and for 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"a time is a number above 0 with s, m or h, such as 90s, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _terminated(number: int, _: object) -> None:
    sys.exit(128 + number)


def run(main: Callable[..., int | None]) -> None:
    """Parse the command line into `main`'s arguments, call it, and leave with its exit code.

    What a user can cause (a ValueError, an OSError or too little memory) becomes one line on
    standard error and exit code 2; Ctrl-C exit code 130. GIDRN_TRACEBACK=1 shows the traceback.
    SIGTERM ends `main` as an error would, so that no half-written file stays, with exit code 143.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        code = tyro.cli(main)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, MemoryError) as error:
        if os.environ.get("GIDRN_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # PyTorch's, on the CPU and on GPUs
        text = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if os.environ.get("GIDRN_TRACEBACK") or not any(w in text for w in TOO_LITTLE_MEMORY):
            raise
        print(
            f"error: too little memory, take a smaller batch, patch or size ({text})",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code or 0)
