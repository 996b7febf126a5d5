"""A video job that is killed, interrupted or changed, and what the next run makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import Upscaler
from gidrn_runtime.__main__ import main
from gidrn_runtime.video import job
from gidrn_runtime.video.library import import_av

av = import_av()  # untyped: its stubs ask for checks of what a test may take as given

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES = 40

KILL = """
import os, signal
from gidrn_runtime.video import {module}
original = {module}.{name}
count = 0

def dying(*arguments):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

{module}.{name} = dying
"""
"""Makes the process kill itself, without any notice, at the given call of a function."""

RUN = """
import sys
from gidrn_runtime.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """H.264 with B-frames of uneven length, and sound."""
    path = tmp_path / "in.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"bf": "2"})
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        audio: Any = container.add_stream("aac", rate=48000)
        video.codec_context.time_base = video.time_base = Fraction(1, 90000)
        pts = 0
        for _ in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(
                rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1), "rgb24"
            ).reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, video.codec_context.time_base
            pts += int(rng.integers(1800, 5400))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(
            np.sin(np.arange(72000) / 20).astype(np.float32)[None], "fltp", "mono"
        )
        sound.sample_rate = 48000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def command(source: Path, target: Path, model: Path, *more: str) -> list[str]:
    options = ["--model", str(model), "--threads", "1", "--segment-seconds", "0.3"]
    return ["video", str(source), "-o", str(target), *options, *more]


