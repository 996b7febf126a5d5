"""A pool of actors on a Ray cluster: one an accelerator, or a share of the CPUs each.

Model and pictures travel by content, so that the machines need no disk in common: the leader reads
a source, its bytes go to an actor, the larger file's bytes come back, and the leader writes them.
The machines need this package and Ray, of the versions that the leader has.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import gidrn_runtime
from gidrn_runtime import (
    EngineError,
    EngineUnavailable,
    engine_choice,
    models,
    optional,
    plans,
    processor,
)
from gidrn_runtime.archive.jobs import (
    MAX_STARTS,
    Answer,
    Facts,
    Job,
    PictureWorker,
    WorkerDied,
    WorkerPool,
    search_path,
)

REMEDY = 'pip install "gidrn[ray]"'
LOCAL = "local"
UNREACHABLE_S = 120.0
"""An actor that Ray starts again may be out of reach for so long: Ray tells a start that is under
way and one that failed by the same error."""

ASK_AGAIN_S = 0.2
OBJECT_STORE_BYTES = 256 * 2**20
"""Of a cluster that is started here: pictures on their way, one or two a worker."""


def import_ray() -> Any:
    """Ray. Raises EngineUnavailable where it is not installed, with the remedy."""
    return optional.load("ray", "--ray needs Ray", REMEDY, EngineUnavailable)


def files_of(model: Path) -> dict[str, bytes]:
    """Name -> content of all files that a model is: itself, and what lies beside it for frames that
    want tiles, or says what a plan is. Raises OSError."""
    beside = [model.with_name(model.stem + models.TILES_SUFFIX)]
    if plans.is_plan(model):
        beside = [plans.sidecar_path(model)]
    return {file.name: file.read_bytes() for file in (model, *beside) if file.exists()}


class RayPool(WorkerPool):
    """`workers` actors on the cluster at `address`; None takes as many as there are accelerators,
    or CPUs by `threads` where there are none.

    `address` is ``local`` for a cluster of this machine alone, which is started here and ends with
    this process; ``auto`` for the one that runs on this machine; or what `ray.init` takes, e.g.
    ``ray://head:10001`` or ``head:6379``. An actor that dies is started again by Ray, on another
    machine where its own is gone.
    """

    def __init__(
        self, model: Path, engine: str, threads: int | None, workers: int | None, address: str
    ) -> None:
        self._ray = import_ray()
        self._actors: list[Any] = []
        self._free: deque[Any] = deque()
        self._flying: dict[Any, tuple[Any, Job | None]] = {}
        self._failed_starts: dict[Any, int] = {}
        self._unreachable_since: dict[Any, float] = {}
        self._given_up: set[Any] = set()
        self._known: dict[Any, Facts] = {}
        try:
            self._join(address, workers, threads)
            workers, resources, threads = self._share(engine, workers, threads)
            self._files = self._ray.put(files_of(model))
            remote = self._ray.remote(_RayWorker)
            for _ in range(workers):
                actor = remote.options(max_restarts=-1, max_task_retries=0, **resources).remote(
                    model.name, engine, threads
                )
                self._actors.append(actor)
        except BaseException:
            self.close()
            raise

    def _join(self, address: str, workers: int | None, threads: int | None) -> None:
        options: dict[str, Any] = {"address": address}
        if address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            cpus = max(processor.usable_cores(), (workers or 1) * (threads or 1))
            options |= {
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "runtime_env": {"env_vars": {"PYTHONPATH": search_path()}},
            }
        try:
            self._ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises many kinds for a cluster that is not there
            reason = " ".join(str(error).split())[:300]
            raise EngineUnavailable(f"there is no Ray cluster at {address!r}: {reason}") from error

    def _share(
        self, engine: str, workers: int | None, threads: int | None
    ) -> tuple[int, dict[str, Any], int]:
        """How many actors, what each takes of the cluster, and its CPU threads."""
        have = self._ray.cluster_resources()
        cpus, gpus = int(have.get("CPU", 0)), int(have.get("GPU", 0))
        if gpus and engine != "ort-cpu":
            kind, most, resources = "GPUs", gpus, {"num_gpus": 1, "num_cpus": 1}
        else:
            if threads is None:
                threads = max(1, cpus // (workers or cpus or 1))
            kind, most, resources = "CPUs", cpus // threads, {"num_cpus": threads}
        if (workers or 1) > most:
            raise ValueError(
                f"the Ray cluster has {cpus} CPUs and {gpus} GPUs: its {kind} are enough for "
                f"{most} workers, not {workers or 1}; ask for fewer, or fewer --threads"
            )
        return workers or most, resources, threads or 1

    def start(self) -> Facts:
        for actor in self._actors:
            self._ask_for_facts(actor)
        while not self._known:
            self.wait(1.0)
        return next(iter(self._known.values()))

    @property
    def free(self) -> int:
        return len(self._free)

    def submit(self, job: Job) -> None:
        actor = self._free.popleft()
        self._flying[actor.answer.remote(job)] = (actor, job)

    def wait(self, timeout_s: float) -> list[Answer]:
        if not self._flying:
            return []
        ready, _ = self._ray.wait(list(self._flying), num_returns=1, timeout=timeout_s)
        answers = []
        for reference in ready:
            actor, job = self._flying.pop(reference)
            try:
                value = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                *_, reason = str(error).strip().splitlines()  # the cause stands last
                death = WorkerDied(f"an actor died or cannot be reached: {reason.strip()[:300]}")
                if job is not None:
                    answers.append(Answer(job.number, error=death))
                elif isinstance(error, self._ray.exceptions.ActorUnavailableError):
                    if not self._is_awaited(actor, death):
                        continue
                else:
                    self._count_start(actor, death)
                self._ask_for_facts(actor)  # it is free again once it answers
                continue
            if job is None:
                self._welcome(actor, value)
            else:
                answers.append(value)
                if isinstance(value.error, WorkerDied):
                    self._ask_for_facts(actor)
                else:
                    self._free.append(actor)
        return answers

    def _ask_for_facts(self, actor: Any) -> None:
        self._flying[actor.facts_of.remote(self._files)] = (actor, None)

    def _welcome(self, actor: Any, facts: Facts | Exception) -> None:
        """An actor is ready; or its model does not open there, which is raised."""
        if isinstance(facts, Exception):
            raise facts
        if facts.version != gidrn_runtime.__version__:
            raise EngineUnavailable(
                f"{facts.host} has gidrn_runtime {facts.version}, and {gidrn_runtime.__version__} "
                "is wanted, as here; install the same on every machine of the cluster"
            )
        self._failed_starts.pop(actor, None)
        self._unreachable_since.pop(actor, None)
        self._known[actor] = facts
        self._free.append(actor)

    def _count_start(self, actor: Any, death: WorkerDied) -> None:
        failed = self._failed_starts[actor] = self._failed_starts.get(actor, 0) + 1
        if failed == MAX_STARTS:
            raise EngineError(f"an actor died {failed} times while it opened the model: {death}")

    def _is_awaited(self, actor: Any, death: WorkerDied) -> bool:
        """Whether Ray may still bring it back; an actor that is given up is left to the others.

        Raises EngineError where there are no others.
        """
        waited_s = time.monotonic() - self._unreachable_since.setdefault(actor, time.monotonic())
        if waited_s <= UNREACHABLE_S:
            time.sleep(ASK_AGAIN_S)
            return True
        self._known.pop(actor, None)
        self._given_up.add(actor)
        if len(self._given_up) == len(self._actors):
            raise EngineError(
                f"every actor is out of reach, the last for {waited_s:.0f} s: {death}"
            )
        return False

    def pids(self) -> list[int]:
        """Process ids of the actors, on whichever machine."""
        return [facts.pid for facts in self._known.values()]

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
        if self._ray.is_initialized():
            self._ray.shutdown()


class _RayWorker(PictureWorker):
    """The worker inside an actor; the model comes as files and is kept while the actor lives."""

    def __init__(self, model: str, engine: str, threads: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gidrn-")
        self._has_model = False
        engine_choice.measure_nothing()
        super().__init__(Path(self._folder.name, model), engine, threads)

    def facts_of(self, files: dict[str, bytes]) -> Facts | Exception:
        """Take the model's files, name -> content, and open it."""
        for name, data in files.items():
            Path(self._folder.name, name).write_bytes(data)
        self._has_model = True
        return self.facts()

    def answer(self, job: Job) -> Answer:
        if not self._has_model:
            return Answer(job.number, error=WorkerDied("an actor died while it had nothing to do"))
        return super().answer(job)
