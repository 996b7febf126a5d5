"""A user's mistake is one line; a fault of ours keeps its traceback."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from gidrn import command_line, files


def leave(error: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> int:
    def main(*, count: int = 1) -> int:
        """Do nothing."""
        if error is not None:
            raise error
        return count - 1

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as left:
        command_line.run(main)
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (ValueError("wanted a, came b"), 2, "error: wanted a, came b\n"),
        (FileNotFoundError("no file x"), 2, "error: no file x\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(
    error: BaseException | None,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert leave(error, monkeypatch) == code
    assert capsys.readouterr().err == said


def test_a_command_that_is_terminated_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> int:
        """Be terminated while a file is written."""
        with files.replacing(tmp_path / "model.onnx") as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as left:
        command_line.run(main)
    assert left.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_our_own_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> int:
        """Fail."""
        raise TypeError("ours")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(TypeError, match="ours"):
        command_line.run(main)


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIDRN_TRACEBACK", "1")

    def main() -> int:
        """Fail."""
        raise ValueError("shown whole")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(ValueError, match="shown whole"):
        command_line.run(main)


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy() -> None:
        torch.empty(2**60)

    def wrong() -> None:
        raise RuntimeError("something else")

    monkeypatch.delenv("GIDRN_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["greedy"])
    with pytest.raises(SystemExit) as left:
        command_line.run(greedy)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: too little memory")
    with pytest.raises(RuntimeError, match="something else"):
        command_line.run(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("45 m", 2700), ("1.5h", 5400), (" 3m ", 180)],
)
def test_durations(text: str, seconds: float) -> None:
    assert command_line.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-3m", "m", "3 days", "1e3"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, not"):
        command_line.duration_s(text)
