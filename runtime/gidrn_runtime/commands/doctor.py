"""``doctor``: what works on this machine, what does not, and why."""

from __future__ import annotations

import argparse
import json

from gidrn_runtime import doctor
from gidrn_runtime.console import say

HELP = "what works here, what does not, and why"
DESCRIPTION = HELP


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--json", action="store_true", help="the same for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 when some shipped model runs here."""
    facts = doctor.examine()
    say(json.dumps(facts, indent=2) if arguments.json else doctor.report(facts))
    return 0 if facts["ok"] else 1
