"""The element gidrnupscale in real pipelines, and what tells why it cannot be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import Upscaler, __main__
from gidrn_runtime.gstreamer import environment
from gidrn_runtime.gstreamer.latency import WINDOW, FrameLatency
from tests.runtime.conftest import MakeFramesModel, MakeModel

SESSION = Path(__file__).with_name("gstreamer_session.py")
SYSTEM_PYTHON = "/usr/bin/python3"
Launch = Callable[..., subprocess.CompletedProcess[str]]
Inspect = Callable[[str], None]
Session = Callable[..., Any]


@pytest.fixture(scope="module")
def setting(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Variables with which GStreamer finds the element, and a registry of its own."""
    program("gst-launch-1.0")
    registry = tmp_path_factory.mktemp("gstreamer") / "registry.bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GST_REGISTRY", str(registry))
        found = environment.variables()
        try:
            environment.check(found)
        except environment.GStreamerUnavailable as error:
            if os.environ.get("GIDRN_REQUIRE_PROGRAMS") and "embeds Python" not in str(error):
                pytest.fail(f"{error}, and GIDRN_REQUIRE_PROGRAMS is set")
            pytest.skip(str(error))
    return {**os.environ, **found, "GST_REGISTRY": str(registry), "LC_ALL": "C"}


@pytest.fixture
def launch(setting: dict[str, str], tmp_path: Path) -> Launch:
    """Runs gst-launch-1.0 on a pipeline in `tmp_path`; keyword arguments change variables."""

    def run(pipeline: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["gst-launch-1.0", *pipeline.split()],
            cwd=tmp_path,
            env={**setting, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def write_rows(path: Path, frame: np.ndarray) -> None:
    """A frame as GStreamer keeps it: rows padded to a multiple of four bytes."""
    height, width, _ = frame.shape
    rows = np.full((height, -(-3 * width // 4) * 4), 77, np.uint8)
    rows[:, : 3 * width] = frame.reshape(height, -1)
    path.write_bytes(rows.tobytes())


def read_rows(path: Path, height: int, width: int) -> np.ndarray:
    rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(height, -1)
    assert rows.shape[1] == -(-3 * width // 4) * 4
    return rows[:, : 3 * width].reshape(height, width, 3)


@pytest.mark.parametrize(
    ("order", "size_hw", "of_frames"),
    [("BGR", (5, 7), False), ("RGB", (6, 9), True), ("BGR", (4, 8), True)],
)
def test_pictures_are_those_of_an_upscaler(
    launch: Launch,
    tmp_path: Path,
    make_model: MakeModel,
    make_frames_model: MakeFramesModel,
    order: str,
    size_hw: tuple[int, int],
    of_frames: bool,
) -> None:
    """Bit for bit, at widths whose rows are padded and at one whose rows are not."""
    height, width = size_hw
    model = make_frames_model() if of_frames else make_model(mode="linear", gain=(1, 0.5, 0.8))
    frames = np.random.default_rng(0).integers(0, 250, (3, height, width, 3), np.uint8)
    for i, frame in enumerate(frames):
        write_rows(tmp_path / f"low{i}.raw", frame)
    caps = f"video/x-raw,format={order},width={width},height={height},framerate=25/1"
    done = launch(
        f"multifilesrc location=low%d.raw stop-index=2 caps={caps} ! gidrnupscale model={model} "
        "engine=ort-cpu threads=1 ! multifilesink location=high%d.raw"
    )
    assert done.returncode == 0, done.stderr
    with Upscaler(model, color=order.lower(), threads=1) as upscale:
        for i, frame in enumerate(frames):
            picture = read_rows(tmp_path / f"high{i}.raw", 2 * height, 2 * width)
            np.testing.assert_array_equal(picture, upscale(frame))
    assert not (tmp_path / "high3.raw").exists()


def test_the_shipped_model_takes_what_converters_offer(launch: Launch, tmp_path: Path) -> None:
    """As the README has it: the model by its name, converters on both sides, a PNG behind."""
    done = launch(
        "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=40,height=30 ! videoconvert ! "
        "gidrnupscale ! videoconvert ! pngenc ! filesink location=high.png"
    )
    assert done.returncode == 0, done.stderr
    import cv2

    picture = cv2.imread(str(tmp_path / "high.png"))
    assert picture is not None
    assert picture.shape == (60, 80, 3)
    assert (picture[5, 5] > 230).all()  # the test pattern begins with a white bar,
    assert (np.abs(picture[5, 15].astype(int) - [0, 255, 255]) < 25).all()  # and yellow follows


@pytest.mark.parametrize(
    ("caps", "properties", "behind", "words"),
    [
        ("width=40", "model=gidrn_x9", "", "there is no model 'gidrn_x9'; the nearest is"),
        ("width=40", "model=no/model.onnx", "", "there is no model file 'no/model.onnx'"),
        ("width=40", "model=tiny.onnx engine=ort-gpu", "", "there is no engine 'ort-gpu'; did"),
        ("width=40", "model=small.onnx", "", "small.onnx takes only height x width of 4x6, not "),
        (
            "interlace-mode=interleaved",
            "model=tiny.onnx",
            "",
            "gidrnupscale takes progressive video alone: put deinterlace before it",
        ),
        (
            "height=30",
            "model=tiny.onnx",
            "! video/x-raw,width=81",
            "what follows wants width and height of 81 and 60, to which tiny.onnx enlarges "
            "nothing: its scale is 2",
        ),
    ],
)
def test_what_cannot_be_is_told_by_the_element(
    session: Session,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caps: str,
    properties: str,
    behind: str,
    words: str,
) -> None:
    make_model()
    make_model(name="small.onnx", size=(1, 4, 6))
    monkeypatch.chdir(tmp_path)
    told = session(
        "failure",
        f"videotestsrc num-buffers=2 ! video/x-raw,{caps} ! videoconvert ! gidrnupscale "
        f"name=element {properties} {behind} ! fakesink",
    )
    assert any(text.startswith(words) for name, text in told if name == "element"), told


def test_an_engine_that_is_not_there_is_told(launch: Launch, make_model: MakeModel) -> None:
    make_model()
    done = launch(
        "videotestsrc num-buffers=1 ! videoconvert ! gidrnupscale model=tiny.onnx engine=ort-cuda "
        "! fakesink",
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode != 0
    assert "gidrnupscale0: ort-cuda: " in done.stderr


def test_without_its_packages_the_element_says_what_to_set(launch: Launch) -> None:
    done = launch(
        "videotestsrc num-buffers=1 ! videoconvert ! gidrnupscale ! fakesink", PYTHONPATH=""
    )
    assert done.returncode != 0
    assert "that GStreamer embeds misses a part of gidrnupscale (No module named" in done.stderr
    assert "python -m gidrn_runtime gstreamer" in done.stderr


def test_the_element_says_what_it_is(setting: dict[str, str]) -> None:
    done = subprocess.run(
        ["gst-inspect-1.0", "gidrnupscale"], env=setting, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for words in ("Scaler", "format: { (string)BGR, (string)RGB }", 'Default: "gidrn_x2"'):
        assert words in done.stdout


@pytest.fixture
def session(setting: dict[str, str], tiny: Path) -> Session:
    """Runs a part of `gstreamer_session.py` in the system's Python; what came out."""

    def run(part: str, argument: str | None = None) -> Any:
        done = subprocess.run(
            [SYSTEM_PYTHON, str(SESSION), part, argument or str(tiny)],
            env=setting,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_rows_padded_otherwise_than_caps_say(session: Session) -> None:
    assert session("padded_rows") is True


def test_caps_may_change_in_mid_stream(session: Session) -> None:
    found = session("caps_that_change")
    assert found["right"] == [True] * 8
    assert found["times"] == [i * 100_000_000 for i in range(8)]
    sizes = [("BGR", 16, 12), ("BGR", 10, 6), ("RGB", 10, 6), ("BGR", 16, 12)]
    for caps, (order, width, height) in zip(found["caps"], sizes, strict=True):
        for words in (
            *(f"format=(string){order}", f"width=(int){width}", f"height=(int){height}"),
            *("framerate=(fraction)10/1", "pixel-aspect-ratio=(fraction)4/3"),
            "colorimetry=(string)bt709",
        ):
            assert words in caps
    assert found["ended"] is True


def test_latency_is_that_before_and_a_frame_s_time(session: Session) -> None:
    found = session("latency")
    (live, least, most), (live_after, least_after, most_after) = found["before"], found["after"]
    assert live is live_after is True
    assert (least, most) == (3_000_000, 50_000_000)
    assert least_after - least == most_after - most > 0
    assert found["messages"] >= 1  # so that the pipeline asks again
    assert found["ended"] is True


def test_late_frames_are_dropped_and_counted(session: Session) -> None:
    found = session("late_frames")
    assert found["times"] == [400_000_000, 500_000_000]
    assert found["dropped"] == 3
    assert found["ended"] is True


def test_a_flush_and_another_start_do_no_harm(session: Session) -> None:
    assert session("flush_and_restart") == [True] * 4


def test_latency_is_told_when_it_has_changed_by_a_quarter() -> None:
    latency = FrameLatency()
    assert [latency.add(ns) for ns in (100, 120, 90, 126)] == [True, False, False, True]
    assert latency.told_ns == 126
    told = [latency.add(50) for _ in range(WINDOW)]
    assert told == [False] * (WINDOW - 1) + [True]  # when the longest has left the window
    assert latency.told_ns == 50


@pytest.fixture
def play_inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    """Puts a script in the place of gst-inspect-1.0."""

    def play(script: str) -> None:
        path = tmp_path / "gst-inspect-1.0"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return play


def test_the_command_prints_what_a_shell_is_to_set(
    play_inspect: Inspect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loader = tmp_path / "libgstpython.so"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    loader.write_bytes(b"\x7fELF libpython" + version.encode() + b".so.1.0")
    play_inspect(f'echo "  Filename                 {loader}"')
    monkeypatch.setenv("GST_PLUGIN_PATH", "/some/where else")
    assert __main__.main(["gstreamer"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"export GST_PLUGIN_PATH='{environment.FOLDER}:/some/where else'"
    assert second.startswith(f"export PYTHONPATH={environment.FOLDER.parents[1]}:")
    assert "site-packages" in second
    assert (environment.FOLDER / "python" / "gidrnupscale.py").is_file()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "there is no gst-inspect-1.0 here; on Debian and Ubuntu install"),
        ("exit 1", "no loader for Python elements here; on Debian and Ubuntu install"),
        ('echo "Filename OTHER"', "embeds Python 3.2 and this is Python 3."),
        (
            'test $1 = python && echo "Filename OWN" || { echo no gi >&2; exit 1; }',
            "GStreamer does not load gidrnupscale (no gi); on Debian",
        ),
    ],
)
def test_the_command_says_why_it_cannot_be(
    play_inspect: Inspect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str | None,
    words: str,
) -> None:
    (tmp_path / "other").write_bytes(b"libpython3.2mu.so.1.0")
    (tmp_path / "own").write_bytes(b"nothing told")
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        for name in ("other", "own"):
            script = script.replace(name.upper(), str(tmp_path / name))
        play_inspect(script)
    assert __main__.main(["gstreamer"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
