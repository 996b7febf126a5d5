"""Both protocols of scoring, the table beside the paper's, and the command on tiny sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import published, quality, records
from gidrn import checkpoints, command_line, zoo
from gidrn.images import write_image
from gidrn.metrics import luma, psnr
from gidrn.resize import downscale, imresize


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth and colourful, so that enlarging it makes sense."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    large = np.asarray(imresize(imresize(small, 4), 3), dtype=np.uint8)
    return large[:height, :width]


def rounded(x: NDArray[Any]) -> NDArray[np.float64]:
    """Halves upwards, clipped to what 8 bits hold."""
    return np.asarray(np.clip(np.floor(x.astype(np.float64) + 0.5), 0, 255))


class Nearest(nn.Module):
    """Repeats pixels, and goes beyond white."""

    def __init__(self, scale: int, gain: float = 1.0) -> None:
        super().__init__()
        self.scale, self.gain = scale, gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def test_bicubic_is_scored_on_y_in_double_with_one_rounding() -> None:
    high = picture(48, 60, seed=0)
    y = np.floor(luma(high) + 0.5)
    made = rounded(imresize(imresize(y, 0.25), 4))
    score = quality.score_bicubic(high, 4)
    assert score.psnr_db == psnr(made, y, border=4)
    assert score.gain_db == 0
    # Rounding the small image as well is another protocol, and other digits.
    other = rounded(imresize(rounded(imresize(y, 0.25)), 4))
    assert score.psnr_db != psnr(other, y, border=4)


def test_a_gray_file_is_its_own_y_for_bicubic_and_rgb_for_a_network() -> None:
    gray = picture(48, 60, seed=1)[:, :, 0]
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
    plain = rounded(imresize(imresize(gray.astype(float), 0.5), 2))
    assert quality.score_bicubic(gray, 2).psnr_db == psnr(plain, gray, border=2)
    assert quality.score_bicubic(gray, 2) != quality.score_bicubic(rgb, 2)
    assert quality.score_network(Nearest(2), gray, 2) == quality.score_network(Nearest(2), rgb, 2)


def test_a_network_is_scored_on_unrounded_y_of_its_rounded_output() -> None:
    high = picture(48, 60, seed=2)
    low = downscale(high, 3)
    made = low.repeat(3, axis=0).repeat(3, axis=1)
    score = quality.score_network(Nearest(3), high, 3)
    assert score.psnr_db == psnr(luma(made), luma(high), border=3)
    plain = psnr(luma(imresize(low, 3)), luma(high), border=3)
    assert score.gain_db == score.psnr_db - plain


def test_a_networks_output_is_clamped() -> None:
    white = np.full((48, 48, 3), 255, dtype=np.uint8)
    assert quality.score_network(Nearest(2, gain=1.5), white, 2).psnr_db == np.inf


PUBLISHED = [
    ("bicubic", 4, "Set5", {"Table 4 psnr_db": 28.42, "Table 4 ssim": 0.8104}),
    ("gidrn", 2, "Manga109", {"Table 4 psnr_db": 38.96, "Table 4 ssim": 0.9773}),
    ("rfdn_l", 3, "Urban100", {"Table 4 psnr_db": 28.24, "Table 4 ssim": 0.8534}),
    ("edsr", 4, "B100", {"Table 6 psnr_db": 27.71, "Table 6 ssim": 0.7420}),
    ("edsr", 4, "Set5", {}),
    ("rfdn", 2, "Set5", {}),
]


@pytest.mark.parametrize(("name", "scale", "dataset", "wanted"), PUBLISHED)
def test_published_scores(name: str, scale: int, dataset: str, wanted: dict[str, float]) -> None:
    assert quality.published_scores(name, scale, dataset) == wanted


def test_the_papers_tables_are_read_whole() -> None:
    rows = published.table4()
    assert len(rows) == 48
    assert {row.scale for row in rows} == {2, 3, 4}
    unscored = {row.method for row in rows if set(row.scores) != set(published.DATASETS)}
    assert unscored == {"IMDN-JDSR", "LatticeNet"}
    assert [row.flops_g for row in published.table5()][:4] == [103.58, 46.60, 41.54, 36.19]
    assert [row.inference_s for row in published.table6()] == [
        *(0.2178, 0.2596, 0.0217, 0.0250, 0.0177, 0.0692)
    ]
    assert published.table5()[0].size_hw == (256, 256)
    assert published.table6()[0].train_s_per_100_iter is None
    assert published.METHODS.keys() == {*zoo.NETWORKS, "bicubic"}


VERDICTS = [  # set, PSNR, SSIM, verdict against 28.42 and 0.8104
    ("Set5", 28.4206, 0.81037, "agree"),
    ("Set5", 28.4095, 0.8104, "differ"),
    ("Set5", 28.42, 0.8110, "differ"),
    ("Set14", 28.42, 0.8110, "agree"),
    ("Set14", 28.42, 0.8115, "differ"),
]


@pytest.mark.parametrize(("dataset", "psnr_db", "ssim", "wanted"), VERDICTS)
def test_verdict(dataset: str, psnr_db: float, ssim: float, wanted: str) -> None:
    paper = {"Table 4 psnr_db": 28.42, "Table 4 ssim": 0.8104}
    assert quality.verdict(dataset, psnr_db, ssim, paper) == wanted


@pytest.fixture
def tiny_set5(tmp_path: Path) -> Path:
    """A data root whose Set5 is five made-up pictures, one of them gray."""
    root = tmp_path / "data"
    (root / "Set5").mkdir(parents=True)
    for seed in range(5):
        image = picture(49, 58, seed)
        write_image(root / "Set5" / f"{seed}.png", image if seed else image[:, :, 0])
    return root


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("GIDRN_DATA", "GIDRN_WEIGHTS")}
    return subprocess.run(
        [sys.executable, str(Path(quality.__file__)), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


def test_help_names_the_flags() -> None:
    done = run("--help")
    assert done.returncode == 0
    for flag in ("--models", "--dataset", "--scale", "--data-root", "--weights-root", "--out"):
        assert flag in done.stdout


def test_the_command_prints_a_table_and_writes_records(tiny_set5: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights"
    weights.mkdir()
    state = zoo.create("imdn", 2).state_dict()
    checkpoints.save_weights(state, weights / "imdn_x2.safetensors", metadata={})
    out = tmp_path / "quality.json"
    done = run(
        *("--models", "bicubic,imdn", "--dataset", "set5", "--scale", "2"),
        *("--weights-root", weights, "--out", out),
        GIDRN_DATA=str(tiny_set5),
    )
    assert done.returncode == 1, done.stderr  # these five pictures are not Set5
    assert "bicubic differs from Table 4" in done.stdout
    bicubic, imdn = records.read_records(out)
    assert (bicubic.what.model, bicubic.what.engine, bicubic.what.weights) == (
        *("bicubic", "numpy", "none"),
    )
    assert (imdn.what.engine, imdn.what.weights) == ("torch-cpu", "file imdn_x2.safetensors")
    assert imdn.values["weights_sha256"] == checkpoints.sha256(weights / "imdn_x2.safetensors")
    for entry in (bicubic, imdn):
        samples = entry.figure("psnr_y_border2_db").samples
        assert len(samples) == entry.how.samples == 5
        assert entry.values["psnr_db"] == pytest.approx(np.mean(samples))
        assert entry.values["worst_psnr_db"] == min(samples)
        assert entry.values["images"] == "0.png 1.png 2.png 3.png 4.png"
    assert bicubic.values["verdict"] == "differ"
    assert bicubic.published == {"Table 4 psnr_db": 33.66, "Table 4 ssim": 0.9299}
    row = next(line for line in done.stdout.splitlines() if line.startswith("| bicubic"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["bicubic", "x2", "Set5", f"{bicubic.values['psnr_db']:.3f}", "33.66"]


BAD_INPUT: list[tuple[list[str], str]] = [
    (["--models", "bicubik"], "no model is called 'bicubik': did you mean 'bicubic'?"),
    (["--models", ","], "--models wants names among bicubic, gidrn"),
    (["--models", "edsr"], "edsr x4 cannot be scored: no weights ship for edsr x4"),
    (["--models", "bicubic", "--scale", "5"], "--scale wants one or more of 2, 3 and 4"),
    (["--models", "bicubic", "--scale", "two"], "--scale wants one or more of 2, 3 and 4"),
    (["--models", "bicubic", "--dataset", "Set15"], "no benchmark set is called 'Set15'"),
    (["--models", "bicubic"], "where the images are is not said: give --data-root"),
    (["--models", "bicubic", "--data-root", "none-such"], "no data folder none-such"),
    (["--models", "bicubic", "--data-root", "."], "no images of Set5: looked for Set5/HR/*"),
    (["--models", "bicubic", "--weights-root", "none-such"], "there is no folder of weights"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("GIDRN_DATA", "GIDRN_WEIGHTS", "GIDRN_TRACEBACK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments, "--out", "q.json"])
    with pytest.raises(SystemExit) as left:
        command_line.run(quality.main)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_an_incomplete_set_and_an_unwritable_target(
    tiny_set5: Path, tmp_path: Path
) -> None:
    arguments = ("--models", "bicubic", "--dataset", "Set5", "--scale", "2")
    out = tmp_path / "q.json"
    done = run(*arguments, "--data-root", tiny_set5, "--out", tmp_path / "none" / "q.json")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no folder" in done.stderr
    broken = tiny_set5 / "Set5" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-20])
    done = run(*arguments, "--data-root", tiny_set5, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{broken} is cut short" in done.stderr
    broken.unlink()
    done = run(*arguments, "--data-root", tiny_set5, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds 4 images, and Set5 has 5" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_row_is_table_4s(data_root: Path, scale: int, tmp_path: Path) -> None:
    """Set5 and Set14 (B100 takes seconds more and goes the same way)."""
    out = tmp_path / "q.json"
    code = quality.main(
        models="bicubic", dataset="Set5,Set14", scale=str(scale), data_root=data_root, out=out
    )
    assert code == 0
    assert [entry.values["verdict"] for entry in records.read_records(out)] == ["agree", "agree"]
