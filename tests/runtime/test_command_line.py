"""``python -m gidrn_runtime``: files in, files out, and one clear line for every mistake."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gidrn_runtime import FrameTooLargeError, Upscaler, __version__, image_files, models
from gidrn_runtime.__main__ import main
from tests.runtime.icc_profiles import icc_profile, reads_profiles

REPOSITORY = Path(__file__).resolve().parents[2]
Repeat = Callable[..., np.ndarray]


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one photo and several files that are none."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    cv2.imwrite("photo.png", photo)
    cv2.imwrite("alpha.png", np.dstack([photo, photo[..., :1]]))
    cv2.imwrite("deep.png", photo.astype(np.uint16) * 257)
    cv2.imwrite("float.hdr", photo.astype(np.float32))
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("hello " * 100)
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:100])
    Path("full").mkdir()
    return path


def read(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    """What was printed, once it is certain that it is one line on stderr and nothing else."""
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"gidrn_runtime: [^\n]+\n", err), err
    return err


@pytest.mark.usefixtures("folder")
def test_one_photo(
    tiny: Path, photo: np.ndarray, repeat: Repeat, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", "photo.png", "-o", "big.png", "--model", str(tiny)]) == 0
    np.testing.assert_array_equal(read("big.png"), repeat(photo))
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(r"photo\.png 6x9 -> big\.png 12x18 in \d+\.\d\d s \(ort-cpu\)\n", out)


@pytest.mark.parametrize("name", ["alpha.png", "deep.png"])
@pytest.mark.usefixtures("folder")
def test_other_kinds_of_image(tiny: Path, repeat: Repeat, name: str) -> None:
    low = read(name)
    assert main(["upscale", name, "-o", "big.tif", "--model", str(tiny), "--threads", "1"]) == 0
    high = read("big.tif")
    assert high.dtype == low.dtype
    expected = repeat(low)
    if low.shape[2] == 4:  # colour under zero alpha is free
        high[high[..., 3] == 0] = expected[expected[..., 3] == 0] = 0
    np.testing.assert_array_equal(high, expected)


@pytest.mark.usefixtures("folder")
def test_several_photos_go_to_a_folder(
    tiny: Path, capfd: pytest.CaptureFixture[str], repeat: Repeat, photo: np.ndarray
) -> None:
    command = ["upscale", "photo.png", "deep.png", "-o", "new/deeper", "--model", str(tiny)]
    assert main(command) == 0
    assert sorted(os.listdir("new/deeper")) == ["deep_x2.png", "photo_x2.png"]
    np.testing.assert_array_equal(read("new/deeper/photo_x2.png"), repeat(photo))
    assert len(capfd.readouterr().out.splitlines()) == 2
    assert main(["upscale", "photo.png", "-o", "one/", "--model", str(tiny)]) == 0
    assert os.listdir("one") == ["photo_x2.png"]
    assert main(["upscale", "photo.png", "-o", "full", "--model", str(tiny)]) == 0
    assert os.listdir("full") == ["photo_x2.png"]


@pytest.mark.usefixtures("folder")
def test_a_bad_photo_does_not_stop_the_others(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = ["text.jpg", "photo.png", "cut.png", "deep.png"]
    assert main(["upscale", *photos, "-o", "new", "--model", str(tiny)]) == 2
    assert sorted(os.listdir("new")) == ["deep_x2.png", "photo_x2.png"]
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("upscale none.png -o big.png", "there is no file none.png"),
        ("upscale photo.png none.png -o new", "there is no file none.png"),
        ("upscale empty.jpg -o big.png", "empty.jpg is empty (0 bytes)"),
        ("upscale text.jpg -o big.png", "text.jpg (600 bytes) is damaged"),
        ("upscale cut.png -o big.png", "cut.png (100 bytes) is damaged, cut short"),
        ("upscale float.hdr -o big.png", "float.hdr: an image is uint8 or uint16"),
        ("upscale full -o big.png", "full is a folder"),
        ("upscale alpha.png -o big.jpg", "cannot hold transparency; use .png"),
        ("upscale deep.png -o big.jpg", "cannot hold 16-bit values; use .png"),
        ("upscale deep.png -o big.webp", "cannot hold 16-bit values; use .png"),
        ("upscale photo.png -o big", "big has no extension"),
        ("upscale photo.png -o big.xyz", "big.xyz has '.xyz'"),
        ("upscale photo.png -o none/big.png", "none is not there; make it first"),
        ("upscale photo.png -o text.jpg/big.png", "text.jpg is not a folder"),
        ("upscale photo.png -o text.jpg/", "text.jpg"),
        ("upscale photo.png -o text.jpg/new/", "cannot make the folder text.jpg/new"),
        ("upscale photo.png -o deep.png", "deep.png is there already"),
        ("upscale photo.png -o photo.png --overwrite", "both input and output"),
        ("upscale photo.png -o full/../photo.png --overwrite", "both input and output"),
        ("upscale photo.png deep.png -o big.png", "2 photos need a folder"),
        ("upscale photo.png deep.png -o text.jpg", "2 photos need a folder"),
        ("upscale photo.png full/../photo.png -o new", "two photos would both become"),
        ("upscale photo.png", "-o/--out"),
        ("upscale -o big.png", "PHOTO"),
        ("upscale photo.png -o big.png --threads many", "--threads"),
        ("upscale photo.png -o big.png --threads 0", "not 0"),
        ("upscale photo.png -o big.png --engine ort-gpu", "did you mean 'ort-cuda'?"),
        ("upscale photo.png -o big.png --engine gpu", "did you mean 'ort-cuda'?"),
        ("upscale photo.png -o big.png -s 2", "-s 2; the factor is the model's, as in --model"),
        ("upscale photo.png -o big.png --best", "see python -m gidrn_runtime upscale --help"),
        ("upscale photo.png -o big.png --model gidrnx4", "there is no model 'gidrnx4'"),
        ("upscale photo.png -o big.png --model none.onnx", "there is no model file 'none.onnx'"),
        ("upscale photo.png -o big.png --model empty.jpg", "is not an ONNX file"),
        ("enlarge photo.png", "enlarge"),
        ("", "COMMAND"),
        ("doctor --xml", "--xml"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, tiny: Path, arguments: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    command = arguments.split()
    if command[:1] == ["upscale"] and "--model" not in command:
        command += ["--model", str(tiny)]
    try:
        code = main(command)
    except SystemExit as leaving:  # argparse
        code = int(str(leaving.code))
    line = one_line(capfd)
    assert words in line
    # The folder that cannot be made is the machine's no, everything else the user's mistake.
    assert code == (1 if "make the folder" in words else 2)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.usefixtures("folder")
def test_formats_are_checked_before_the_work(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("gidrn_runtime.commands.upscale.upscale_image", lambda *_: calls.append(1))
    assert main(["upscale", "deep.png", "-o", "big.jpg", "--model", str(tiny)]) == 2
    assert calls == []


@pytest.mark.usefixtures("folder")
def test_overwrite_replaces(tiny: Path, photo: np.ndarray, repeat: Repeat) -> None:
    command = ["upscale", "photo.png", "-o", "deep.png", "--model", str(tiny)]
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0
    np.testing.assert_array_equal(read("deep.png"), repeat(photo))


def fail(error: BaseException) -> Callable[..., Any]:
    """A function that raises `error` whatever it is given."""

    def failing(*_: Any, **__: Any) -> Any:
        raise error

    return failing


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "error", "code", "words"),
    [
        ("os.replace", PermissionError(errno.EACCES, "Permission denied"), 1, "cannot write big"),
        ("os.fsync", NO_SPACE, 1, "cannot write big.png: No space left on device"),
        ("os.replace", KeyboardInterrupt(), 130, "interrupted"),
        ("gidrn_runtime.image_files.encode_image", KeyboardInterrupt(), 130, "interrupted"),
        ("gidrn_runtime.commands.upscale.upscale_image", KeyboardInterrupt(), 130, "interrupted"),
        ("gidrn_runtime.console.Upscaler", KeyboardInterrupt(), 130, "interrupted"),
        (
            "gidrn_runtime.engines.ort_cpu.OrtCpu.run",
            FrameTooLargeError("big"),
            1,
            "not enough memory to enlarge",
        ),
        (
            "gidrn_runtime.commands.upscale.upscale_image",
            MemoryError(),
            1,
            "photo.png: MemoryError",
        ),
    ],
)
def test_failures_leave_nothing_behind(
    folder: Path,
    tiny: Path,
    where: str,
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = sorted(os.listdir(folder))
    monkeypatch.setattr(where, fail(error))
    assert main(["upscale", "photo.png", "-o", "big.png", "--model", str(tiny)]) == code
    assert words in one_line(capfd)
    assert sorted(os.listdir(folder)) == before


def run_module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -m gidrn_runtime`` in a process of its own, as users run it."""
    return subprocess.run(
        [sys.executable, "-m", "gidrn_runtime", *arguments],
        # A size limit on files must not leave cut .pyc files in the work tree.
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY / "runtime"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_a_disk_that_is_full(folder: Path, tiny: Path) -> None:
    cv2.imwrite("noise.png", np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8))
    before = sorted(os.listdir(folder))
    done = run_module(
        *("upscale", "noise.png", "-o", "big.png", "--model", str(tiny)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 1
    assert done.stderr == "gidrn_runtime: noise.png: cannot write big.png: File too large\n"
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_felt_while_the_engine_works(
    folder: Path, make_model: Any, how: signal.Signals
) -> None:
    # Some 10 s of convolutions on two cores: were the interrupt delivered only after them, the time
    # limit below would pass.
    cv2.imwrite("large.png", np.zeros((900, 900, 3), np.uint8))
    model = make_model(inner=40, name="slow.onnx")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gidrn_runtime", "upscale", "photo.png", "large.png"),
            *("-o", "new", "--model", str(model), "--threads", "1"),
        ],
        # A size limit on files must not leave cut .pyc files in the work tree.
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY / "runtime"), "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("photo.png")  # so that the large one's turn is
        time.sleep(0.3)
        process.send_signal(how)
        out, err = process.communicate(timeout=3)
    finally:
        process.kill()
        process.wait()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert (out, err) == ("", "gidrn_runtime: interrupted\n")
    else:
        assert process.returncode == -how
    assert os.listdir(folder / "new") == ["photo_x2.png"]


