"""``python -m gidrn_runtime``: enlarge pictures and video, and see what works here.

Exit code 0: done. 1: the machine failed (disk, memory, engine; or the doctor found nothing that
works). 2: something in the request is wrong. 130: interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

import gidrn_runtime
from gidrn_runtime import commands
from gidrn_runtime.console import (
    FAILURES,
    INTERRUPTED,
    MISTAKES,
    OneLineParser,
    complain,
    tell,
)


def build_parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m gidrn_runtime",
        description="Enlarge pictures and video with G-IDRN models; no PyTorch needed.",
    )
    parser.add_argument("--version", action="version", version=gidrn_runtime.__version__)
    commands.add_all(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name need not be valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except (*MISTAKES, *FAILURES) as error:
        return tell(error)


if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:
        # An engine may still be at work in its thread; an orderly exit would pull the floor away
        # under it and could end in a crash instead of this code.
        os._exit(code)
    sys.exit(code)
