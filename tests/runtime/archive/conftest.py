"""Folders of small pictures, and a pool of real workers in this process that die as told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gidrn_runtime.archive.jobs import Answer, Facts, Job, PictureWorker, WorkerDied, WorkerPool
from gidrn_runtime.archive.manifest import Manifest, Settings
from gidrn_runtime.archive.run import Outcome, enlarge, find_pictures, left_to_do, plan


class DirectPool(WorkerPool):
    """`workers` workers without processes; `order` and `dies` say who answers and who dies."""

    def __init__(
        self,
        model: Path,
        workers: int = 2,
        order: Iterable[int] = (),
        dies: Callable[[Job], bool] = lambda _: False,
    ) -> None:
        self._worker = PictureWorker(model, "ort-cpu", 1)
        self._size, self._order, self._dies = workers, deque(order), dies
        self._flying: list[Job] = []
        self.most_flying = 0
        self.names: list[list[str]] = []
        """Sources at work together, at each hand-over."""

    def start(self) -> Facts:
        facts = self._worker.facts()
        if isinstance(facts, Exception):
            raise facts
        return facts

    @property
    def free(self) -> int:
        return self._size - len(self._flying)

    def submit(self, job: Job) -> None:
        assert self.free
        self._flying.append(job)
        self.names.append([Path(one.source).name for one in self._flying])

    def wait(self, timeout_s: float) -> list[Answer]:
        if not self._flying:
            return []
        index = self._order.popleft() if self._order else 0
        job = self._flying.pop(index % len(self._flying))
        if self._dies(job):
            return [Answer(job.number, error=WorkerDied("it was told to"))]
        return [self._worker.answer(job)]

    def close(self) -> None:
        self._flying.clear()


def settings_of(source: Path) -> Settings:
    return Settings(str(source), "tiny.onnx", "0" * 64, "png")


def run_folder(source: Path, out: Path, pool: WorkerPool) -> list[Outcome]:
    """One run from beginning to end, as the command does it; ends early if something is raised."""
    out.mkdir(exist_ok=True)
    with Manifest(out, settings_of(source), overwrite=False) as manifest, pool:
        facts = pool.start()
        items = plan(source, out, find_pictures(source, out), facts.scale, "png")
        left = left_to_do(items, manifest, overwrite=False)
        return list(enlarge(left, pool, manifest))


@pytest.fixture(name="run_folder")
def run_folder_fixture() -> Callable[..., list[Outcome]]:
    return run_folder


@pytest.fixture
def direct_pool() -> type[DirectPool]:
    return DirectPool


@pytest.fixture
def settings() -> Callable[[Path], Settings]:
    return settings_of


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with six pictures of noise in three folders."""
    source = tmp_path / "in"
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.jpg", "sub/a.png", "sub/deep [1]/e.png", "sub/f.PNG"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 256, (12, 16, 3), np.uint8))
    return source


def output_files(out: Path) -> dict[str, bytes]:
    """Name -> content of all files under `out` but the manifest."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "gidrn_manifest.jsonl"
    }


@pytest.fixture(name="output_files")
def output_files_fixture() -> Callable[[Path], dict[str, bytes]]:
    return output_files
