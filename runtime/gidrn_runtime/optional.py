"""Packages that only some commands need."""

from __future__ import annotations

import importlib
from typing import Any


def load(package: str, needs: str, remedy: str, missing: type[Exception] = ImportError) -> Any:
    """Import `package`; `needs` says what for, such as ``image files need OpenCV``.

    Raises:
        ImportError (or `missing`): it is not there or does not start here, with the remedy.
    """
    try:
        return importlib.import_module(package)
    except Exception as error:  # a broken installation raises more than ImportError
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise missing(f"{needs}, which cannot be imported here ({reason}); {remedy}") from error
