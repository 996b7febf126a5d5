"""Real sources: RTSP and MPEG-TS servers that are killed and come back, files, folders, cameras."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn_runtime import SourceError, Stream
from gidrn_runtime.streams import Decoded, FolderSink, sources
from gidrn_runtime.streams.decoded import without_passwords
from gidrn_runtime.streams.ledger import STOPPED
from gidrn_runtime.streams.schedule import Reopen
from gidrn_runtime.streams.sources import Camera, Folder
from gidrn_runtime.streams.stream import SourceEvent
from tests.runtime.one_by_one import PATIENCE_S, until

Program = Callable[[str], str]
FFMPEG_SAYS_NOTHING = ("-hide_banner", "-loglevel", "error", "-nostdin")
QUICK = Reopen(first_s=0.05, factor=2, most_s=0.4, at_start=True)
BUDGET_MS = 5000.0


def double(frame: np.ndarray) -> np.ndarray:
    """The fastest upscaler there is."""
    return frame.repeat(2, axis=0).repeat(2, axis=1)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process that serves a stream, to be killed and started again."""

    def __init__(self, command: Callable[[str], list[str]]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, size: str = "160x120") -> None:
        """Serve frames of this size from now on."""
        self._process = subprocess.Popen(self._command(size), stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It keeps its connections and sends nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def serving(command: Callable[[str], list[str]]) -> Iterator[Server]:
    """A server that has been started, and does not outlive the block."""
    server = Server(command)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def ffmpeg_to(program: Program, address: str) -> Callable[[str], list[str]]:
    """25 frames a second of a test picture as MPEG-TS, in real time; any size, odd ones too."""
    ffmpeg = program("ffmpeg")
    encoder = "-c:v libx264 -preset ultrafast -tune zerolatency -g 5 -pix_fmt yuv444p -f mpegts"
    return lambda size: [
        *(ffmpeg, *FFMPEG_SAYS_NOTHING, "-re", "-f", "lavfi"),
        *("-i", f"testsrc=size={size}:rate=25", *encoder.split(), address),
    ]


class Watched:
    """A live stream, what its source did, and which sizes came."""

    def __init__(self, address: str, timeout_s: float = 2.0) -> None:
        self.events: list[SourceEvent] = []
        self.stream = Stream(
            address,
            double,
            age_ms=BUDGET_MS,
            reopen=QUICK,
            timeout_s=timeout_s,
            on_source=self.events.append,
        )
        self._shown = iter(self.stream)

    def read(self, frames: int, size_hw: tuple[int, int] | None = None) -> None:
        """Take so many frames (of this size), each within the budget."""
        giving_up = threading.Timer(PATIENCE_S, self.stream.stop)
        giving_up.start()
        try:
            while frames:
                shown = next(self._shown)
                assert shown.age_ms <= BUDGET_MS
                frames -= size_hw in (None, shown.frame.shape[:2])
        finally:
            giving_up.cancel()

    def kinds(self) -> list[str]:
        """What happened, without repeats."""
        kinds = [event.kind for event in self.events]
        return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]


def check_books(stream: Stream) -> None:
    """The rule, at the end, and nothing left running."""
    counts = stream.ledger.counts()
    assert counts.inside == 0
    assert counts.frames_in == counts.frames_out + counts.dropped + counts.failed
    assert not [one for one in threading.enumerate() if one.name.startswith("gidrn")]


def test_an_rtsp_camera_that_is_killed_comes_back(program: Program) -> None:
    python = "/usr/bin/python3"
    needs = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if not Path(python).exists() or subprocess.run([python, "-c", needs]).returncode:
        program("gir1.2-gst-rtsp-server-1.0")  # skips, or fails where it must be there
    port = free_port()
    script = str(Path(__file__).with_name("rtsp_server.py"))
    with serving(lambda size: [python, script, str(port), *size.split("x"), "h264"]) as server:
        watched = Watched(f"rtsp://user:secret@127.0.0.1:{port}/camera")
        with watched.stream:
            watched.read(20)
            server.kill()
            until(lambda: len(watched.events) >= 3)
            server.start("176x144")
            watched.read(20, size_hw=(288, 352))
    check_books(watched.stream)
    assert watched.kinds()[-2:] == ["lost", "back"]
    statistics = watched.stream.statistics()
    assert statistics.reopenings >= 1
    assert "source lost" in str(statistics)
    told = " ".join(event.reason for event in watched.events)
    assert "secret" not in told
    assert "***@127.0.0.1" in told


