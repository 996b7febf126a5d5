"""Both protocols of scoring, the table beside the paper's, and the command on tiny sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
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
from gidrn.networks.luma import LumaNetwork
from gidrn.resize import downscale, imresize
from tests.scripts_here import run_here

SCRIPT = Path(quality.__file__)
UNKNOWN = "differs for no known reason"


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


OURS = "another training run"
PUBLIC = "another training run, the paper's weights are not public"
Y_ONLY = "Y-only network, another pipeline"
CARNS = "the paper prints CARN's PSNR on B100 here"
URBANS = "the paper prints G-IDRN's PSNR on Urban100 here"

VERDICTS: list[tuple[str, int, str, bool, float, float, str]] = [
    # Name, scale, set, whether ours, PSNR and SSIM beside 28.42 and 0.8104, verdict.
    ("bicubic", 4, "Set5", False, 28.4206, 0.81037, "agrees"),
    ("bicubic", 4, "Set5", False, 28.4095, 0.8104, f"-0.011 dB, SSIM +0.0000: {UNKNOWN}"),
    ("bicubic", 4, "Set5", False, 28.42, 0.8110, f"+0.000 dB, SSIM +0.0006: {UNKNOWN}"),
    ("bicubic", 4, "Set14", False, 28.42, 0.8110, "agrees"),
    ("bicubic", 4, "Set14", False, 28.42, 0.8115, f"+0.000 dB, SSIM +0.0011: {UNKNOWN}"),
    ("imdn", 4, "Set5", False, 28.439, 0.8, "agrees"),
    ("imdn", 4, "Set5", False, 28.401, 0.8, "agrees"),
    ("imdn", 4, "Set5", False, 28.441, 0.8104, f"+0.021 dB: {UNKNOWN}"),
    ("imdn", 4, "Set5", False, 28.399, 0.8104, f"-0.021 dB: {UNKNOWN}"),
    ("imdn", 4, "Set5", True, 28.0, 0.8, f"-0.420 dB: {OURS}"),
    ("gidrn", 4, "Set5", True, 28.0, 0.8, f"-0.420 dB: {OURS}"),
    ("gidrn", 2, "B100", True, 28.0, 0.8, f"-0.420 dB: {OURS}; {URBANS}"),
    ("rfdn_l", 4, "Set5", False, 28.5, 0.8, f"+0.080 dB: {PUBLIC}"),
    ("drrn", 4, "Set5", False, 28.36, 0.8, f"-0.060 dB: {Y_ONLY}"),
    ("drrn", 4, "Set5", False, 27.82, 0.8, f"-0.600 dB: {UNKNOWN}"),
    ("smsr", 4, "B100", False, 28.39, 0.8, f"-0.030 dB: {CARNS}"),
    ("smsr", 4, "Urban100", False, 28.39, 0.8, f"-0.030 dB: {UNKNOWN}"),
]


@pytest.mark.parametrize(
    ("name", "scale", "dataset", "is_ours", "psnr_db", "ssim", "said"), VERDICTS
)
def test_verdict(
    name: str,
    scale: int,
    dataset: str,
    is_ours: bool,
    psnr_db: float,
    ssim: float,
    said: str,
) -> None:
    method = quality.Method(name, None, is_ours=is_ours)
    paper = {"Table 4 psnr_db": 28.42, "Table 4 ssim": 0.8104}
    assert quality.verdict(method, scale, dataset, psnr_db, ssim, paper) == said


def test_reasons_are_of_networks_in_the_zoo_and_slips_are_in_the_paper() -> None:
    y_only = {
        name
        for name, network in zoo.NETWORKS.items()
        if isinstance(network.build, type) and issubclass(network.build, LumaNetwork)
    }
    assert {name for name, (why, _) in quality.REASONS.items() if why == Y_ONLY} == y_only
    assert quality.REASONS.keys() <= zoo.NETWORKS.keys()
    for (name, scale, dataset), (other, of_set) in quality.SLIPS.items():
        printed = quality.published_scores(name, scale, dataset)["Table 4 psnr_db"]
        assert quality.published_scores(other, scale, of_set)["Table 4 psnr_db"] == printed


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
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


def test_help_names_the_flags(help_of: Callable[..., str]) -> None:
    helped = help_of(str(SCRIPT))
    for flag in ("--models", "--dataset", "--scale", "--data-root", "--weights-root", "--out"):
        assert flag in helped


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
    assert "for no known reason: bicubic x2 on Set5; imdn x2 on Set5" in done.stdout
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
        assert str(entry.values["verdict"]).endswith(f": {UNKNOWN}")
    assert not out.with_name("quality.json.journal").exists()
    assert bicubic.published == {"Table 4 psnr_db": 33.66, "Table 4 ssim": 0.9299}
    row = next(line for line in done.stdout.splitlines() if line.startswith("| bicubic"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["bicubic", "x2", "Set5", f"{bicubic.values['psnr_db']:.3f}", "33.66"]
    assert cells[10] == bicubic.values["verdict"]
    assert cells[11] == f"{min(bicubic.figures[0].samples):.2f} ({bicubic.values['worst_image']})"


BAD_INPUT: list[tuple[list[str], str]] = [
    (["--models", "bicubik"], "no network is called 'bicubik': did you mean 'bicubic'?"),
    (["--models", ","], "--models wants all, or names among bicubic, gidrn"),
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
    nowhere = tmp_path / "none" / "q.json"
    done = run_here(SCRIPT, *arguments, "--data-root", tiny_set5, "--out", nowhere)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no folder" in done.stderr
    broken = tiny_set5 / "Set5" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-20])
    done = run(*arguments, "--data-root", tiny_set5, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{broken} is cut short" in done.stderr
    broken.unlink()
    done = run_here(SCRIPT, *arguments, "--data-root", tiny_set5, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds 4 images, and Set5 has 5" in done.stderr
    assert not out.exists()


class Killed(BaseException):
    """Ends a run as Ctrl-C does: nothing catches it."""


class Run:
    """Runs of the command on a tiny set in this process, with a count of the images scored."""

    def __init__(self, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.out = data, out
        self.journal = out.with_name(f"{out.name}.journal")
        self.scored: list[str] = []
        self.stop_after: int | None = None
        score = quality.score_image

        def counted(method: quality.Method, path: Path, scale: int) -> quality.Score:
            if len(self.scored) == self.stop_after:
                raise Killed
            self.scored.append(f"{method.name} {path.name}")
            return score(method, path, scale)

        monkeypatch.setattr(quality, "score_image", counted)
        monkeypatch.delenv("GIDRN_WEIGHTS", raising=False)

    def __call__(
        self, models: str, *, stop_after: int | None = None, weights_root: Path | None = None
    ) -> int | None:
        """The exit code, or None for a run that was killed."""
        self.scored, self.stop_after = [], stop_after
        try:
            return quality.main(
                models=models,
                dataset="Set5",
                scale="2",
                data_root=self.data,
                weights_root=weights_root,
                out=self.out,
            )
        except Killed:
            return None


@pytest.fixture
def tiny_run(tiny_set5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tiny_set5, tmp_path / "q.json", monkeypatch)


def write_weights(folder: Path, name: str, seed: int, **metadata: str) -> Path:
    """Fresh weights of a network at x2, as a file in `folder`."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    path = folder / f"{name}_x2.safetensors"
    checkpoints.save_weights(zoo.create(name, 2).state_dict(), path, metadata=metadata)
    return path


