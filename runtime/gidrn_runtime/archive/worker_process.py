"""The process of one local worker: jobs come on stdin, answers leave on stdout, both pickled.

It ends when its stdin does, even in the middle of a job: the leader's death, of whatever cause,
closes that pipe. Not run by hand: `gidrn_runtime.archive.local_workers` starts it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from gidrn_runtime import engine_choice
from gidrn_runtime.archive.jobs import Job, PictureWorker


def main() -> None:
    """Answer jobs until stdin ends; the arguments are the model, the engine and the threads."""
    model, engine, threads = sys.argv[1:]
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, jobs), daemon=True).start()

    engine_choice.measure_nothing()
    worker = PictureWorker(Path(model), engine, int(threads))
    _send(answers, worker.facts())
    while True:
        _send(answers, worker.answer(jobs.get()))


def _receive(source: BinaryIO, jobs: queue.SimpleQueue[Job]) -> None:
    try:
        while True:
            jobs.put(pickle.load(source))
    except (EOFError, pickle.UnpicklingError):
        os._exit(0)  # an orderly exit would wait for the engine


def _send(answers: BinaryIO, value: object) -> None:
    try:
        pickle.dump(value, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
