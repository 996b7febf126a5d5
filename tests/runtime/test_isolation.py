"""Nothing heavy is imported before it is needed, and torch never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HEAVY = ["torch", "cv2", "onnxruntime", "onnx", "gidrn", "av", "tensorrt", "openvino", "ray"]


@pytest.mark.parametrize(
    "code",
    [
        "import gidrn_runtime; gidrn_runtime.Upscaler; print(gidrn_runtime.__version__)",
        "import gidrn_runtime.frames, gidrn_runtime.models, gidrn_runtime.engines; print(1)",
        "import gidrn_runtime.__main__, gidrn_runtime.doctor, gidrn_runtime.image_files; print(1)",
        "import gidrn_runtime.engines.ort_cpu; print(1)",
        "import gidrn_runtime.archive.ray_workers, gidrn_runtime.archive.run; print(1)",
        "from gidrn_runtime import Stream; Stream([], abs).run(print); print(1)",
        "import gidrn_runtime.video, gidrn_runtime.colour_conformance; print(1)",
        "from gidrn_runtime.__main__ import main; main(['--version'])",
    ],
)
def test_importing_needs_numpy_alone(run_python: Any, code: str) -> None:
    done = run_python(code, blocked=HEAVY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_importing_loads_no_third_party_package_but_numpy(run_python: Any) -> None:
    done = run_python(
        "import numpy\n"
        "before = set(sys.modules)\n"
        "import gidrn_runtime.__main__\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'numpy'}))"
    )
    assert done.stdout.strip() == "['gidrn_runtime']", done.stderr


def test_the_blocker_blocks(run_python: Any) -> None:
    for package in HEAVY:
        done = run_python(f"import {package}", blocked=HEAVY)
        assert "blocked by this test" in done.stderr


def test_runs_without_torch_onnx_and_opencv(run_python: Any, tiny: Path) -> None:
    done = run_python(
        "import numpy as np\n"
        "from gidrn_runtime import Upscaler\n"
        "from gidrn_runtime.frames import upscale_image\n"
        f"with Upscaler({str(tiny)!r}) as upscale:\n"
        "    print(upscale(np.zeros((4, 5, 3), np.uint8)).shape)\n"
        "    print(upscale_image(upscale, np.zeros((4, 5), np.uint16)).shape)\n",
        blocked=["torch", "onnx", "gidrn", "cv2"],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["(8, 10, 3)", "(8, 10)"]


def test_without_an_engine_the_remedy_is_told(run_python: Any, tiny: Path) -> None:
    done = run_python(f"import gidrn_runtime; gidrn_runtime.Upscaler({str(tiny)!r})", blocked=HEAVY)
    assert done.returncode == 1
    assert 'pip install "gidrn[cpu]"' in done.stderr.splitlines()[-1]
