"""``python -m gidrn_runtime stream``: its outputs, its report, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn_runtime.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three pictures in `photos`, the third of another size."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, size in enumerate([(6, 8), (6, 8), (5, 7)]):
        picture = np.full((*size, 3), 10 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"p{number}.png"), picture)
    (tmp_path / "text.mp4").write_text("hello")
    return tmp_path


def test_a_folder_becomes_a_folder(
    folder: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["stream", "photos", "--policy", "file", "--out", "big", "--model", str(tiny)]
    assert main(command) == 0
    assert sorted(os.listdir("big")) == ["p0_x2.png", "p1_x2.png", "p2_x2.png"]
    image = cv2.imread("big/p2_x2.png")
    assert image is not None
    assert image.shape == (10, 14, 3)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("in 3, out 3, dropped 0, failed 0; ")
    assert main(command) == 2
    assert "big/p0_x2.png is there already" in capfd.readouterr().err
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.usefixtures("folder")
def test_raw_frames_go_to_stdout(
    tiny: Path, repeat: Callable[..., np.ndarray], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    os.remove("photos/p2.png")
    assert main(["stream", "photos", "--policy", "file", "-o", "-", "--model", str(tiny)]) == 0
    out, err = capfdbinary.readouterr()
    expected = [np.full((12, 16, 3), value, np.uint8).tobytes() for value in (0, 10)]
    assert out == b"".join(expected)
    assert b"in 2, out 2" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("none.mp4", "there is no file, folder or device none.mp4"),
        ("photos --policy file --age-ms 5", "age_ms has no meaning"),
        ("photos --seconds 0", "--seconds is a time above 0"),
        ("photos --policy file --out -", "raw frames are of one size"),
        ("photos --policy file --out photos/p0.png", "p0.png is a file; frames go to a folder"),
        ("text.mp4 --policy file", "is it a video, and does ffprobe open it?"),
        ("photos --policy fast", "invalid choice: 'fast'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes_are_told_in_a_line(
    tiny: Path, arguments: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["stream", *arguments.split(), "--model", str(tiny)])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == (1 if "ffprobe" in words else 2)
    assert words in capfd.readouterr().err.splitlines()[-1]


def silent_camera() -> tuple[socket.socket, str]:
    """A server that accepts a connection and never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_stream_ends_after_some_seconds(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server, address = silent_camera()
    with server:
        command = ["stream", address, "--seconds", "0.1", "--timeout-s", "0.5"]
        assert main([*command, "--model", str(tiny)]) == 0
    assert "in 0, out 0, dropped 0, failed 0" in capfd.readouterr().err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_a_report(tiny: Path, sent: signal.Signals, code: int) -> None:
    server, address = silent_camera()
    command = [sys.executable, "-m", "gidrn_runtime", "stream", address, "--timeout-s", "2"]
    with (
        server,
        subprocess.Popen(
            [*command, "--model", str(tiny)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        connection, _ = server.accept()  # the stream runs
        with connection:
            process.send_signal(sent)
            _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Ctrl-C again ends at once" in err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("in 0, out 0")


def test_nobody_reads_stdout_any_more(folder: Path, tiny: Path) -> None:
    command = [sys.executable, "-m", "gidrn_runtime", "stream", "photos", "--policy", "file"]
    process = subprocess.Popen(
        [*command, "--out", "-", "--model", str(tiny)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        told = process.stderr.read().splitlines()
    assert process.wait(60) == 141
    assert len(told) == 1
    assert "failed 1" in told[0]
