"""PyAV, which only video needs."""

from __future__ import annotations

from typing import Any

REMEDY = 'pip install "gidrn[video]"'


def import_av() -> Any:
    """The package `av`.

    Raises:
        ImportError: it is missing or does not start here, with the remedy.
    """
    try:
        import av
    except Exception as error:  # a broken installation raises more than ImportError
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImportError(
            f"video needs PyAV, which cannot be imported here ({reason}); {REMEDY}"
        ) from error
    return av
