"""Train a network: python -m gidrn.train --recipe quick_x4 --data PHOTOS --out runs/x4.

Plain loop, one process a device; `torchrun --nproc-per-node 2 -m gidrn.train ...` for several. A
run's folder holds `recipe.json`, `log.jsonl`, `last.pt` (all that a resumed run needs to take the
identical next step, on the same machine with as many CPU threads) and `best.safetensors` (the
averaged weights that scored best on the photos held out).
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gidrn import checkpoints, command_line, recipes, zoo
from gidrn.data import CropStore, Photo, digest, find_photos, hold_out, load_photos
from gidrn.evaluation import mean_psnr
from gidrn.files import replacing
from gidrn.losses import HighFrequencyLoss
from gidrn.recipes import Recipe, learning_rate_at

REPEATED_SIGNAL_SECONDS = 2.0
"""A second stop signal sooner than this after the first is the same wish, forwarded twice."""


class DivergedError(ValueError):
    """Loss or weights are no longer finite; the last checkpoint is from before that."""


@dataclass
class Run:
    """What changes while training: everything that a checkpoint must hold."""

    recipe: Recipe
    network: nn.Module
    average: nn.Module
    """The network with exponentially averaged weights."""
    optimizer: torch.optim.Adam
    generator: torch.Generator
    """Draws the crops."""
    channels_last: bool = False
    """Whether weights and feature maps are in channels-last order."""
    held_out: tuple[str, ...] = ()
    """Digests of the photos held out, sorted; a resumed run keeps the same ones apart."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Time spent in steps, validation and saving, over all resumptions."""
    best_psnr: float = -math.inf
    """Best score on the photos held out, dB."""


def begin(recipe: Recipe, device: str, *, channels_last: bool = False) -> Run:
    """A run at step 0 with fresh weights."""
    torch.manual_seed(recipe.seed)
    network = zoo.create(recipe.network, recipe.scale).to(device)
    if channels_last:  # before Adam's moments, which take over their weights' order
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [p for p in network.parameters() if p.requires_grad]
    return Run(
        recipe,
        network,
        copy.deepcopy(network).eval().requires_grad_(False),
        torch.optim.Adam(
            trained, recipe.learning_rate, recipe.adam_betas, recipe.adam_epsilon, fused=True
        ),
        torch.Generator(device).manual_seed(recipe.seed),
        channels_last,
    )