def run(arguments: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + RUN, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def whole(source: Path, tiny: Path, tmp_path: Path) -> bytes:
    """What an uninterrupted run makes."""
    target = tmp_path / "whole.mp4"
    assert main(command(source, target, tiny)) == 0
    return target.read_bytes()


def test_killed_at_any_call_it_resumes_to_the_same_file(
    source: Path, tiny: Path, tmp_path: Path, whole: bytes
) -> None:
    """SIGKILL in the first segment, in later ones, between two, in the joining, and after it."""
    target = tmp_path / "out.mp4"
    moments = [
        ("job", "picture_from_rgb", random.Random(0).randrange(1, 7)),
        ("job", "picture_from_rgb", random.Random(1).randrange(8, 30)),
        ("job", "replacing", 2),  # while a segment is begun
        ("joining", "read_packets", 3),
        ("job", "_sync", 1),
    ]
    kept = []
    for module, name, at in moments:
        done = run(command(source, target, tiny), KILL.format(module=module, name=name, at=at))
        assert done.returncode == -signal.SIGKILL, (module, name, done.stderr)
        assert not target.exists()
        kept.append(len(list(tmp_path.glob("out.mp4.work/*.segment"))))
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert kept[1] > 0
    done = run(command(source, target, tiny))
    assert done.returncode == 0, done.stderr
    assert "are there already" in done.stderr
    assert target.read_bytes() == whole
    assert not Path(f"{target}.work").exists()


def test_killed_from_outside_it_resumes_to_the_same_file(
    source: Path, make_model: Any, tmp_path: Path
) -> None:
    """At moments of the system's choosing, on a model that is slow enough to be met at work."""
    model = make_model(inner=3, name="slow.onnx")
    reference, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert main(command(source, reference, model)) == 0
    arguments = [sys.executable, "-c", RUN, *command(source, target, model)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")}
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    try:
        while len(list(tmp_path.glob("out.mp4.work/*.segment"))) < 2 and process.poll() is None:
            time.sleep(random.Random(2).uniform(0.001, 0.02))
    finally:
        process.kill()
        process.wait(60)
    if not target.exists():  # else it was too fast to be met; what follows must hold all the same
        assert main(command(source, target, model)) == 0
    assert target.read_bytes() == reference.read_bytes()


def test_ctrl_c_ends_at_once_and_goes_on(source: Path, make_model: Any, tmp_path: Path) -> None:
    model = make_model(inner=3, name="slow.onnx")
    reference, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert main(command(source, reference, model)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "gidrn_runtime", *command(source, target, model)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("out.mp4.work/*.segment")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"interrupted; the same command goes on from {target}.work" in err
    assert "Traceback" not in err
    assert main(command(source, target, model)) == 0
    assert target.read_bytes() == reference.read_bytes()


@pytest.fixture
def unfinished(source: Path, tiny: Path, tmp_path: Path) -> Path:
    """The target of a job that broke off with segments done."""
    target = tmp_path / "out.mp4"
    left = iter(range(29))

    def broken(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise OSError("the disk is gone")
        return picture(*arguments)

    picture = job.picture_from_rgb
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "picture_from_rgb", broken)
        assert main(command(source, target, tiny)) == 1
    return target


def test_other_ingredients_are_refused_by_name(
    source: Path, tiny: Path, make_model: Any, unfinished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    segments = sorted(Path(f"{unfinished}.work").glob("*.segment"))
    stamps = [path.stat().st_mtime_ns for path in segments]
    other = make_model(gain=(0.5, 1, 1), name="other.onnx")
    for more, word in (
        (["--quality", "30"], 'encoding.options was {"crf": "18"}, is {"crf": "30"}'),
        (["--segment-seconds", "0.5"], "segment_frames was "),
        (["--model", str(other)], "model.sha256"),
        (["--matrix", "601"], "coding.matrix was"),
        (["--drop", "audio"], "copies"),
    ):
        assert main(command(source, unfinished, tiny, *more)) == 2
        err = capfd.readouterr().err
        assert f"other ingredients ({word}" in err or f"; {word}" in err, err
        assert "--restart throws it away" in err
    with source.open("ab") as file:
        file.write(b"\0")
    assert main(command(source, unfinished, tiny)) == 2
    assert "source" in capfd.readouterr().err
    assert [path.stat().st_mtime_ns for path in segments] == stamps
    assert main(command(source, unfinished, tiny, "--restart", "--quality", "30")) == 0
    assert unfinished.exists()


def test_the_engine_is_chosen_before_it_is_written_down(
    source: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one at the first frame would be another ingredient when the job is resumed."""
    told: list[object] = []
    prepare, describe = Upscaler.prepare, job.describe_model

    def prepared(self: Upscaler, height: int, width: int) -> None:
        told.append((height, width))
        prepare(self, height, width)

    def described(upscaler: Upscaler) -> dict[str, object]:
        told.append("described")
        return describe(upscaler)

    monkeypatch.setattr(Upscaler, "prepare", prepared)
    monkeypatch.setattr(job, "describe_model", described)
    assert main(["video", str(source), "-o", str(tmp_path / "out.mp4"), "--model", str(tiny)]) == 0
    assert told == [(48, 64), "described"]


def test_a_damaged_segment_is_refused(
    source: Path, tiny: Path, unfinished: Path, whole: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    first = Path(f"{unfinished}.work/000000.segment")
    first.write_bytes(first.read_bytes()[:-20])
    capfd.readouterr()
    assert main(command(source, unfinished, tiny)) == 2
    assert "000000.segment is damaged; --restart begins anew" in capfd.readouterr().err
    assert main(command(source, unfinished, tiny, "--restart")) == 0
    assert unfinished.read_bytes() == whole


def test_files_of_others_in_the_work_folder_stay(source: Path, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.work"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    (folder / "000000.segment").write_text("left of a job without a manifest")
    assert main(command(source, tmp_path / "out.mp4", tiny)) == 0
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_two_at_once_are_refused(
    source: Path, tiny: Path, unfinished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    with Path(f"{unfinished}.work/lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(command(source, unfinished, tiny)) == 2
    assert "another process is at work" in capfd.readouterr().err
    assert main(command(source, unfinished, tiny)) == 0


def test_a_resumed_run_decodes_again_but_enlarges_no_frame_twice(
    source: Path, tiny: Path, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gidrn_runtime import Upscaler

    length = json.loads(Path(f"{unfinished}.work/manifest.json").read_text())["segment_frames"]
    done = len(list(Path(f"{unfinished}.work").glob("*.segment"))) * length
    runs = []
    original = Upscaler.run_tensor

    def counted(self: Upscaler, x: Any) -> Any:
        runs.append(x.shape)
        return original(self, x)

    monkeypatch.setattr(Upscaler, "run_tensor", counted)
    assert main(command(source, unfinished, tiny)) == 0
    assert 0 < done < FRAMES
    assert len(runs) == FRAMES - done


@pytest.mark.parametrize(
    ("codec", "more"),
    [("libx265", ["--preset", "ultrafast"]), ("libsvtav1", ["--preset", "12"]), ("ffv1", [])],
)
def test_other_codecs_resume_to_the_same_file(
    source: Path, tiny: Path, tmp_path: Path, codec: str, more: list[str]
) -> None:
    more = ["--codec", codec, "--segment-seconds", "0.6", *more]
    reference, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    assert main(command(source, reference, tiny, *more)) == 0
    before = KILL.format(module="job", name="picture_from_rgb", at=25)
    assert run(command(source, target, tiny, *more), before).returncode == -signal.SIGKILL
    assert main(command(source, target, tiny, *more)) == 0
    assert target.read_bytes() == reference.read_bytes()
