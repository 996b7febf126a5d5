"""A typed function as a command: tyro for the arguments, one line for a user's mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import tyro


def words(text: str) -> tuple[str, ...]:
    """The parts of "a, b", each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def run(main: Callable[..., int | None]) -> None:
    """Parse the command line into `main`'s arguments, call it, and leave with its exit code.

    What a user can cause (a ValueError, an OSError or too little memory) becomes one line on
    standard error and exit code 2; Ctrl-C exit code 130. GIDRN_TRACEBACK=1 shows the traceback.
    """
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
    sys.exit(code or 0)
