"""``folder``: every picture under a folder, enlarged into another, by one or many workers."""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gidrn_runtime import EngineUnavailable, ModelError, Upscaler, image_files, models, processor
from gidrn_runtime.archive.jobs import Facts, WorkerPool
from gidrn_runtime.archive.local_workers import LocalPool
from gidrn_runtime.archive.manifest import DONE, FAILED, Manifest, Settings
from gidrn_runtime.archive.ray_workers import RayPool
from gidrn_runtime.archive.run import (
    PICTURE_FORMATS,
    Item,
    check_folders,
    enlarge,
    find_pictures,
    left_to_do,
    plan,
)
from gidrn_runtime.console import add_model_options, complain, say, tell
from gidrn_runtime.engine_choice import Chooser
from gidrn_runtime.progress import Progress, duration_text

COMMON_HW = (256, 256)
"""Of the pictures for which the workers' engine is chosen; sizes are not known yet."""

HELP = "enlarge every picture under a folder"
DESCRIPTION = (
    "Enlarge every picture under IN into the same tree under OUT. Stopped or killed at any moment, "
    "the same command goes on with what is not done: OUT/gidrn_manifest.jsonl says what is. "
    "Pictures that have changed since are done again, those that failed are tried again."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--workers",
        type=int,
        help="processes, each with the model and a picture in memory; default: 1. With --ray: "
        "actors; default: one a GPU, or where there is none one a CPU",
    )
    add_model_options(parser)
    parser.add_argument(
        "--pattern",
        action="append",
        default=[],
        metavar="GLOB",
        help="take files that match, e.g. '*.jpg'; may be given several times. Default: files with "
        "a picture's extension",
    )
    parser.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the folders inside IN too, which is the default",
    )
    parser.add_argument(
        "--format",
        choices=PICTURE_FORMATS,
        default="png",
        help="png: every picture as PNG, without loss. keep: each in its own format. "
        "default: %(default)s",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that are there and not this command's work; with another model, source "
        "or format than OUT was made with, do all anew",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="let a Ray cluster do the work: 'local' starts one on this machine, 'auto' takes the "
        "one that runs here, an address joins one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Enlarge each picture; one that fails does not stop the others."""
    image_files.import_cv2()
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers is a whole number >= 1, not {arguments.workers}")
    source, out = arguments.source, arguments.out
    check_folders(source, out)
    names = find_pictures(source, out, arguments.pattern, arguments.recursive)
    model = models.find(arguments.model)
    settings = Settings(
        source=str(source.resolve()),
        model=model.name,
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        picture_format=arguments.format,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {out}: {error.strerror}") from error
    with Manifest(out, settings, arguments.overwrite) as manifest:
        with open_pool(arguments, model) as pool:
            facts = pool.start()
            for warning in facts.warnings:
                complain(f"warning: {warning}")
            items = plan(source, out, names, facts.scale, arguments.format)
            left = left_to_do(items, manifest, arguments.overwrite)
            return work(left, len(items), pool, manifest, facts)


def open_pool(arguments: argparse.Namespace, model: Path) -> WorkerPool:
    """The workers that --workers, --engine, --threads and --ray ask for.

    Raises:
        EngineUnavailable: Ray, or the cluster, is not there.
        ValueError: the cluster is too small.
    """
    if arguments.ray is not None:
        return RayPool(model, arguments.engine, arguments.threads, arguments.workers, arguments.ray)
    workers = arguments.workers or 1
    threads = arguments.threads
    if threads is None:
        threads = max(1, processor.usable_cores() // workers)
    return LocalPool(model, settled(model, arguments.engine, threads), threads, workers)


def settled(model: Path, engine: str, threads: int) -> str:
    """One engine for all workers, which would measure beside each other: ``auto``'s, found here."""
    if engine != "auto":
        return engine
    with suppress(EngineUnavailable, ModelError):  # the workers tell of it
        if not Chooser(model, threads).is_open:
            return engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workers tell of random weights
        upscale = Upscaler(model, threads=threads)
    with upscale:
        upscale.prepare(*COMMON_HW)
        return upscale.engine


def work(
    left: Sequence[Item], total: int, pool: WorkerPool, manifest: Manifest, facts: Facts
) -> int:
    """Do what is left, tell how it goes, and return the exit code."""
    done = failed = worst = 0
    began = time.monotonic()
    progress = Progress(len(left), "pictures")
    progress.show(done, failed)
    try:
        for outcome in enlarge(left, pool, manifest):
            if outcome.error is not None:
                progress.clear()
            if outcome.state == DONE:
                done += 1
            elif outcome.state == FAILED and outcome.error is not None:
                failed += 1
                worst = max(worst, tell(outcome.error, outcome.item.source))
            else:
                complain(f"{outcome.item.source} comes again: {outcome.error}")
            progress.show(done, failed)
    finally:
        progress.clear()
        elapsed_s = max(time.monotonic() - began, 1e-9)
        say(
            f"{total} pictures: {done} done, {failed} failed, {len(left) - done - failed} left, "
            f"{total - len(left)} were done before; {duration_text(elapsed_s)}, "
            f"{done / elapsed_s:.3g} pictures/s ({facts.engine})"
        )
    return worst