def test_mpeg_ts_over_tcp_that_is_killed_comes_back(program: Program) -> None:
    port = free_port()
    with serving(ffmpeg_to(program, f"tcp://127.0.0.1:{port}?listen=1")) as server:
        watched = Watched(f"tcp://127.0.0.1:{port}")
        with watched.stream:
            watched.read(20)
            server.kill()
            until(lambda: len(watched.events) >= 3)
            server.start("161x121")
            watched.read(20, size_hw=(242, 322))
    check_books(watched.stream)
    assert watched.kinds()[-2:] == ["lost", "back"]


def test_a_recording_of_an_address_may_be_reopened_too(program: Program) -> None:
    port = free_port()
    with serving(ffmpeg_to(program, f"tcp://127.0.0.1:{port}?listen=1")) as server:
        one = Stream(f"tcp://127.0.0.1:{port}", double, "file", reopen=QUICK, timeout_s=2.0)
        with one:
            for shown in one:
                if shown.number == 5:
                    server.kill()
                    server.start()
                if one.statistics().reopenings and shown.number >= 10:
                    break
    check_books(one)
    assert set(one.ledger.counts().dropped_by) <= {STOPPED}


def test_mpeg_ts_over_udp_that_falls_silent_comes_back(program: Program) -> None:
    """Nobody hangs up on UDP: silence alone says that the source is lost."""
    port = free_port(socket.SOCK_DGRAM)
    with serving(ffmpeg_to(program, f"udp://127.0.0.1:{port}?pkt_size=1316")) as server:
        watched = Watched(f"udp://127.0.0.1:{port}")
        with watched.stream:
            watched.read(10)
            server.kill()
            until(lambda: any("nothing came for 2 s" in event.reason for event in watched.events))
            server.start("161x121")
            watched.read(10, size_hw=(242, 322))
    check_books(watched.stream)


def test_a_dead_peer_does_not_hold_stop(program: Program) -> None:
    port = free_port()
    with serving(ffmpeg_to(program, f"tcp://127.0.0.1:{port}?listen=1")) as server:
        watched = Watched(f"tcp://127.0.0.1:{port}", timeout_s=3.0)
        with watched.stream:
            watched.read(3)
            server.freeze()
            watched.stream.stop()  # raises TimeoutError if it has to wait for long
    check_books(watched.stream)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_peer_that_accepts_and_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/camera"
        one = Stream(address, double, timeout_s=0.3)
        with pytest.raises(SourceError, match="cannot be opened") as caught:
            one.run(lambda frame: None)
    assert address in str(caught.value)
    check_books(one)


def test_a_source_that_is_not_there_is_told_at_once_and_not_tried_again() -> None:
    one = Stream(f"tcp://127.0.0.1:{free_port()}", double)
    with pytest.raises(SourceError, match="Connection refused"):
        one.run(lambda frame: None)
    assert one.statistics().losses == 0


def test_giving_up_after_some_attempts(caplog: pytest.LogCaptureFixture) -> None:
    reopen = Reopen(first_s=0.01, attempts=3, at_start=True)
    one = Stream(f"tcp://127.0.0.1:{free_port()}", double, reopen=reopen)
    with caplog.at_level(logging.WARNING), pytest.raises(SourceError, match="Connection refused"):
        one.run(lambda frame: None)
    assert len([line for line in caplog.messages if "opened again in" in line]) == 3
    check_books(one)