def test_a_reader_that_leaves_does_not_stop_the_work(folder: Path, tiny: Path) -> None:
    end, writing = os.pipe()
    os.close(end)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "gidrn_runtime", "upscale", "photo.png", "deep.png"),
                *("-o", "new", "--model", str(tiny)),
            ],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(folder / "new")) == ["deep_x2.png", "photo_x2.png"]


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_without_stdout_or_stderr(
    folder: Path, tiny: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, closed, None)  # as Python has it after >&- or 2>&-
    words = ["upscale", "photo.png", "text.jpg", "-o", "new", "--model", str(tiny)]
    assert main(words) == 2
    assert os.listdir(folder / "new") == ["photo_x2.png"]


def test_pictures_that_are_left_out_are_told(
    tiny: Path, folder: Path, photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    cv2.imwritemulti(str(folder / "pages.tif"), [photo, photo[::-1]])
    assert main(["upscale", "pages.tif", "-o", "big.png", "--model", str(tiny)]) == 0
    told = "gidrn_runtime: pages.tif holds 2 pictures; the first is enlarged, the others are not\n"
    assert capfd.readouterr().err == told


@reads_profiles
@pytest.mark.parametrize("command", ["upscale", "folder"])
def test_a_photo_keeps_its_colour_profile(
    tiny: Path, folder: Path, photo: np.ndarray, command: str
) -> None:
    given = icc_profile(b"RGB ")
    for there in folder.rglob("*.*"):
        there.unlink()
    source = folder / "p3.jpg"
    source.write_bytes(image_files.encode_image(source, photo, given))
    words = ["upscale", "p3.jpg", "-o", "new/"] if command == "upscale" else ["folder", ".", "new"]
    assert main([*words, "--model", str(tiny)]) == 0
    assert image_files.colour_profile((folder / "new/p3_x2.png").read_bytes()) == given


@reads_profiles
def test_a_colour_profile_that_is_lost_is_told(
    tiny: Path, folder: Path, photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    source = folder / "p3.png"
    source.write_bytes(image_files.encode_image(source, photo, icc_profile(b"RGB ")))
    assert main(["upscale", "p3.png", "-o", "big.tif", "--model", str(tiny)]) == 0
    told = "gidrn_runtime: p3.png has a colour profile that big.tif does not get, so that its "
    assert capfd.readouterr().err.startswith(told)


def test_how_far_a_photo_in_tiles_is(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite("wide.png", np.zeros((16, 400, 3), np.uint8))
    monkeypatch.setattr("gidrn_runtime.progress.SECONDS_BETWEEN", {True: 0, False: 0})
    words = ["upscale", "wide.png", "-o", "big.png", "--model", "gidrn_x2"]
    assert main([*words, "--tile", "16x32", "--engine", "ort-cpu"]) == 0
    out, err = capfd.readouterr()
    lines = err.splitlines()
    cut = re.search(r"in (\d+) tiles, told", out)
    assert cut is not None
    # Each tile comes in two rounds that settle the statistics and a last one.
    assert len(lines) == 3 * int(cut[1])
    told = [line.partition(" tiles")[0] for line in lines]
    assert told == [f"{n} of {len(lines)}" for n in range(1, len(lines) + 1)]


@pytest.mark.usefixtures("folder")
def test_random_weights_are_announced(make_model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    model = make_model(weights="random")
    assert main(["upscale", "photo.png", "-o", "big.png", "--model", str(model)]) == 0
    err = capfd.readouterr().err
    assert re.fullmatch(r"gidrn_runtime: warning: .*meaningless\n", err)


@pytest.mark.usefixtures("folder")
def test_opencv_that_is_missing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["upscale", "photo.png", "-o", "big.png", "--model", str(tiny)]) == 2
    assert 'pip install "gidrn[cpu]"' in one_line(capfd)


def test_help_and_version() -> None:
    for arguments in (["--help"], ["upscale", "--help"], ["doctor", "--help"]):
        done = run_module(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: python -m gidrn_runtime")
    assert run_module("--version").stdout.strip() == __version__


def test_models_are_listed(
    make_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_model(name="gidrn_x4.onnx", scale=4)
    (tmp_path / "broken.onnx").touch()
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    assert main(["models"]) == 0
    broken, good = capfd.readouterr().out.splitlines()
    assert re.match(r"broken \(0\.0 MiB\): .*is not an ONNX file", broken)
    assert good.startswith("gidrn_x4 (0.0 MiB): scale 4, fp32, attention exact, context 1, format")
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path / "none")
    assert main(["models"]) == 1
    assert "no model is shipped" in one_line(capfd)


def test_the_shipped_model_enlarges_a_file(
    folder: Path, shipped_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", "photo.png", "-o", "big.jpg"]) == 0
    assert read("big.jpg").shape == (24, 36, 3)
    assert capfd.readouterr().err == ""
    with Upscaler("gidrn_x4") as upscale:
        expected = upscale(read("photo.png"))
    assert main(["upscale", "photo.png", "-o", "big.png"]) == 0
    np.testing.assert_array_equal(read("big.png"), expected)


def test_the_doctor_line_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    facts = json.loads(capfd.readouterr().out)
    assert code == (0 if facts["ok"] else 1)
    assert image_files.import_cv2().__version__ == facts["opencv"]["version"]
