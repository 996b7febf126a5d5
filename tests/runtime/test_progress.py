"""The line that tells how far a long piece of work is."""

from __future__ import annotations

import io

import pytest

from gidrn_runtime.progress import Progress, bar_text, duration_text, progress_text


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, to be changed."""
    found = [100.0]
    monkeypatch.setattr("gidrn_runtime.progress.time.monotonic", lambda: found[0])
    monkeypatch.setenv("COLUMNS", "100")
    return found


def test_on_a_terminal_a_line_takes_the_last_one_s_place(now: list[float]) -> None:
    stream = Terminal()
    progress = Progress(40, "pictures", stream)
    progress.show(0)
    assert stream.getvalue() == f"\r[{'.' * 24}] 0 of 40 pictures"
    now[0] += 0.05
    progress.show(1)  # too soon to be read
    assert stream.getvalue().count("\r") == 1
    now[0] += 3.2
    progress.show(12, 1)
    last = f"[{'#' * 7}{'.' * 17}] 12 of 40 pictures, 1 failed, 4 pictures/s, 7 s to go"
    assert stream.getvalue().endswith("\r" + last)
    progress.clear()
    assert stream.getvalue().endswith("\r" + " " * len(last) + "\r")
    progress.clear()
    assert stream.getvalue().count("\r") == 4


def test_in_a_log_a_line_stands_now_and_then(now: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(300, "frames", stream, done_before=100)
    now[0] += 29
    progress.show(120)
    assert stream.getvalue() == ""
    now[0] += 11
    progress.show(140)
    progress.show(141)
    progress.clear()
    assert stream.getvalue() == "140 of 300 frames, 1 FPS, 2 min 40 s to go\n"


@pytest.mark.usefixtures("now")
def test_a_narrow_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    Progress(40, "frames", stream).show(20)
    assert stream.getvalue() == f"\r[{'#' * 12}{'.' * 12}] 20"


def test_an_unknown_total_has_no_bar_and_no_end() -> None:
    assert bar_text(7, None) == ""
    assert progress_text(7, 0, None, "frames", 3.5) == "7 frames, 3.5 FPS"


def test_more_than_was_announced_is_no_error() -> None:
    assert bar_text(12, 10) == f"[{'#' * 24}] "
    assert progress_text(12, 0, 10, "frames", 2.0) == "12 of 10 frames, 2 FPS, 0 s to go"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7530, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
