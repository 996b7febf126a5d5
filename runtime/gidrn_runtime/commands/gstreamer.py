"""``gstreamer``: the variables with which GStreamer finds the element gidrnupscale."""

from __future__ import annotations

import argparse
import shlex

from gidrn_runtime.console import say
from gidrn_runtime.gstreamer import environment

HELP = "print the variables with which GStreamer finds the element gidrnupscale"
DESCRIPTION = (
    "Let GStreamer load the element gidrnupscale, and print the variables that it needs for that "
    'as a shell takes them: eval "$(python -m gidrn_runtime gstreamer)"'
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command has none."""


def run(_: argparse.Namespace) -> int:
    """Print one line a variable."""
    setting = environment.variables()
    environment.check(setting)
    for name, value in setting.items():
        say(f"export {name}={shlex.quote(value)}")
    return 0
