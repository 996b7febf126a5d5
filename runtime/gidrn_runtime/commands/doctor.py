"""``doctor``: what works on this machine, what does not, and why."""

from __future__ import annotations

import argparse
import json

from gidrn_runtime import doctor
from gidrn_runtime.console import frame_size_hw, interruptible, say

HELP = "what works here, what does not, and why"
DESCRIPTION = (
    "What works here, what does not, and why. With --measure every engine of the CPU that takes a "
    "model is timed first, on a frame of --size, and `auto` takes the fastest from then on for "
    "this model, frames of about this size and the same --threads."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--json", action="store_true", help="the same for programs")
    parser.add_argument(
        "--measure", action="store_true", help="time the engines of the CPU, for `auto`, first"
    )
    parser.add_argument(
        "--model", default="gidrn_x4", help="with --measure: which model; default: %(default)s"
    )
    parser.add_argument(
        "--size",
        type=frame_size_hw,
        default=(180, 320),
        metavar="WIDTHxHEIGHT",
        help="with --measure: of the frame, width first; default: 320x180",
    )
    parser.add_argument("--threads", type=int, help="with --measure: as the Upscaler will be given")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 when some shipped model runs here."""
    if arguments.measure:
        model, size_hw, threads = arguments.model, arguments.size, arguments.threads
        interruptible(lambda: doctor.measure(model, size_hw, threads))
    facts = doctor.examine()
    say(json.dumps(facts, indent=2) if arguments.json else doctor.report(facts))
    return 0 if facts["ok"] else 1
