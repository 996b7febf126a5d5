"""What every command of ``python -m gidrn_runtime`` says and how: lines, exit codes, Ctrl-C."""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gidrn_runtime import EngineError, EngineUnavailable, Upscaler

MISTAKES = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    EngineUnavailable,
    ImportError,
)
"""Errors that the user can mend in his request or his installation: exit code 2."""
FAILURES = (OSError, MemoryError, EngineError)
"""Errors of the machine: exit code 1. Any other exception is a defect and shows its traceback."""
INTERRUPTED = 130
BROKEN_PIPE = 128 + 13
"""What a shell says of a program that ends by SIGPIPE."""

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see {self.prog} --help")
        raise SystemExit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As in argparse, but what a command does not know is told by it, whose --help helps."""
        known, extras = super().parse_known_args(args, namespace)
        if extras:
            hint = ""
            if {word.partition("=")[0] for word in extras} & {"-s", "--scale"}:
                hint = "; the factor is the model's, as in --model gidrn_x2"
            self.error(f"unrecognized arguments: {' '.join(extras)}{hint}")
        return known, extras


def add_model_options(parser: argparse.ArgumentParser, model: str = "gidrn_x4") -> None:
    """The options --model, --engine and --threads, for `open_upscaler`."""
    parser.add_argument(
        "--model",
        default=model,
        help="a shipped model (see the command models), an .onnx file or a TensorRT .plan; "
        "default: %(default)s",
    )
    parser.add_argument("--engine", default="auto", help="default: the fastest available")
    parser.add_argument("--threads", type=int, help="CPU threads; default: the engine's choice")


def frame_size_hw(text: str) -> tuple[int, int]:
    """The type of an option that takes a frame's size as ffmpeg writes it: ``640x360`` -> (360,
    640)."""
    found = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT, as 640x360, not {text!r}")
    return int(found[2]), int(found[1])


def open_upscaler(
    arguments: argparse.Namespace,
    tiles: str | tuple[int, int] = "auto",
    memory_mib: int | None = None,
) -> Upscaler:
    """The Upscaler that --model, --engine and --threads ask for; its warnings are told in a line.

    Raises what `Upscaler` raises.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        upscaler = Upscaler(
            arguments.model,
            arguments.engine,
            threads=arguments.threads,
            tiles=tiles,
            memory_mib=memory_mib,
        )
    for warning in caught:
        complain(f"warning: {warning.message}")
    return upscaler


def interruptible(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, so that Ctrl-C is felt at once.

    A large image keeps an engine in native code for minutes, and Python delivers Ctrl-C to the main
    thread only between its own instructions. The thread dies with the process.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed over to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)  # with a time limit, since Windows does not interrupt an endless wait
    if errors:
        raise errors[0]
    return results[0]


def nobody_reads() -> int:
    """After a BrokenPipeError of stdout: its exit code. Nothing is said, as of any program in a
    pipe; nor when Python flushes stdout at its end."""
    _drop_stdout()
    return BROKEN_PIPE


def _drop_stdout() -> None:
    """What stdout still gets goes nowhere: else Python would complain when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def tell(error: BaseException, photo: Path | None = None) -> int:
    """Print an expected error as one line, with the photo's name in it; return its exit code."""
    message = str(error) or type(error).__name__
    complain(message if photo is None or str(photo) in message else f"{photo}: {message}")
    return 2 if isinstance(error, MISTAKES) else 1


def complain(message: str) -> None:
    """One line on stderr, where there is one."""
    if sys.stderr is None:
        return
    sys.stderr.write(f"gidrn_runtime: {' '.join(message.split())}\n")


def say(text: str) -> None:
    """Text on stdout, at once. Where nobody reads it any more (``| head``), the work goes on.

    Raises:
        OSError: stdout does not take it, as on a full disk.
    """
    if sys.stdout is None:  # closed when the program was started (``>&-``)
        return
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        raise OSError(f"cannot write to standard output: {error.strerror}") from error
