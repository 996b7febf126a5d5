"""What GStreamer must be told to find the element, and whether it can load it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""What GST_PLUGIN_PATH names: GStreamer looks in its folder `python`."""

ELEMENT = "gidrnupscale"

REMEDY = (
    "on Debian and Ubuntu install gstreamer1.0-tools, gstreamer1.0-python3-plugin-loader and "
    "python3-gst-1.0"
)


class GStreamerUnavailable(ImportError):  # noqa: N818 - as EngineUnavailable
    """GStreamer, or its loader for Python elements, cannot be used here; the message says why."""


def variables() -> dict[str, str]:
    """The variables to set and their values, in which what they are now stands last.

    PYTHONPATH names the folders from which this Python imports packages: the one that GStreamer
    embeds is the system's, which does not know this environment.
    """
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    found = {
        "GST_PLUGIN_PATH": [str(FOLDER)],
        "PYTHONPATH": [str(FOLDER.parents[1]), *packages],
    }
    for name, paths in found.items():
        paths += [path for path in os.environ.get(name, "").split(os.pathsep) if path]
    return {name: os.pathsep.join(dict.fromkeys(paths)) for name, paths in found.items()}


def check(setting: Mapping[str, str]) -> None:
    """Let GStreamer load the element with these variables.

    Raises:
        GStreamerUnavailable: it cannot, with the reason and the remedy.
    """
    told = _inspect("python", os.environ)
    file = re.search(r"^\s*Filename\s+(\S.*)$", told.stdout, re.MULTILINE)
    if told.returncode != 0 or file is None:
        raise GStreamerUnavailable(f"GStreamer has no loader for Python elements here; {REMEDY}")
    embedded = re.search(rb"libpython(3\.\d+)", Path(file[1].strip()).read_bytes())
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if embedded is not None and embedded[1].decode() != own:
        raise GStreamerUnavailable(
            f"GStreamer embeds Python {embedded[1].decode()} and this is Python {own}, whose NumPy "
            f"and ONNX Runtime the other cannot import; install gidrn in an environment of "
            f"Python {embedded[1].decode()} and run this command there"
        )
    loaded = _inspect(ELEMENT, {**os.environ, **setting})
    if loaded.returncode != 0:
        lines = [line for line in loaded.stderr.splitlines() if line.strip()]
        raise GStreamerUnavailable(
            f"GStreamer does not load {ELEMENT} ({lines[-1] if lines else 'it gives no reason'}); "
            f"{REMEDY}"
        )


def _inspect(name: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["gst-inspect-1.0", name],
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise GStreamerUnavailable(f"there is no gst-inspect-1.0 here; {REMEDY}") from error
