"""Every example is run, on a real source where a test can have one, and its result looked at."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
Program = Callable[[str], str]
PATIENT = ("--age-ms", "60000")
"""A budget that a very busy machine keeps too: these tests are not about speed."""


def load(name: str, **modules: ModuleType) -> Any:
    """The example `name` as a module; `modules` stand in for packages that it imports."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for key, stand_in in modules.items():
            patch.setitem(sys.modules, key, stand_in)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of a second, 64x48: a light square wanders over a dark ground."""
    import av

    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for i in range(20):
            frame = np.full((48, 64, 3), (40, 60, 80), np.uint8)
            frame[16:32, 2 * i : 2 * i + 16] = (250, 220, 200)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_says_how_to_run_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load(path.stem, picamera2=load_stand_in())
    with pytest.raises(SystemExit) as leaving:
        module.main(["--help"])
    assert leaving.value.code == 0
    assert f"python examples/{path.name} " in capsys.readouterr().out + " "


def load_stand_in() -> ModuleType:
    """What stands in for picamera2."""
    spec = importlib.util.spec_from_file_location(
        "picamera2", Path(__file__).with_name("picamera2_stand_in.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Screen:
    """What a test shows frames on."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []
        self.is_closed = False

    def write(self, frame: np.ndarray) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.is_closed = True


