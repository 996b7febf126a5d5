"""``colour-check``: colours written as video or as stills, read, enlarged and written again."""

from __future__ import annotations

import argparse

from gidrn_runtime import colour_conformance, still_conformance
from gidrn_runtime.console import say

HELP = "whether colours come through unchanged"
DESCRIPTION = (
    "Write flat patches as video in every matrix (601, 709, 2020), range and pixel format, read "
    "them, enlarge them by repeating pixels and write them again. Each must come back within one "
    "code value; beside it stands by how many a reader would be off that took the wrong matrix or "
    "range, the mildest of such mistakes. Then the same of still images: dark ones of 16 bits, and "
    "alpha whose colour is multiplied by it."
)


def add_options(_: argparse.ArgumentParser) -> None:
    """The command has none."""


def run(_: argparse.Namespace) -> int:
    """Print one line a coding; 0 when all pass and every wrong tag shows."""
    say("matrix  range    format       off by  worst patch    wrongly tagged, off by at least")
    passed = True
    for finding in colour_conformance.examine():
        coding = finding.coding
        wrong = colour_conformance.misread(coding, finding.pixel_format)
        passed &= finding.ok and not wrong.ok
        say(
            f"{coding.matrix:<7} {coding.range:<8} {finding.pixel_format:<12} "
            f"{finding.worst:>6}  {finding.patch if finding.worst else '':<14} {wrong.worst:>6}"
        )
    say("still image              off by  usual mistake       off by")
    for still in still_conformance.examine():
        passed &= still.ok
        say(f"{still.kind:<24} {still.worst:>6}  {still.mistake:<18} {still.mistaken:>7}")
    return 0 if passed else 1
