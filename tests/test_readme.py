"""Every code block of the README does what it says, as far as minutes allow."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn_runtime.video.library import import_av

av = import_av()  # untyped: its stubs ask for checks of what a test may take as given

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """The README's shell commands, split into words; a backslash goes on in the next line."""
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(line) for line in lines]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a photo.jpg, a clip.mp4 and a folder photos, as the README supposes."""
    photo = cv2.imread(str(ROOT / "gidrn" / "samples" / "rocket.jpg"))
    assert photo is not None
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo[:60, :80])
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "small.jpg"), photo[:20, :30])
    with av.open(str(tmp_path / "clip.mp4"), "w") as clip:
        stream = clip.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        for shift in range(3):
            frame = np.ascontiguousarray(photo[:24, shift : shift + 32])
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        clip.mux(stream.encode(None))
    return tmp_path


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_one_that_there_is(
    words: list[str], folder: Path, help_of: Callable[..., str]
) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if words[0] == "torchrun":  # python -m torch.distributed.run, with the module after its flags
        words = ["python", *words[words.index("-m") :]]
    assert words[0] == "python"
    if words[1:3] == ["-m", "gidrn_runtime"]:
        done = run(words[1:], folder)
        assert done.returncode == 0, done.stderr
        return
    # The long ones: every flag they name must be one of the script's.
    script = words[1:3] if words[1] == "-m" else [str(ROOT / words[1])]
    helped = help_of(*script)
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", helped), f"{flag} is no flag of {words[1]}"


@pytest.mark.parametrize("block", blocks("python"))
def test_an_example_runs(block: str, folder: Path) -> None:
    done = run(["-c", block], folder)
    assert done.returncode == 0, done.stderr
    if "big.png" in block:
        big = cv2.imread(str(folder / "big.png"))
        assert big is not None
        assert big.shape == (240, 320, 3)
    else:
        assert done.stdout.count("(48, 64, 3)") == 3


def test_files_and_folders_it_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"\b[A-Z]+_TABLE\b", README)