def test_webcam_window(
    clip: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example, screen = load("webcam_window"), Screen()
    monkeypatch.setitem(example.DISPLAYS, "window", lambda: screen)
    example.main(["--source", str(clip), "--model", str(tiny), *PATIENT])
    assert screen.is_closed
    assert screen.frames
    for frame in screen.frames:
        assert frame.shape == (96, 128, 3)
        np.testing.assert_allclose(frame[4:8, 4:8], [[(40, 60, 80)] * 4] * 4, atol=1)
        assert frame.max() == 250
    assert f"out {len(screen.frames)}," in capsys.readouterr().out


def test_webcam_in_the_window_of_ffplay(
    clip: Path, tiny: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("ffplay")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # ffplay draws, and no screen is needed
    example = load("webcam_window")
    player = example.Ffplay()
    monkeypatch.setitem(example.DISPLAYS, "ffplay", lambda: player)
    arguments = ["--source", str(clip), "--model", str(tiny), "--display", "ffplay"]
    example.main([*arguments, *PATIENT])
    # It ran until the stream's end closed it: ffplay answers that signal by leaving with 123.
    assert player._player.returncode in (123, -signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def rtsp_server(python: str) -> Iterator[str]:
    """The address of a camera that GStreamer's RTSP server plays on loopback."""
    port = free_port()
    script = REPOSITORY / "tests/runtime/rtsp_server.py"
    command = [python, str(script), str(port), "64", "48", "h264"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                pytest.skip("/usr/bin/python3 has no GStreamer; .ci/install-programs installs it")
            yield f"rtsp://127.0.0.1:{port}/camera"
        finally:
            process.kill()


def test_rtsp_to_file(tmp_path: Path, tiny: Path, program: Program) -> None:
    ffprobe = program("ffprobe")
    out = tmp_path / "out.mkv"
    with rtsp_server("/usr/bin/python3") as address:
        arguments = [address, str(out), "--model", str(tiny), "--seconds", "5", *PATIENT]
        load("rtsp_to_file").main(arguments)
    done = subprocess.run(
        [
            *(ffprobe, "-v", "error", "-of", "json", "-show_streams", "-show_frames"),
            *("-show_entries", "frame=pts_time", str(out)),
        ],
        capture_output=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    [video] = facts["streams"]
    assert (video["codec_name"], video["width"], video["height"]) == ("h264", 128, 96)
    assert (video["color_space"], video["color_range"]) == ("bt709", "tv")
    times = [float(frame["pts_time"]) for frame in facts["frames"]]
    assert times == sorted(set(times))
    assert times[0] == 0
    # As long as the camera ran, not as long as its frames would take at some fixed rate.
    assert len(times) == 1 or 0 < times[-1] < 30
    capture = cv2.VideoCapture(str(out))
    _, frame = capture.read()
    assert frame.min() < 30  # a white ball on black
    assert frame.max() > 225


def test_folder_watch_waits_until_a_file_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load("folder_watch")
    now = 0.0
    picture = tmp_path / "new.png"
    writes = {1.0: b"some", 3.0: b"more", 4.0: b"all of it", 20.0: b"changed later"}

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now in writes:
            picture.write_bytes(writes[now])
            os.utime(picture, (now, now))

    monkeypatch.setattr(example.time, "sleep", sleep)
    monkeypatch.setattr(example.time, "monotonic", lambda: now)
    (tmp_path / "text.txt").touch()
    (tmp_path / ".new.png.part.png").touch()
    files = example.settled_files(tmp_path, 2.5, 0.5)
    assert (next(files), now) == (picture, 6.5)
    assert (next(files), now) == (picture, 22.5)


def test_folder_watch(
    tmp_path: Path,
    tiny: Path,
    repeat: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = load("folder_watch")
    folder, out = tmp_path / "incoming", tmp_path / "enlarged"
    folder.mkdir()
    low = np.random.default_rng(0).integers(0, 256, (10, 12), np.uint8)
    arrivals = iter(["gray.png", "deep.tif", "bad.png"])
    told: list[str] = []

    def sleep(_: float) -> None:
        """A picture arrives with each look; when the last has been told of it is enough."""
        name = next(arrivals, None)
        if name == "bad.png":
            (folder / name).write_bytes(b"no picture")
        elif name is not None:
            image = low if name == "gray.png" else low.astype(np.uint16) * 257
            cv2.imwrite(str(folder / name), image)
        told.extend(capsys.readouterr().out.splitlines())
        if len(told) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(example.time, "sleep", sleep)
    example.main([str(folder), str(out), "--model", str(tiny), "--settle", "0"])
    assert sorted(os.listdir(out)) == ["deep_x2.tif", "gray_x2.png"]
    for name, expected in (("gray_x2.png", low), ("deep_x2.tif", low.astype(np.uint16) * 257)):
        high = cv2.imread(str(out / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(high, repeat(expected))
    assert sum("bad.png" in line and "damaged" in line for line in told) == 1
    with pytest.raises(SystemExit):
        example.main([str(folder), str(folder)])


def test_picamera_callback(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = load("picamera_callback", picamera2=load_stand_in())
    example.main([str(tmp_path / "out"), "--model", str(tiny), "--count", "2", *PATIENT])
    names = sorted(os.listdir(tmp_path / "out"))
    assert len(names) == 2
    for name in names:
        frame = cv2.imread(str(tmp_path / "out" / name))
        assert frame is not None
        assert frame.shape == (480, 640, 3)
        assert np.ptp(frame) == 0  # the camera's next frame is not in it, …
        assert frame[0, 0, 0] < 200  # … nor what the camera leaves in its memory
    assert len(re.findall(r"frame \d+, \d+ ms old", capsys.readouterr().out)) == 2


@contextmanager
def page_of(example: Any, low: np.ndarray) -> Iterator[str]:
    """The address of a page that shows `low`, and its colours turned around for ``after``."""
    pair = example.Pair(lambda frame: 255 - frame.repeat(2, axis=0).repeat(2, axis=1))
    pair.enlarge(low)
    server = example.make_server("127.0.0.1", 0, example.make_app(pair), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def bands() -> np.ndarray:
    """uint8 BGR (60, 80, 3): above dark blue, below green."""
    low = np.empty((60, 80, 3), np.uint8)
    low[:30], low[30:] = (150, 30, 20), (40, 200, 60)
    return low


def test_mjpeg_page_looked_at_in_a_browser(
    tmp_path: Path, program: Program, bands: np.ndarray
) -> None:
    chromium = program("chromium")
    shot = tmp_path / "page.png"
    with page_of(load("mjpeg_page"), bands) as address:
        subprocess.run(
            [
                *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *(
                    "--hide-scrollbars",
                    "--window-size=800,700",
                    f"--user-data-dir={tmp_path / 'u'}",
                ),
                *(f"--screenshot={shot}", f"{address}?still"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    page = cv2.imread(str(shot))
    assert page is not None
    # The picture is 800 wide and 600 high; left of the line is before, right of it after.
    for rows, colour in ((slice(100, 250), bands[0, 0]), (slice(350, 550), bands[-1, 0])):
        before, after = page[rows, 20:390], page[rows, 410:780]
        np.testing.assert_allclose(before, np.broadcast_to(colour, before.shape), atol=8)
        np.testing.assert_allclose(after, np.broadcast_to(255 - colour, after.shape), atol=8)
    assert (page[100:500, 398:402].min(axis=-1) > 240).any(axis=1).all()  # the line


def read_part(stream: Any) -> np.ndarray:
    """The next picture of an MJPEG stream."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.read(1)
    found = re.search(rb"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: (\d+)", head)
    assert found is not None
    image = cv2.imdecode(np.frombuffer(stream.read(int(found[1])), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_mjpeg_page_live(clip: Path, tiny: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, str(REPOSITORY / "examples/mjpeg_page.py")),
            *("--source", str(clip), "--model", str(tiny), "--port", "0"),
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{address}/", timeout=60) as page:
                assert b'src="before.mjpg"' in page.read()
            for side, shape in (("before", (48, 64, 3)), ("after", (96, 128, 3))):
                with urllib.request.urlopen(f"{address}/{side}.mjpg", timeout=60) as stream:
                    assert "multipart/x-mixed-replace" in stream.headers["Content-Type"]
                    assert read_part(stream).shape == shape
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
