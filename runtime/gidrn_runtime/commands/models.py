"""``models``: the models that come with the package."""

from __future__ import annotations

import argparse

from gidrn_runtime import doctor
from gidrn_runtime.console import complain, say

HELP = "list the shipped models"
DESCRIPTION = HELP


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command has none."""


def run(_: argparse.Namespace) -> int:
    """Print one line a model."""
    shipped = doctor.list_models()
    for model in shipped:
        say(doctor.describe_model(model))
    if not shipped:
        complain("no model is shipped with this installation")
    return 0 if shipped else 1
