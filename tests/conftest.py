"""What every test may use: the data roots, and skips that say why."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)  # small tensors: more threads are slower, far slower on a busy machine
os.environ["GIDRN_AUTO"] = "first"  # no test depends on which engine is faster at this moment


def pytest_configure() -> None:
    """Give each of several test processes a core of its own, where the system lets it.

    ONNX Runtime's threads wait by spinning: on each other's cores they would starve.

    A shell has its background jobs ignore Ctrl-C. The programs that tests start and interrupt must
    not inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.removeprefix("gw").isdecimal() and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], None]], Path]:
    """Called with a name and a function that fills a folder with what is costly to make: a copy of
    that folder, which is filled once for all test processes of a run."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # each worker has a folder of its own in that of the run

    def copied(name: str, fill: Callable[[Path], None]) -> Path:
        made = run / "made_once" / name
        made.parent.mkdir(exist_ok=True)
        with FileLock(made.with_name(f"{name}.lock")):
            if not made.exists():
                fill(unfinished := tmp_path_factory.mktemp(f"{name}_unfinished"))
                unfinished.rename(made)
        return Path(shutil.copytree(made, tmp_path_factory.mktemp(name), dirs_exist_ok=True))

    return copied


@pytest.fixture(scope="session")
def help_of(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Callable[..., str]:
    """Called with a script, or -m and a module: what a process of its own says with --help in an
    empty folder. All test processes of a run start it once, since it has PyTorch to import."""

    def said(*script: str) -> str:
        def fill(folder: Path) -> None:
            done = subprocess.run(
                [sys.executable, *script, "--help"],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
                },
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert not list(folder.iterdir())
            (folder / "help.txt").write_text(done.stdout)

        name = "help_" + re.sub(r"\W", "_", " ".join(script))
        return (made_once(name, fill) / "help.txt").read_text()

    return said


def _missing(reason: str) -> NoReturn:
    """Skip for want of data; fail where GIDRN_REQUIRE_DATA says that it must be there."""
    if os.environ.get("GIDRN_REQUIRE_DATA"):
        pytest.fail(f"{reason}, and GIDRN_REQUIRE_DATA is set")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Called with a program's name: its path. Skips the test without it, or fails it where
    GIDRN_REQUIRE_PROGRAMS says that it must be there."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed; as root, .ci/install-programs installs it"
            if os.environ.get("GIDRN_REQUIRE_PROGRAMS"):
                pytest.fail(f"{reason}, and GIDRN_REQUIRE_PROGRAMS is set")
            pytest.skip(reason)
        return path

    return find


def _root(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if value and Path(value).is_dir():
        return Path(value)
    _missing(f"{variable} names no folder with {holds}")


@pytest.fixture(scope="session")
def missing_data() -> Callable[[str], NoReturn]:
    """Called with a reason: skips the test, or fails it where the data must be there."""
    return _missing


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of benchmark and training images (GIDRN_DATA); skips without it."""
    return _root("GIDRN_DATA", "Set5, Set14 and B100")


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """Folder of official checkpoints (GIDRN_WEIGHTS); skips without it."""
    return _root("GIDRN_WEIGHTS", "official checkpoints")
