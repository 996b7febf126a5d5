"""The built wheel, in an environment that sees NumPy, ONNX Runtime and OpenCV and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = "gstreamer/python/gidrnupscale.py"


@pytest.fixture(scope="module")
def wheel(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The wheel of this tree."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")

    def build(folder: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            timeout=300,  # of which the C++ compiler takes seconds on a machine that is not busy
        )

    (path,) = made_once("wheel", build).glob("gidrn-*.whl")
    return path


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment: the wheel, and links to three packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    needed = {metadata.packages_distributions()[name][0] for name in ("numpy", "cv2")}
    for entry in sorted(set(entries_of(needed | {"onnxruntime"}))):
        (site_packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def entries_of(distributions: set[str]) -> Iterator[Path]:
    """Top-level files and folders of installed distributions and of all that they require."""
    done: set[str] = set()
    waiting = sorted(distributions)
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        distribution = metadata.distribution(name)
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                waiting.append(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
        for file in distribution.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                yield Path(str(distribution.locate_file(file.parts[0])))


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the bare interpreter outside the source tree, without the variables of this one."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_wheel_holds_the_runtime(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for file in (
        "__init__.py",
        "__main__.py",
        "py.typed",
        "engines/ort_cpu.py",
        "engines/native.py",
        PLUGIN,
    ):
        assert f"gidrn_runtime/{file}" in names
    shipped = {path.name for path in (REPOSITORY / "runtime/gidrn_runtime/models").glob("*.onnx")}
    packed = {Path(name).name for name in names if name.endswith(".onnx")}
    assert shipped <= packed
    assert not [name for name in names if name.startswith(("tests/", "export/", "benchmarks/"))]


def test_the_bare_environment_is_bare(bare_python: Path, tmp_path: Path) -> None:
    for package in ("torch", "onnx", "pytest", "safetensors"):
        done = run(bare_python, "-c", f"import {package}", cwd=tmp_path)
        assert f"No module named '{package}'" in done.stderr


def test_the_wheel_enlarges_a_frame(bare_python: Path, tiny: Path, tmp_path: Path) -> None:
    code = (
        "import numpy as np, gidrn_runtime, sys\n"
        f"with gidrn_runtime.Upscaler({str(tiny)!r}) as upscale:\n"
        "    high = upscale(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))\n"
        "print(high.shape, int(high.sum()), gidrn_runtime.__version__, gidrn_runtime.__file__)\n"
    )
    done = run(bare_python, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shape_sum, version, file = done.stdout.rsplit(maxsplit=2)
    assert shape_sum == f"(8, 10, 3) {4 * sum(range(60))}"
    assert re.fullmatch(r"\d+\.\d+.*", version)
    assert Path(file).is_relative_to(bare_python.parents[1])


def test_the_wheel_enlarges_a_file(bare_python: Path, tiny: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "low.png"), np.full((4, 5, 4), 77, np.uint16))
    command = ["upscale", "low.png", "-o", "high.png", "--model", str(tiny)]
    done = run(bare_python, "-m", "gidrn_runtime", *command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    high = cv2.imread(str(tmp_path / "high.png"), cv2.IMREAD_UNCHANGED)
    assert high is not None
    assert high.dtype == np.uint16
    assert high.shape == (8, 10, 4)


def test_the_doctor_in_the_wheel(bare_python: Path, tmp_path: Path) -> None:
    done = run(bare_python, "-m", "gidrn_runtime", "doctor", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert "ort-cpu" in [engine["name"] for engine in facts["engines"] if engine["available"]]
    assert facts["opencv"]["version"]
    if not facts["models"]:
        assert done.returncode == 1
        pytest.skip("no model is shipped in this tree, so the doctor had none to run")
    assert done.returncode == 0, facts


def test_the_shipped_model_in_the_wheel(
    bare_python: Path, shipped_model: Path, tmp_path: Path
) -> None:
    code = (
        "import numpy as np, gidrn_runtime\n"
        "with gidrn_runtime.Upscaler('gidrn_x4') as upscale:\n"
        "    print(upscale(np.zeros((6, 5, 3), np.uint8)).shape)\n"
    )
    done = run(bare_python, "-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("(24, 20, 3)\n", "")