@pytest.fixture
def clip(tmp_path: Path, program: Program) -> Callable[..., Path]:
    """Makes a clip of a picture that is red above and blue below, ten frames at 50 a second."""

    def make(*arguments: str, name: str = "clip.mp4", size: str = "32x24") -> Path:
        picture = f"color=red:size={size}:rate=50:duration=0.2,format=rgb24,drawbox=y=ih/2:h=ih/2"
        path = tmp_path / name
        command = [program("ffmpeg"), *FFMPEG_SAYS_NOTHING, "-f", "lavfi"]
        command += ["-i", f"{picture}:color=blue:t=fill", *arguments, str(path)]
        subprocess.run(command, check=True)
        return path

    return make


LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")


@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_a_file_is_read_in_its_own_colours(
    clip: Callable[..., Path], matrix: str, color: str
) -> None:
    path = clip(
        "-vf", f"scale=out_color_matrix={matrix}:out_range=tv", *LOSSLESS, "-colorspace", matrix
    )

    class Identity:
        def __call__(self, frame: np.ndarray) -> np.ndarray:
            return frame

    upscale = Identity()
    upscale.color = color  # type: ignore[attr-defined]
    frames = [shown.frame for shown in Stream(path, upscale, "file")]
    assert len(frames) == 10
    red = (0, 0, 255) if color == "bgr" else (255, 0, 0)
    # Two levels: 8 bits of limited range are coarser than 8 bits of full range.
    np.testing.assert_allclose(frames[0][4, 9], red, atol=2)
    np.testing.assert_allclose(frames[0][20, 9], red[::-1], atol=2)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_file_is_turned_as_it_says(
    clip: Callable[..., Path], tmp_path: Path, program: Program, degrees: int
) -> None:
    path = clip(*LOSSLESS)
    turned, still = tmp_path / "turned.mp4", tmp_path / "still.png"
    ffmpeg = [program("ffmpeg"), *FFMPEG_SAYS_NOTHING]
    rotate = ["-c", "copy", "-metadata:s:v:0", f"rotate={degrees}"]
    subprocess.run([*ffmpeg, "-i", str(path), *rotate, str(turned)], check=True)
    subprocess.run([*ffmpeg, "-i", str(turned), "-frames:v", "1", str(still)], check=True)
    with Stream(turned, lambda frame: frame, "file") as one:
        frame = next(iter(one)).frame
    expected = cv2.imread(str(still))
    assert expected is not None
    np.testing.assert_allclose(frame, expected, atol=2)  # two converters, rounding apart


def test_a_file_that_is_played_live_runs_at_its_own_speed(clip: Callable[..., Path]) -> None:
    one = Stream(clip(), double)
    statistics = one.run(lambda frame: None)
    times = [entry.time_in for entry in one.ledger.entries]
    assert statistics.counts.frames_in == 10
    assert statistics.losses == 0
    # Nine gaps of 20 ms at the least; a busy machine takes longer. Microseconds of rounding.
    assert times[-1] - times[0] >= 0.18 - 1e-5


