"""A TensorRT plan on the disk, and the facts that stand beside it.

The plan is a plain one, which other tools load. The file of the same name with ``.json`` behind it
says what the plan is: `format` "gidrn-plan/1", `plan_sha256`, `metadata` (that of the ONNX file)
and `key`, all that the plan depends on: `library` (tensorrt or tensorrt-rtx), `library_version`,
`gpu` (of `gidrn_runtime.cuda_devices.Device`; None where it was built without one) and `targets`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gidrn_runtime.errors import ModelError

FORMAT = "gidrn-plan/1"
SUFFIXES = (".plan", ".engine")
REMEDY = "build one with: python export/to_tensorrt.py"


def sidecar_path(plan: Path) -> Path:
    """Where the facts on a plan stand."""
    return plan.with_name(plan.name + ".json")


def is_plan(path: Path) -> bool:
    """Whether a file is a plan, by its name."""
    return path.suffix.lower() in SUFFIXES


def read_facts(plan: Path) -> dict[str, Any]:
    """The facts on a plan. Raises ModelError where there are none, or none of the kind."""
    path = sidecar_path(plan)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r}, not {FORMAT!r}")
        whole = (
            isinstance(facts["plan_sha256"], str)
            and isinstance(facts["key"]["library"], str)
            and isinstance(facts["key"]["library_version"], str)
            and all(isinstance(value, str) for value in facts["metadata"].values())
        )
        if not whole:
            raise ValueError("a text is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"{plan} has no facts beside it that can be read ({path}: {reason}); {REMEDY}"
        ) from error
    known: dict[str, Any] = facts
    return known


def read_plan(plan: Path, facts: dict[str, Any]) -> bytes:
    """The plan itself. Raises ModelError where it is not the one of the facts."""
    try:
        data = plan.read_bytes()
    except OSError as error:
        raise ModelError(f"{plan} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != facts["plan_sha256"]:
        raise ModelError(
            f"{plan} is not the plan of {sidecar_path(plan)}: it is damaged or another; {REMEDY}"
        )
    return data