def save(run: Run, path: Path) -> None:
    """Write a checkpoint, whole or not at all. Raises DivergedError for a weight not finite."""
    if not all(bool(torch.isfinite(p).all()) for p in run.network.parameters()):
        raise DivergedError(
            f"weights are no longer finite at step {run.step}; {path} is from before"
        )
    data = io.BytesIO()  # written below, so that a full disk is an OSError as everywhere
    torch.save(
        {
            "format": checkpoints.TRAINING_FORMAT,
            "recipe": dataclasses.asdict(run.recipe),
            "device": run.generator.device.type,
            "channels_last": run.channels_last,
            "held_out": list(run.held_out),
            "network": run.network.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
            "step": run.step,
            "seconds": run.seconds,
            "best_psnr": run.best_psnr,
        },
        data,
    )
    with replacing(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def resume(path: Path, device: str) -> Run:
    """The run that `save` wrote. Raises FileNotFoundError, or ValueError for any other file."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}: --resume takes a run folder with last.pt")
    saved: Any = checkpoints.load_pickle(path, device)
    if not isinstance(saved, dict) or saved.get("format") != checkpoints.TRAINING_FORMAT:
        raise ValueError(f"{path} is no checkpoint of gidrn.train")
    try:
        if saved["device"] != torch.device(device).type:
            raise ValueError(
                f"{path} is of a run on {saved['device']}, and its next step cannot be taken on "
                f"{device}: start a new run with --init-from, which takes its weights"
            )
        run = begin(
            recipes.from_dict(saved["recipe"]), device, channels_last=saved["channels_last"]
        )
        run.network.load_state_dict(saved["network"])
        run.average.load_state_dict(saved["average"])
        run.optimizer.load_state_dict(saved["optimizer"])
        run.generator.set_state(saved["generator"].cpu())
        run.held_out = tuple(saved["held_out"])
        run.step, run.seconds, run.best_psnr = (
            saved[key] for key in ("step", "seconds", "best_psnr")
        )
    except (KeyError, RuntimeError) as error:  # of another version of the networks or this file
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} does not fit this version of the project: {cause}") from error
    return run


@torch.no_grad()
def update_average(run: Run) -> None:
    """Move the averaged weights towards the network's.

    Early on they follow faster than the recipe's decay, so that the fresh weights are forgotten.
    """
    decay = min(run.recipe.ema_decay, (1 + run.step) / (10 + run.step))
    averaged: list[Tensor] = list(run.average.parameters())
    current: list[Tensor] = list(run.network.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)


def save_best(run: Run, path: Path) -> None:
    """Write the averaged weights with the recipe, the step and the score beside them."""
    checkpoints.save_weights(
        run.average.state_dict(),
        path,
        metadata={
            "model": run.recipe.network,
            "scale": str(run.recipe.scale),
            "step": str(run.step),
            "held_out_psnr_db": f"{run.best_psnr:.4f}",
            "recipe": json.dumps(dataclasses.asdict(run.recipe)),
        },
    )


def take_step(
    run: Run,
    forward: Callable[[Tensor], Tensor],
    loss_of: HighFrequencyLoss,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """One step on a batch; returns its loss, a scalar left on the device."""
    recipe = run.recipe
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate_at(recipe, run.step)
    with torch.autocast(low.device.type, torch.bfloat16, enabled=recipe.autocast == "bf16"):
        output = forward(low)
    loss: Tensor = loss_of(output.float(), high)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip_gradient_norm is not None:
        nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip_gradient_norm)
    run.optimizer.step()
    update_average(run)
    run.step += 1
    return loss.detach()


@dataclass(frozen=True)
class World:
    """The processes that share a run: `torchrun` starts them and sets their environment."""

    rank: int
    size: int

    def part(self, batch: int) -> slice:
        """This process's share of a batch. Raises ValueError where the shares would differ."""
        if batch % self.size:
            raise ValueError(f"batch {batch} does not divide among {self.size} processes")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def agree(self, stop: bool, device: str) -> bool:
        """Whether any process wants to stop; all of them get the same answer."""
        if self.size == 1:
            return stop
        votes = torch.tensor(float(stop), device=device)
        dist.all_reduce(votes)
        return bool(votes > 0)

    def mean(self, value: Tensor) -> float:
        """Mean of a scalar over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return float(value) / self.size


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1)
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that a run stops between two steps."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    first = math.inf

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if asked.is_set() and time.monotonic() - first > REPEATED_SIGNAL_SECONDS:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Log:
    """A line every so often on the screen, and the same as JSON lines in the run's folder."""

    def __init__(self, path: Path, *, quiet: bool) -> None:
        self.path = path
        self.quiet = quiet

    def __call__(self, **values: float) -> None:
        if self.quiet:
            return
        print("  ".join(f"{name} {value:.6g}" for name, value in values.items()), flush=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def train(
    run: Run,
    store: CropStore,
    held_out: list[Photo],
    out: Path,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    world: World = World(0, 1),
    time_limit: float = math.inf,
) -> bool:
    """Take steps until the recipe's last, the time limit in seconds, or a stop signal.

    True where the recipe is done. Saves `out / "last.pt"` on the way and at the end, and
    `out / "best.safetensors"` when a validation is the best so far. Raises DivergedError when the
    loss is not finite; the checkpoint on disk is then the last good one.
    """
    recipe, device, part = run.recipe, store.device, world.part(run.recipe.batch)
    loss_of = HighFrequencyLoss(recipe.alpha, recipe.beta, recipe.kernel_size, recipe.sigma)
    loss_of = loss_of.to(device)
    first = world.rank == 0
    log = Log(out / "log.jsonl", quiet=not first)
    forward = run.network if forward is None else forward
    run.network.train()
    began, started_with = time.monotonic(), run.seconds
    total, counted, clock = torch.zeros((), device=device), 0, time.monotonic()
    with stop_signals() as asked:
        while run.step < recipe.steps:
            late = asked.is_set() or time.monotonic() - began > time_limit
            if world.agree(late, device):
                break
            low, high = store.draw(recipe.batch, run.generator, part=part)
            total += take_step(run, forward, loss_of, low, high)
            counted += 1
            last = run.step == recipe.steps
            if run.step % recipe.log_every == 0 or last:
                mean = world.mean(total / counted)
                if not math.isfinite(mean):
                    raise DivergedError(
                        f"the loss is {mean} near step {run.step}; {out / 'last.pt'}, if it is "
                        "there, is from before: resume from it with a lower learning rate"
                    )
                log(
                    step=run.step,
                    loss=mean,
                    learning_rate=learning_rate_at(recipe, run.step - 1),
                    s_per_step=(time.monotonic() - clock) / counted,
                )
                total, counted, clock = torch.zeros((), device=device), 0, time.monotonic()
            run.seconds = started_with + time.monotonic() - began
            if first and (run.step % recipe.validate_every == 0 or last):
                score = mean_psnr(run.average, held_out, scale=recipe.scale, device=device)
                log(step=run.step, held_out_psnr_db=score, hours=run.seconds / 3600)
                if score > run.best_psnr:
                    run.best_psnr = score
                    save_best(run, out / "best.safetensors")
                clock = time.monotonic() if counted == 0 else clock
            if first and run.step % recipe.save_every == 0 and not last:
                save(run, out / "last.pt")
        run.seconds = started_with + time.monotonic() - began
        if first:
            save(run, out / "last.pt")
    return run.step >= recipe.steps


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "45m", "2h" or "1.5h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"a time limit is a number with s, m or h, such as 90s or 2h, not {text}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def choose_device(wanted: str) -> str:
    """ "auto" is CUDA where it works and the CPU elsewhere; a named device must be there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise ValueError(f"--device is auto, cpu, cuda or such as cuda:1, not {wanted}")
    if wanted == "cpu":
        return wanted
    if not torch.cuda.is_available():
        raise ValueError(
            f"--device {wanted}: PyTorch {torch.__version__} sees no CUDA device here; "
            "check the driver, or take --device cpu"
        )
    there = torch.cuda.device_count()
    if ":" in wanted and int(wanted.split(":")[1]) >= there:
        raise ValueError(f"--device {wanted}: there are {there} CUDA devices, counted from 0")
    return wanted


def own_device(wanted: str) -> str:
    """This process's device: under `torchrun` each has the GPU of its local rank."""
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None or not choose_device(wanted).startswith("cuda"):
        return choose_device(wanted)
    if ":" in wanted:
        raise ValueError(
            f"--device {wanted} under torchrun: leave the number out, each has its own"
        )
    device = choose_device(f"cuda:{local_rank}")
    torch.cuda.set_device(device)
    return device


def open_run(
    recipe: str | None,
    steps: int | None,
    autocast: Literal["none", "bf16"] | None,
    resume_from: Path | None,
    init_from: Path | None,
    device: str,
    channels_last: bool,
) -> Run:
    """A resumed run, or a new one from fresh weights or those of `init_from`."""
    if resume_from is not None:
        if channels_last or any(
            given is not None for given in (recipe, steps, autocast, init_from)
        ):
            raise ValueError(
                "--resume goes on as the run began: leave out --recipe, --steps, --autocast, "
                "--channels-last and --init-from, or start anew with --init-from"
            )
        return resume(resume_from, device)
    chosen = recipes.find(recipe or "quick_x4")
    if steps is not None:
        warmup = min(chosen.warmup_steps, max(steps - 1, 0))
        chosen = dataclasses.replace(chosen, steps=steps, warmup_steps=warmup)
    if autocast is not None:
        chosen = dataclasses.replace(chosen, autocast=autocast)
    run = begin(chosen, device, channels_last=channels_last)
    if init_from is not None:
        weights = checkpoints.read_weights(init_from)
        checkpoints.fill(run.network, weights, source=str(init_from))
        checkpoints.fill(run.average, weights, source=str(init_from))
    return run


def run_folder(out: Path | None, resume_from: Path | None) -> tuple[Path, Path | None]:
    """Where the run lives, and the checkpoint to go on from.

    A resumed run stays in its folder. Raises ValueError where another run would be written over.
    """
    if resume_from is None:
        folder = out or Path("runs/latest")
        if (folder / "last.pt").exists():
            raise ValueError(f"{folder} holds a run: --resume {folder}, or another --out")
        return folder, None
    checkpoint = resume_from / "last.pt" if resume_from.is_dir() else resume_from
    if out is not None and out.resolve() != checkpoint.parent.resolve():
        raise ValueError(f"a resumed run stays in its folder, {checkpoint.parent}: leave out --out")
    return checkpoint.parent, checkpoint


def main(
    *,
    data: tuple[Path, ...],
    out: Path | None = None,
    recipe: str | None = None,
    steps: int | None = None,
    time_limit: str | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    device: str = "auto",
    autocast: Literal["none", "bf16"] | None = None,
    compile: bool = False,  # noqa: A002 (the flag's name)
    channels_last: bool = False,
    strict: bool = False,
) -> int:
    """Train a super-resolution network on folders of photographs.

    Args:
        data: One or more folders of photos (searched through), such as DIV2K_train_HR.
        out: Folder of a new run: recipe.json, log.jsonl, last.pt, best.safetensors. Without it,
            runs/latest. A resumed run stays in its folder.
        recipe: A name: paper_x2, paper_x3, paper_x4, quick_x2, quick_x3, quick_x4, smoke.
            Without it, quick_x4.
        steps: Length of a new run, in place of the recipe's; its schedule spans exactly these.
        time_limit: Stop after this long (90s, 45m, 2h) and save; the schedule does not bend.
        resume: Run folder or checkpoint to go on with, to the identical next step.
        init_from: Weights to start a new run from (a warm restart).
        device: auto, cpu, cuda or cuda:1.
        autocast: In place of the recipe's: bf16 is faster where the device computes in it (GPUs,
            CPUs with AVX-512 BF16 or AMX) and slower elsewhere.
        compile: Compile the network with torch.compile: slow to start, faster after.
        channels_last: Keep feature maps in channels-last order.
        strict: Refuse data folders with bad or too small files instead of leaving those out.
    """
    own = own_device(device)
    limit = math.inf if time_limit is None else parse_duration(time_limit)
    folder, checkpoint = run_folder(out, resume)
    with join_world(own) as world:
        run = open_run(recipe, steps, autocast, checkpoint, init_from, own, channels_last)
        rule = run.recipe
        tell: Callable[[str], None] = print if world.rank == 0 else (lambda text: None)
        tell(f"{rule.network} x{rule.scale} on {own}: step {run.step} of {rule.steps}")
        photos, faults = load_photos(
            find_photos(data), rule.scale, least_side=rule.patch * rule.scale, strict=strict
        )
        for fault in faults:
            tell(f"left out: {fault}")
        training, held_out = hold_out(photos, rule.held_out)
        keep_apart(run, held_out)
        pixels = sum(p.high.shape[0] * p.high.shape[1] for p in training)
        names = ", ".join(sorted(photo.name for photo in held_out))
        tell(f"{len(training)} photos to train on ({pixels / 1e6:.1f} Mpixel); held out: {names}")
        store = CropStore(training, rule.scale, rule.patch, own)
        if world.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / "recipe.json") as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(rule), indent=2) + "\n")
        forward: Any = DistributedDataParallel(run.network) if world.size > 1 else run.network
        if compile:
            forward = torch.compile(forward)
        done = train(run, store, held_out, folder, forward=forward, world=world, time_limit=limit)
        state = "done" if done else f"stopped; go on with --resume {folder}"
        tell(f"step {run.step} of {rule.steps}, best {run.best_psnr:.3f} dB held out: {state}")
    return 0


def keep_apart(run: Run, held_out: list[Photo]) -> None:
    """Note which photos are held out. Raises ValueError where a resumed run had others.

    Then photos that it trained on would now judge it.
    """
    digests = tuple(sorted(digest(photo) for photo in held_out))
    if run.held_out and run.held_out != digests:
        raise ValueError(
            "the photos held out are others than when this run began: give --data the same "
            "folders, or start a new run with --init-from"
        )
    run.held_out = digests


if __name__ == "__main__":
    command_line.run(main)
