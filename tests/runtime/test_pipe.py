"""``python -m gidrn_runtime pipe``: raw frames between real FFmpeg processes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime.__main__ import main
from gidrn_runtime.colour import PIXEL_FORMATS, unpack
from gidrn_runtime.streams import sinks
from gidrn_runtime.video.library import import_av

av = import_av()  # untyped: its stubs ask for checks of what a test may take as given

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")}
HEIGHT, WIDTH = 6, 10


def command(model: Path, *more: str) -> list[str]:
    program = [sys.executable, "-m", "gidrn_runtime", "pipe"]
    return [*program, "--model", str(model), "--threads", "1", *more]


def pipe(
    data: bytes, model: Path, *more: str, size: str = f"{WIDTH}x{HEIGHT}"
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(model, "--size", size, *more),
        input=data,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=120,
        check=False,
    )


def one_line(stderr: bytes) -> str:
    text = stderr.decode()
    assert re.fullmatch(r"gidrn_runtime: [^\n]+\n", text), text
    return text


def test_between_ffmpeg_and_ffmpeg(
    program: Callable[[str], str], tiny: Path, tmp_path: Path
) -> None:
    ffmpeg = [program("ffmpeg"), "-v", "error"]
    out = tmp_path / "out.mkv"
    picture = [*ffmpeg, "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.4"]
    send = [*picture, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    sender = subprocess.Popen(send, stdout=subprocess.PIPE)
    middle = subprocess.Popen(
        command(tiny, "--size", "64x48"),
        stdin=sender.stdout,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    receiver = subprocess.Popen(
        [
            *[*ffmpeg, "-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", "128x96"],
            *["-framerate", "25", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(out)],
        ],
        stdin=middle.stdout,
    )
    for stream in (sender.stdout, middle.stdout):
        assert stream is not None
        stream.close()
    assert [process.wait(60) for process in (receiver, middle, sender)] == [0, 0, 0]
    low = subprocess.run(send, capture_output=True, check=True).stdout
    wanted = np.frombuffer(low, np.uint8).reshape(10, 48, 64, 3).repeat(2, 1).repeat(2, 2)
    with av.open(str(out)) as container:
        came = np.stack([f.to_ndarray(format="bgr24") for f in container.decode(video=0)])
    np.testing.assert_array_equal(came, wanted)


@pytest.mark.parametrize("name", ["bgr24", "rgb24"])
def test_channel_order(make_model: Any, name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    done = pipe(frames.tobytes(), make_model(gain=(1, 1, 0)), "--pixel-format", name)
    assert done.returncode == 0, done.stderr
    wanted = frames.repeat(2, 1).repeat(2, 2)
    wanted[..., 0 if name == "bgr24" else 2] = 0
    assert done.stdout == wanted.tobytes()


def test_gray(tiny: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), np.uint8)
    done = pipe(frames.tobytes(), tiny, "--pixel-format", "gray")
    assert done.stdout == frames.repeat(2, 1).repeat(2, 2).tobytes()


@pytest.mark.parametrize(
    ("name", "span"), [("yuv420p", "limited"), ("nv12", "full"), ("p010le", "limited")]
)
def test_ycbcr(tiny: Path, name: str, span: str) -> None:
    """Luma of moderate colour within a code value; chroma is flat, so that it stays what it is."""
    layout = PIXEL_FORMATS[name]
    rng = np.random.default_rng(0)
    words = np.full(layout.frame_bytes(HEIGHT, WIDTH) // layout.dtype.itemsize, 120)
    words[: HEIGHT * WIDTH] = rng.integers(60, 200, HEIGHT * WIDTH)
    words = words * 2 ** (layout.bits - 8) << layout.shift
    low = words.astype(layout.dtype).tobytes()
    done = pipe(low * 2, tiny, "--pixel-format", name, "--matrix", "709", "--range", span)
    assert done.returncode == 0, done.stderr
    size = layout.frame_bytes(2 * HEIGHT, 2 * WIDTH)
    assert len(done.stdout) == 2 * size
    before = unpack(np.frombuffer(low, np.uint8), layout, HEIGHT, WIDTH)
    after = unpack(np.frombuffer(done.stdout[size:], np.uint8), layout, 2 * HEIGHT, 2 * WIDTH)
    for old, new in zip(before, after, strict=True):
        assert np.abs(new.astype(int) - old.repeat(2, 0).repeat(2, 1)).max() <= 1


def test_each_frame_leaves_before_the_next_comes(tiny: Path) -> None:
    """A camera's frames are not held back."""
    process = subprocess.Popen(
        command(tiny, "--size", f"{WIDTH}x{HEIGHT}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for value in (10, 200):
        process.stdin.write(bytes([value]) * (HEIGHT * WIDTH * 3))
        process.stdin.flush()
        assert set(process.stdout.read(4 * HEIGHT * WIDTH * 3)) == {value}
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_a_frame_that_is_cut(tiny: Path) -> None:
    size = HEIGHT * WIDTH * 3
    done = pipe(bytes(size + size // 2), tiny)
    assert done.returncode == 2
    assert f"frame 1 ends after {size // 2} of {size} bytes; 1 frames were" in one_line(done.stderr)
    assert len(done.stdout) == 4 * size  # the whole one has left


def test_no_frame_at_all(tiny: Path) -> None:
    done = pipe(b"", tiny)
    assert done.returncode == 2
    assert "no frame came in" in one_line(done.stderr)


def test_nobody_reads_any_more(tiny: Path) -> None:
    process = subprocess.Popen(
        command(tiny, "--size", "64x48"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    frame = bytes(64 * 48 * 3)
    process.stdin.write(frame)
    process.stdin.flush()
    process.stdout.read(1)
    process.stdout.close()
    try:
        for _ in range(100):
            process.stdin.write(frame)
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


class OneByOne(io.RawIOBase):
    """A file that takes three bytes at a time, as any without a buffer may."""

    def __init__(self) -> None:
        self.taken: bytes | None = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        if self.taken is None:
            return None
        self.taken += bytes(data[:3])
        return min(3, len(data))


def test_a_file_without_a_buffer_gets_all() -> None:
    file: Any = OneByOne()
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    sinks.RawSink(file).put(sinks.Shown(frame, 0, 0.0, 0.0, "tiny"))
    sinks.write_whole(file, b"")
    assert file.taken == frame.tobytes()
    file.taken = None
    with pytest.raises(BlockingIOError, match="non-blocking"):
        sinks.write_whole(file, b"more")


@pytest.mark.parametrize(
    ("size", "more", "words"),
    [
        ("640", [], "a size is WIDTHxHEIGHT, as 640x360, not '640'"),
        ("0x4", [], "a size is WIDTHxHEIGHT"),
        ("8x8", ["--pixel-format", "nv12"], "--pixel-format nv12 needs --matrix: 601 for SD"),
        ("8x8", ["--matrix", "709"], "--matrix is for YCbCr"),
        ("8x8", ["--pixel-format", "bgra"], "invalid choice: 'bgra'"),
    ],
)
def test_what_is_asked_for_wrongly(
    tiny: Path, size: str, more: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["pipe", "--model", str(tiny), "--size", size, *more])
    except SystemExit as error:  # as argparse ends
        code = error.code
    assert code == 2
    assert words in one_line(capfd.readouterr().err.encode())
