"""A pool of worker processes on this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from gidrn_runtime import EngineError
from gidrn_runtime.archive.jobs import (
    MAX_STARTS,
    Answer,
    Facts,
    Job,
    WorkerDied,
    WorkerPool,
    search_path,
)


class LocalPool(WorkerPool):
    """As many processes as `workers`, each with the model opened on `threads` CPU threads.

    A thread for each process hands it its jobs and starts it again when it dies. Processes end with
    this one, whatever ends it. They are in a session of their own, so that Ctrl-C reaches this
    process alone.
    """

    def __init__(self, model: Path, engine: str, threads: int, workers: int) -> None:
        self._command = [
            *(sys.executable, "-m", "gidrn_runtime.archive.worker_process"),
            *(str(model), engine, str(threads)),
        ]
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Facts | Answer | Exception] = queue.SimpleQueue()
        self._free = 0
        self._lock = threading.Lock()
        self._processes: set[_WorkerProcess] = set()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]

    def start(self) -> Facts:
        for thread in self._threads:
            thread.start()
        while True:
            event = self._events.get(timeout=None)
            if isinstance(event, Facts):
                self._free += 1
                return event
            self._take(event)

    @property
    def free(self) -> int:
        return self._free

    def submit(self, job: Job) -> None:
        self._free -= 1
        self._jobs.put(job)

    def wait(self, timeout_s: float) -> list[Answer]:
        answers = []
        try:
            answers += self._take(self._events.get(timeout=timeout_s))
            while True:
                answers += self._take(self._events.get_nowait())
        except queue.Empty:
            return answers

    def _take(self, event: Facts | Answer | Exception) -> list[Answer]:
        """Count who is free; an answer is passed on, an error of the pool is raised."""
        if isinstance(event, Exception):
            raise event
        if isinstance(event, Facts):
            self._free += 1
            return []
        if not isinstance(event.error, WorkerDied):  # else its next facts say when it is back
            self._free += 1
        return [event]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        with self._lock:
            return [process.pid for process in self._processes]

    def _serve(self) -> None:
        """One thread: one process after the other, one job after the other."""
        try:
            process, facts = self._started()
            self._events.put(facts)
            while (job := self._jobs.get()) is not None:
                if not process.is_alive:  # it died idle, which is no job's fault
                    self._bury(process)
                    process, _ = self._started()
                try:
                    process.send(job)
                    self._events.put(process.receive())
                except WorkerDied as death:
                    self._bury(process)
                    self._events.put(Answer(job.number, error=death))
                    process, facts = self._started()
                    self._events.put(facts)
            self._bury(process)
        except Exception as error:
            self._events.put(error)

    def _started(self) -> tuple[_WorkerProcess, Facts]:
        """A process whose model is open.

        Raises what opening it raised there; EngineError when the process dies time after time.
        """
        for attempt in range(1, MAX_STARTS + 1):
            with self._lock:
                if self._closed:
                    raise EngineError("the workers were stopped")
                process = _WorkerProcess(self._command)
                self._processes.add(process)
            try:
                facts = process.receive()
            except WorkerDied as death:
                self._bury(process)
                if attempt == MAX_STARTS:
                    raise EngineError(
                        f"a worker died {attempt} times while it opened the model: {death}"
                    ) from death
                continue
            if isinstance(facts, Exception):
                self._bury(process)
                raise facts
            return process, facts
        raise AssertionError("unreachable")

    def _bury(self, process: _WorkerProcess) -> None:
        process.kill()
        process.close_pipes()
        with self._lock:
            self._processes.discard(process)


class _WorkerProcess:
    """One running `worker_process`, and the two pipes to it."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": search_path()},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.pid = self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, job: Job) -> None:
        """Raises WorkerDied."""
        try:
            pickle.dump(job, self._to, protocol=pickle.HIGHEST_PROTOCOL)
            self._to.flush()
        except OSError as error:
            raise self._death() from error

    def receive(self) -> Any:
        """The next answer, or at first the facts. Raises WorkerDied."""
        try:
            return pickle.load(self._from)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._death() from error

    def kill(self) -> None:
        """End it at once. A second call does nothing."""
        self._process.kill()
        self._process.wait()

    def close_pipes(self) -> None:
        """To be called by the thread that uses them."""
        for pipe in (self._to, self._from):
            with suppress(OSError):  # what was not sent cannot be flushed any more
                pipe.close()

    def _death(self) -> WorkerDied:
        try:
            code = self._process.wait(timeout=10)  # its pipes may close a moment before it ends
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerDied(f"worker {self.pid} fell silent")
        if code >= 0:
            return WorkerDied(f"worker {self.pid} ended with exit code {code}")
        name = signal.Signals(-code).name
        hint = ", as by a system short of memory" if name == "SIGKILL" else ""
        return WorkerDied(f"worker {self.pid} was ended by {name}{hint}")