def test_a_file_named_by_its_time(
    clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg takes what stands before a colon for a protocol."""
    made = clip()
    monkeypatch.chdir(made.parent)
    made.rename("2026-11-26T12:30:00.mp4")
    assert Stream("2026-11-26T12:30:00.mp4", double, "file").run(len).counts.frames_out == 10


def test_odd_sizes_of_files(clip: Callable[..., Path]) -> None:
    path = clip(*LOSSLESS, size="33x25")
    assert {shown.frame.shape for shown in Stream(path, double, "file")} == {(50, 66, 3)}


def test_a_broken_file(tmp_path: Path, clip: Callable[..., Path]) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(SourceError, match=r"broken\.mp4 cannot be opened"):
        list(Stream(path, double, "file"))
    sound = tmp_path / "sound.wav"
    clip("-f", "lavfi", "-i", "sine=duration=0.1", "-map", "1:a", name="sound.wav")
    with pytest.raises(SourceError, match=r"sound\.wav has no video stream"):
        list(Stream(sound, double, "file"))
    with pytest.raises(FileNotFoundError, match="there is no file, folder or device"):
        Stream(tmp_path / "none.mp4", double)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10, 20):
        cv2.imwrite(str(tmp_path / f"b{number}.png"), np.full((3, 4, 3), number, np.uint8))
    cv2.imwrite(str(tmp_path / "A1.png"), np.full((5, 4), 99, np.uint8))
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._b1.png").write_bytes(b"\0\5\x16\7")  # macOS writes such beside its files
    with Stream(tmp_path, double, "file") as one:
        shown = list(one)
    assert [each.frame[0, 0, 0] for each in shown] == [99, 1, 2, 10, 20]
    assert [each.name for each in shown] == ["A1", "b1", "b2", "b10", "b20"]


def test_names_that_differ_in_their_extension_alone_stay_apart(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((3, 4, 3), np.uint8))
    Stream(tmp_path, double, "file").run(FolderSink(tmp_path / "big", ending="_x2"))
    assert sorted(os.listdir(tmp_path / "big")) == ["a.jpg_x2.png", "a.png_x2.png", "b_x2.png"]


def test_addresses_are_told_without_passwords() -> None:
    for address, told in (
        ("rtsp://me:se@cret@cam/1", "rtsp://***@cam/1"),
        ("http://cam/a.cgi?user=me&PWD=secret&size=3", "http://cam/a.cgi?user=me&PWD=***&size=3"),
        ("udp://@239.0.0.1:5000", "udp://@239.0.0.1:5000"),
        ("http://cam/1@2", "http://cam/1@2"),
    ):
        assert without_passwords(address) == told
    password = "".join(["hid", "den"])  # a traceback has this line too
    with pytest.raises(SourceError) as caught:
        Decoded(f"http://me:{password}@127.0.0.1:{free_port()}/", timeout_s=5).open()
    assert password not in "".join(traceback.format_exception(caught.value))


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image file"):
        Folder(tmp_path)
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((3, 4, 3), np.uint16))
    with pytest.raises(ValueError, match=r"deep\.png is uint16"):
        list(Stream(tmp_path, double, "file"))


def test_an_opencv_camera(tmp_path: Path) -> None:
    """The same code as for a device, which no test machine has; a file stands in for it."""
    path = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 24))
    for number in range(6):
        writer.write(np.full((24, 32, 3), (20 * number, 0, 0), np.uint8))
    writer.release()
    frames = [shown.frame for shown in Stream(Camera(str(path)), double, "file")]
    assert len(frames) == 6
    # JPEG moves a flat colour by a few levels.
    np.testing.assert_allclose([frame[9, 9, 0] for frame in frames], range(0, 120, 20), atol=6)


def test_a_camera_that_ends_is_opened_again_and_turned_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 24))
    writer.write(np.full((24, 32, 3), (200, 0, 0), np.uint8))
    writer.release()
    turned = sources.Turned(Camera(str(path)))
    with Stream(turned, double, reopen=Reopen(first_s=0.001)) as one:
        for shown in one:
            np.testing.assert_allclose(shown.frame[9, 9], (0, 0, 200), atol=6)
            if one.statistics().reopenings >= 3:
                break
    check_books(one)


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="cannot open the camera 99"):
        Stream(99, double).run(lambda frame: None)
    assert re.search("open", capfd.readouterr().err)  # OpenCV says so in its own words too


def test_names_of_sources(tmp_path: Path) -> None:
    def find(source: object) -> str:
        kind = sources.find(source, is_live=True, color="bgr", timeout_s=1)
        return type(kind).__name__

    assert find(0) == find("/dev/video0") == "Camera"
    assert find("rtsp://host/1") == find("udp://@239.0.0.1:5000") == "Decoded"
    assert find([]) == find(iter([])) == find(np.zeros((2, 3, 4, 3), np.uint8)) == "Frames"
    own = sources.Frames([])
    assert sources.find(own, is_live=True, color="bgr", timeout_s=1) is own
    assert type(sources.find(0, is_live=True, color="rgb", timeout_s=1)).__name__ == "Turned"
    assert os.fspath(tmp_path)
