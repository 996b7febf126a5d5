"""The table of commands. A new command is one file beside this one and one line in `COMMANDS`."""

from __future__ import annotations

import argparse
from types import ModuleType

from gidrn_runtime.commands import (
    colour_check,
    doctor,
    folder,
    gstreamer,
    models,
    pipe,
    stream,
    upscale,
    video,
)

COMMANDS: dict[str, ModuleType] = {
    "upscale": upscale,
    "folder": folder,
    "video": video,
    "pipe": pipe,
    "stream": stream,
    "gstreamer": gstreamer,
    "colour-check": colour_check,
    "doctor": doctor,
    "models": models,
}
"""Name -> module with `HELP` (a line), `DESCRIPTION`, `add_options(parser)` and `run(arguments)`,
which returns the exit code. Importing such a module needs NumPy alone; `run` imports the rest."""


def add_all(parser: argparse.ArgumentParser) -> None:
    """A subcommand for each line of the table."""
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = subparsers.add_parser(name, help=command.HELP, description=command.DESCRIPTION)
        command.add_options(one)
        one.set_defaults(run=command.run)
