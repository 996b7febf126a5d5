"""``python -m gidrn_runtime folder``: a tree in, the same tree larger out, one line a mistake."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gidrn_runtime.__main__ import main
from gidrn_runtime.archive.manifest import Manifest, Settings


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures under ``in``."""
    path = tmp_path / "work"
    (path / "in/sub").mkdir(parents=True)
    monkeypatch.chdir(path)
    cv2.imwrite("in/photo.png", photo)
    cv2.imwrite("in/gray.png", photo[..., 0])
    cv2.imwrite("in/sub/deep.png", photo.astype(np.uint16) * 257)
    return path


def listing(out: str) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file())


@pytest.mark.usefixtures("folder")
def test_a_tree_is_mirrored_and_its_end_is_told(
    tiny: Path, photo: np.ndarray, repeat: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["folder", "in", "out/new", "--model", str(tiny), "--workers", "2"]
    assert main(command) == 0
    assert listing("out/new") == [
        "gidrn_manifest.jsonl",
        "gray_x2.png",
        "photo_x2.png",
        "sub/deep_x2.png",
    ]
    gray = cv2.imread("out/new/gray_x2.png", cv2.IMREAD_UNCHANGED)
    deep = cv2.imread("out/new/sub/deep_x2.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(gray, repeat(photo[..., 0]))
    np.testing.assert_array_equal(deep, repeat(photo.astype(np.uint16) * 257))
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"3 pictures: 3 done, 0 failed, 0 left, 0 were done before; \d+ s, \S+ pictures/s "
        r"\(ort-cpu\)\n",
        out,
    )


@pytest.mark.usefixtures("folder")
def test_a_bad_file_is_told_by_line_and_exit_code_and_tried_again(
    tiny: Path, photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in/bad.jpg").write_text("hello")
    command = ["folder", "in", "out", "--model", str(tiny), "--format", "keep"]
    assert main(command) == 2
    out, err = capfd.readouterr()
    assert out.startswith("4 pictures: 3 done, 1 failed, 0 left, 0 were done before")
    assert re.fullmatch(r"gidrn_runtime: in/bad\.jpg \(5 bytes\) is damaged[^\n]+\n", err)
    cv2.imwrite("in/bad.jpg", photo)
    assert main(command) == 0
    assert capfd.readouterr().out.startswith("4 pictures: 1 done, 0 failed, 0 left, 3 were done")
    assert "bad_x2.jpg" in listing("out")


@pytest.mark.usefixtures("folder")
def test_overwrite_lets_files_and_settings_go(tiny: Path, make_model: Any) -> None:
    os.mkdir("out")
    Path("out/gray_x2.png").write_bytes(b"mine")
    command = ["folder", "in", "out", "--no-recursive", "--pattern", "gray.*"]
    assert main([*command, "--model", str(tiny)]) == 2
    assert Path("out/gray_x2.png").read_bytes() == b"mine"
    assert main([*command, "--model", str(tiny), "--overwrite"]) == 0
    first = Path("out/gray_x2.png").read_bytes()
    brighter = make_model(bias=(0.3, 0.3, 0.3), name="brighter.onnx")
    assert main([*command, "--model", str(brighter)]) == 2
    assert Path("out/gray_x2.png").read_bytes() == first
    assert main([*command, "--model", str(brighter), "--overwrite"]) == 0
    assert Path("out/gray_x2.png").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("folder none out", "there is no folder none"),
        ("folder in/photo.png out", "in/photo.png is no folder; the command upscale"),
        ("folder in in", "would count as new ones"),
        ("folder in/sub in", "would count as new ones"),
        ("folder in in/photo.png", "in/photo.png is a file; name a folder"),
        ("folder in out --pattern *.gif", "no picture under in; wanted *.gif"),
        ("folder in out --workers 0", "--workers is a whole number >= 1, not 0"),
        ("folder in out --threads 0", "not 0"),
        ("folder in out --model none.onnx", "there is no model file 'none.onnx'"),
        ("folder in out --engine ort-gpu", "did you mean 'ort-cuda'?"),
        ("folder in out --format gif", "--format"),
        ("folder in", "OUT"),
        ("folder clash out", "clash/a.jpg and a.png would both become a_x2.png"),
        ("folder in busy", "another run is at work on busy"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, tiny: Path, arguments: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("clash", "busy"):
        (folder / name).mkdir()
    for name in ("a.jpg", "a.png"):
        (folder / "clash" / name).touch()
    command = arguments.split()
    if "--model" not in command:
        command += ["--model", str(tiny)]
    with Manifest(folder / "busy", Settings("", "", "", ""), overwrite=False):
        try:
            code = main(command)
        except SystemExit as leaving:  # argparse
            code = int(str(leaving.code))
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert re.fullmatch(r"gidrn_runtime: [^\n]+\n", err), err
    assert words in err
    assert not [path for path in folder.rglob("*_x2.png")]


@pytest.mark.usefixtures("folder")
def test_a_full_disk_ends_the_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    command = ["folder", "in", "out", "--model", str(tiny)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert main(command) == 1
    out, err = capfd.readouterr()
    assert out.startswith("3 pictures: 0 done, 0 failed, 3 left, 0 were done before")
    assert err == "gidrn_runtime: cannot write out/gray_x2.png: No space left on device\n"
    assert listing("out") == ["gidrn_manifest.jsonl"]
    assert main(command) == 0
