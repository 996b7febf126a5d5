"""A script as the command line runs it, but in this process, which has PyTorch imported already."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path

import pytest


def run_here(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script's file anew, to its end: what it prints, and its exit code.

    A process of its own takes three seconds to begin with. That each script begins there, wherever
    it is called, is for another test: of its work, or of the README's commands.
    """
    command = [str(script), *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patched.setattr(sys, "argv", command)
        patched.setattr(sys, "path", [str(script.parent), *sys.path])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(script), run_name="__main__")
    code = left.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