def measured(out: Path) -> list[tuple[records.What, Any, Any]]:
    """What of a file of results does not depend on the time."""
    return [(one.what, one.figures, one.values) for one in records.read_records(out)]


def test_a_stopped_run_goes_on_with_the_images_that_are_left(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    write_weights(weights, "fsrcnn", seed=0)
    tiny_run("bicubic,fsrcnn", weights_root=weights)
    whole = measured(tiny_run.out)
    assert len(tiny_run.scored) == 10
    assert not tiny_run.journal.exists()
    tiny_run.out.unlink()

    assert tiny_run("bicubic,fsrcnn", weights_root=weights, stop_after=7) is None
    assert not tiny_run.out.exists()
    assert len(tiny_run.journal.read_text().splitlines()) == 7
    assert tiny_run("bicubic,fsrcnn", weights_root=weights, stop_after=1) is None
    assert tiny_run.scored == ["fsrcnn 2.png"]
    capsys.readouterr()
    tiny_run("bicubic,fsrcnn", weights_root=weights)
    assert tiny_run.scored == ["fsrcnn 3.png", "fsrcnn 4.png"]
    assert "going on with" in capsys.readouterr().err
    assert measured(tiny_run.out) == whole
    assert not tiny_run.journal.exists()


def test_a_line_that_the_kill_tore_is_measured_again(tiny_run: Run) -> None:
    tiny_run("bicubic")
    whole = measured(tiny_run.out)
    assert tiny_run("bicubic", stop_after=3) is None
    tiny_run.journal.write_bytes(tiny_run.journal.read_bytes()[:-9])
    assert tiny_run("bicubic", stop_after=1) is None
    assert tiny_run.scored == ["bicubic 2.png"]  # the torn one; its line does not spoil the next
    tiny_run("bicubic")
    assert tiny_run.scored == ["bicubic 3.png", "bicubic 4.png"]
    assert measured(tiny_run.out) == whole


def test_a_killed_process_has_its_finished_images_in_the_journal(tiny_run: Run) -> None:
    script = f"""
import os
from pathlib import Path
from benchmarks import quality
score = quality.score_image
def dying(method, path, scale):
    if path.name == "2.png":
        os._exit(9)  # like a kill, it runs no handler and writes no buffer
    return score(method, path, scale)
quality.score_image = dying
data, out = Path({str(tiny_run.data)!r}), Path({str(tiny_run.out)!r})
quality.main(models="bicubic", dataset="Set5", scale="2", data_root=data, out=out)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 9
    assert not tiny_run.out.exists()
    tiny_run("bicubic")
    assert tiny_run.scored == ["bicubic 2.png", "bicubic 3.png", "bicubic 4.png"]


def test_other_weights_images_and_code_are_measured_anew(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    write_weights(weights, "fsrcnn", seed=0)
    assert tiny_run("bicubic,fsrcnn", weights_root=weights, stop_after=9) is None
    write_weights(weights, "fsrcnn", seed=1)
    assert tiny_run("bicubic,fsrcnn", weights_root=weights, stop_after=2) is None
    assert tiny_run.scored == ["fsrcnn 0.png", "fsrcnn 1.png"]
    write_image(tiny_run.data / "Set5" / "3.png", picture(49, 58, seed=9))
    assert tiny_run("bicubic,fsrcnn", weights_root=weights, stop_after=2) is None
    assert tiny_run.scored == ["bicubic 3.png", "fsrcnn 2.png"]
    monkeypatch.setattr(quality, "code_sha256", lambda: "of other code")
    tiny_run("bicubic,fsrcnn", weights_root=weights)
    assert len(tiny_run.scored) == 10


def test_all_measures_what_has_weights_and_names_the_rest(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    write_weights(weights, "fsrcnn", seed=0)
    write_weights(weights, "imdn", seed=0, recipe="{}").rename(weights / "imdn-x2.safetensors")
    write_weights(weights, "srcnn", seed=0).rename(weights / "vdsr_x2.safetensors")
    tiny_run("all", weights_root=weights)
    found = records.read_records(tiny_run.out)
    assert [one.what.model for one in found] == ["bicubic", "gidrn", "fsrcnn"]
    assert "verdict" not in found[2].values  # the paper has no row of FSRCNN
    assert str(found[1].values["verdict"]).endswith(": another training run")
    captured = capsys.readouterr()
    listed = captured.out.partition("not measured:\n")[2].splitlines()
    left_out = {line.removeprefix("- ").partition(" x2: ")[0]: line for line in listed}
    unmeasured = [name for name in zoo.NETWORKS if name not in ("bicubic", "gidrn", "fsrcnn")]
    assert list(left_out)[: len(unmeasured)] == unmeasured
    assert f"no weights ship, and {weights} has no edsr_x2 (" in left_out["edsr"]
    assert "vdsr_x2.safetensors does not fit this network" in left_out["vdsr"]
    assert "vdsr_x2.safetensors does not fit this network" in captured.err
    assert "- file imdn-x2.safetensors: it is called otherwise than" in captured.out


def test_exit_code(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 where a row differs for no known reason, or all finds weights that cannot be used."""
    weights = tmp_path / "weights"
    write_weights(weights, "imdn", seed=0)
    assert tiny_run("imdn", weights_root=weights) == 1  # as if its authors' weights were broken
    write_weights(weights, "imdn", seed=0, recipe="{}")
    assert tiny_run("imdn", weights_root=weights) == 0
    assert tiny_run("gidrn") == 0
    monkeypatch.setattr(quality, "MODELS", ("gidrn", "imdn", "edsr"))
    assert tiny_run("all", weights_root=weights) == 0
    (weights / "edsr_x2.pth").write_bytes(b"no checkpoint")
    assert tiny_run("all", weights_root=weights) == 1


def test_weights_of_a_training_run_are_known(tmp_path: Path) -> None:
    assert quality.trained_here(zoo.shipped_weights("gidrn", 2))
    assert not quality.trained_here(write_weights(tmp_path, "fsrcnn", seed=0))
    state = zoo.create("fsrcnn", 2).state_dict()
    for name, content in {
        "theirs.pth": state,
        "ours.pt": {"format": checkpoints.TRAINING_FORMAT, "average": state},
    }.items():
        torch.save(content, tmp_path / name)
        assert quality.trained_here(tmp_path / name) == (name == "ours.pt")
    assert not quality.trained_here(tmp_path / "theirs.mat")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_row_is_table_4s(data_root: Path, scale: int, tmp_path: Path) -> None:
    """Set5 and Set14 (B100 takes seconds more and goes the same way)."""
    out = tmp_path / "q.json"
    code = quality.main(
        models="bicubic", dataset="Set5,Set14", scale=str(scale), data_root=data_root, out=out
    )
    assert code == 0
    assert [entry.values["verdict"] for entry in records.read_records(out)] == ["agrees"] * 2
