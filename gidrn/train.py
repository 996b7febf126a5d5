"""Train a network: python -m gidrn.train --recipe quick_x4 --data PHOTOS --out runs/x4.

Plain loop, one process a device; `torchrun --nproc-per-node 2 -m gidrn.train ...` for several. A
run's folder holds `recipe.json`, `log.jsonl`, `last.pt` (all that a resumed run needs to take the
next step: identical to the bit on a CPU with as many threads and processes, up to the order of sums
on a GPU) and `best.safetensors` (the averaged weights that scored best on the photos held out).
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import platform
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gidrn import command_line, recipes, runs
from gidrn.crops import CropStore
from gidrn.evaluation import mean_psnr
from gidrn.files import replacing
from gidrn.losses import HighFrequencyLoss
from gidrn.photos import Photo, find_pairs, hold_out, load_photos
from gidrn.recipes import Recipe, learning_rate_at
from gidrn.runs import Run
from gidrn.world import ALONE, World, join_world, own_device

UNTIMED_STEPS, TIMED_STEPS = 5, 20
"""Steps taken, and thrown away, to find how many fit a budget; compiling falls in the first few."""

REPEATED_SIGNAL_SECONDS = 2.0
"""A second stop signal sooner than this after the first is the same wish, forwarded twice."""


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
    runs.update_average(run)
    run.step += 1
    return loss.detach()


def computes_in_bf16(device: str) -> bool:
    """Whether bf16 autocast is more than a detour there: x86 without AVX-512 BF16 emulates it."""
    if device != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported()


def steps_within(
    run: Run,
    store: CropStore,
    held_out: list[Photo],
    seconds: Callable[[], float],
    *,
    forward: Callable[[Tensor], Tensor],
    world: World,
) -> int:
    """How many steps of a new run fit in the `seconds` that are left, validation included.

    Takes a few steps and one validation with the clock running, then puts the run back to its
    start. Raises ValueError where not even one step fits.
    """
    start = io.BytesIO()
    torch.save(
        [run.network.state_dict(), run.average.state_dict(), run.generator.get_state()], start
    )
    recipe, part = run.recipe, world.part(run.recipe.batch)
    loss_of = HighFrequencyLoss(recipe.alpha, recipe.beta, recipe.kernel_size, recipe.sigma)
    loss_of = loss_of.to(store.device)
    times = []
    for _ in range(UNTIMED_STEPS + TIMED_STEPS):
        clock = time.monotonic()
        loss = take_step(run, forward, loss_of, *store.draw(recipe.batch, run.generator, part=part))
        float(loss)  # waits for the device
        times.append(time.monotonic() - clock)
    clock = time.monotonic()
    mean_psnr(run.average, held_out, scale=recipe.scale, device=store.device)
    a_step = statistics.median(times[UNTIMED_STEPS:])
    validation = world.greatest(time.monotonic() - clock, store.device)
    a_step += validation / recipe.validate_every
    slowest = world.greatest(a_step, store.device)
    left = -world.greatest(-seconds(), store.device)
    start.seek(0)
    network, average, drawn = torch.load(start, weights_only=True)
    run.network.load_state_dict(network)
    run.average.load_state_dict(average)
    run.generator.set_state(drawn.cpu())
    run.optimizer.zero_grad(set_to_none=True)
    run.optimizer.state.clear()
    run.step = 0
    steps = int((left - validation) / slowest)  # one more validation at the end
    if steps < 1:
        raise ValueError(
            f"the budget is used up before the first step, which takes {slowest:.3g} s: raise it"
        )
    return steps


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`, made if need be, while the block runs.

    Raises ValueError where another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process trains in {folder}: stop it, or another --out") from None
    try:
        yield
    finally:
        lock.release()


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
    """A line every so often on the screen, and the same as JSON lines in the run's folder.

    A run that was killed has logged steps that its last checkpoint does not know; `step`, where it
    goes on from, drops them, since they are taken again.
    """

    def __init__(self, path: Path, *, step: int, quiet: bool) -> None:
        self.path = path
        self.quiet = quiet
        if quiet or not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step and step > 0:
                    kept.append(line + "\n")
            except (ValueError, KeyError):  # cut short by the kill
                continue
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

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
    world: World = ALONE,
    time_limit: float = math.inf,
) -> bool:
    """Take steps until the recipe's last, the time limit in seconds, or a stop signal.

    True where the recipe is done. Saves `out / "last.pt"` at the start, on the way and at the end,
    and `out / "best.safetensors"` when a validation is the best so far. Raises DivergedError when
    the loss is not finite; the checkpoint on disk is then the last good one.
    """
    recipe, device, part = run.recipe, store.device, world.part(run.recipe.batch)
    loss_of = HighFrequencyLoss(recipe.alpha, recipe.beta, recipe.kernel_size, recipe.sigma)
    loss_of = loss_of.to(device)
    first = world.rank == 0
    log = Log(out / "log.jsonl", step=run.step, quiet=not first)
    if first:
        for name in ("last", "best", "log", "recipe"):
            for left_by_a_kill in out.glob(f".{name}*.tmp"):
                left_by_a_kill.unlink()
        if run.step == 0:
            runs.save(run, out / "last.pt")  # so that a run killed early can be resumed too
    forward = run.network if forward is None else forward
    run.network.train()
    began, started_with = time.monotonic(), run.seconds
    losses = torch.tensor(run.losses, device=device)
    timed, clock = 0, time.monotonic()
    with stop_signals() as asked:
        while run.step < recipe.steps:
            late = asked.is_set() or time.monotonic() - began > time_limit
            if world.agree(late, device):
                break
            low, high = store.draw(recipe.batch, run.generator, part=part)
            losses += take_step(run, forward, loss_of, low, high)
            run.loss_count += 1
            timed += 1
            last = run.step == recipe.steps
            if run.step % recipe.log_every == 0 or last:
                mean = world.mean(losses / run.loss_count)
                if not math.isfinite(mean):
                    raise runs.DivergedError(
                        f"the loss is {mean} near step {run.step}; {out / 'last.pt'}, if it is "
                        "there, is from before: start a new run from it with --init-from and a "
                        "lower --learning-rate"
                    )
                log(
                    step=run.step,
                    loss=mean,
                    learning_rate=learning_rate_at(recipe, run.step - 1),
                    s_per_step=(time.monotonic() - clock) / timed,
                )
                losses, run.loss_count = torch.zeros((), device=device), 0
                timed, clock = 0, time.monotonic()
            run.seconds = started_with + time.monotonic() - began
            if first and (run.step % recipe.validate_every == 0 or last):
                score = mean_psnr(run.average, held_out, scale=recipe.scale, device=device)
                log(step=run.step, held_out_psnr_db=score, hours=run.seconds / 3600)
                if score > run.best_psnr:
                    run.best_psnr = score
                    runs.save_best(run, out / "best.safetensors")
                clock = time.monotonic() if timed == 0 else clock
            if run.step % recipe.save_every == 0 and not last:
                run.losses = world.mean(losses.clone())
                if first:
                    runs.save(run, out / "last.pt")
        run.seconds = started_with + time.monotonic() - began
        run.losses = world.mean(losses.clone())
        if first:
            runs.save(run, out / "last.pt")
    return run.step >= recipe.steps


def adjust(recipe: Recipe, *, steps: int | None, **fields: Any) -> Recipe:
    """The recipe with the fields that are not None in place of its own."""
    if steps is not None:
        recipe = recipes.with_steps(recipe, steps)
    given = {name: value for name, value in fields.items() if value is not None}
    return dataclasses.replace(recipe, **given)


def run_folder(out: Path | None, resume_from: Path | None) -> tuple[Path, Path | None]:
    """Where the run lives, and the checkpoint to go on from.

    A resumed run stays in its folder. Raises ValueError where another run, or what this one did
    after the checkpoint, would be written over.
    """
    if resume_from is None:
        folder = out or Path("runs/latest")
        if (folder / "last.pt").exists():
            raise ValueError(f"{folder} holds a run: --resume {folder}, or another --out")
        for name in ("best.safetensors", "log.jsonl"):
            if (folder / name).exists():
                raise ValueError(f"{folder} holds a run's {name}: take another --out")
        return folder, None
    checkpoint = resume_from / "last.pt" if resume_from.is_dir() else resume_from
    newest = checkpoint.with_name("last.pt")
    if checkpoint.name != newest.name and newest.exists():
        raise ValueError(
            f"{newest} stands beside {checkpoint.name} and would be written over: --resume "
            f"{checkpoint.parent}, or copy {checkpoint.name} to a folder of its own"
        )
    if out is not None and out.resolve() != checkpoint.parent.resolve():
        raise ValueError(f"a resumed run stays in its folder, {checkpoint.parent}: leave out --out")
    return checkpoint.parent, checkpoint


def main(
    *,
    data: tuple[Path, ...],
    out: Path | None = None,
    recipe: str | None = None,
    steps: int | None = None,
    budget: str | None = None,
    time_limit: str | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    device: str = "auto",
    learning_rate: float | None = None,
    batch: int | None = None,
    patch: int | None = None,
    autocast: Literal["none", "bf16"] | None = None,
    compile: bool = False,  # noqa: A002 (the flag's name)
    channels_last: bool = False,
    merge_groups: str | None = None,
    strict: bool = False,
    cache: Path | None = None,
) -> int:
    """Train a super-resolution network on folders of photographs.

    Args:
        data: One or more folders of photos (searched through), such as DIV2K_train_HR, or DIV2K
            with its low-resolution partners (0001.png and X4/0001x4.png).
        out: Folder of a new run: recipe.json, log.jsonl, last.pt, best.safetensors. Without it,
            runs/latest. A resumed run stays in its folder.
        recipe: A name: paper_x2, paper_x3, paper_x4, quick_x2, quick_x3, quick_x4, smoke, or a row
            of the paper's ablations such as table3_alpha_0.4. Without it, quick_x4.
        steps: Length of a new run, in place of the recipe's; its schedule spans exactly these.
        budget: In place of --steps: time for the whole command (45m, 2h). The first steps are
            timed, and the schedule spans as many as fit.
        time_limit: Stop after this long (90s, 45m, 2h) and save; the schedule does not bend.
        resume: Run folder or checkpoint to go on with, to the identical next step.
        init_from: Weights to start a new run from (a warm restart); those of another factor give
            their body, and their last convolutions resampled.
        device: auto, cpu, cuda or cuda:1.
        learning_rate: In place of the recipe's highest.
        batch: In place of the recipe's: crops a step, over all devices together.
        patch: In place of the recipe's: side of a low-resolution crop in pixels.
        autocast: In place of the recipe's: bf16 is faster where the device computes in it (GPUs,
            CPUs with AVX-512 BF16 or AMX) and slower elsewhere.
        compile: Compile the network with torch.compile: slow to start, faster after. A resumed run
            is compiled if it began so.
        channels_last: Keep feature maps in channels-last order.
        merge_groups: Compute so many groups of each grouped convolution as one, with zeros between:
            the same function, faster on some devices. A number, all, or auto (the default), which
            measures on a GPU and leaves them on a CPU.
        strict: Refuse data folders with bad or too small files instead of leaving those out.
        cache: Folder in which decoded photos are kept for the next run (3 bytes a pixel).
    """
    began = time.monotonic()
    own = own_device(device)
    whole = None if budget is None else command_line.duration_s(budget)
    if whole is not None and (steps is not None or resume is not None):
        raise ValueError("--budget fixes the length of a new run: leave out --steps and --resume")
    fixed = (recipe, steps, learning_rate, batch, patch, autocast, init_from, merge_groups)
    switched = channels_last or compile
    if resume is not None and (switched or any(given is not None for given in fixed)):
        raise ValueError(
            "--resume goes on as the run began: leave out --recipe and what stands in its place, "
            "--channels-last, --compile, --merge-groups and --init-from, or start anew with "
            "--init-from"
        )
    limit = math.inf if time_limit is None else command_line.duration_s(time_limit)
    folder, checkpoint = run_folder(out, resume)
    with (
        join_world(own) as world,
        alone_in(folder) if world.rank == 0 else nullcontext(),
    ):
        if world.rank == 0:
            run_folder(out, resume)  # again: another process may have trained there meanwhile
        if checkpoint is not None:
            run = runs.resume(checkpoint, own)
        else:
            chosen = adjust(
                recipes.find(recipe or "quick_x4"),
                steps=steps,
                learning_rate=learning_rate,
                batch=batch,
                patch=patch,
                autocast=autocast,
            )
            run = runs.start(
                chosen,
                init_from,
                own,
                channels_last=channels_last,
                merge=merge_groups or "auto",
                agree=lambda groups: int(world.greatest(groups, own)),
            )
            run.compiled, run.processes = compile, world.size
        rule = run.recipe
        tell: Callable[[str], None] = print if world.rank == 0 else (lambda text: None)
        tell(f"{rule.network} x{rule.scale} on {own}: step {run.step} of {rule.steps}")
        if rule.autocast == "bf16" and not computes_in_bf16(own):
            tell(
                "this CPU has no bf16 arithmetic, so that bf16 autocast is slower than none: a new "
                "run does better with --autocast none"
            )
        if run.processes != world.size:
            tell(
                f"begun by {run.processes} processes, goes on with {world.size}: the same crops, "
                "their losses added up in another order"
            )
            run.processes = world.size
        if run.merged_groups > 1:
            tell(f"grouped convolutions: {run.merged_groups} groups computed as one")
        files = find_pairs(data, rule.scale)
        photos, faults = load_photos(
            files, rule.scale, least_side=rule.patch * rule.scale, strict=strict, cache=cache
        )
        for fault in faults:
            tell(f"left out: {fault}")
        if pairs := sum(file.low is not None for file in files):
            tell(f"{pairs} of {len(files)} photos have x{rule.scale} partners; the rest are shrunk")
        training, held_out = hold_out(photos, rule.held_out)
        runs.keep_photos(run, training, held_out)
        pixels = sum(p.high.shape[0] * p.high.shape[1] for p in training)
        names = ", ".join(sorted(photo.name for photo in held_out))
        tell(f"{len(training)} photos to train on ({pixels / 1e6:.1f} Mpixel); held out: {names}")
        store = CropStore(training, rule.scale, rule.patch, own)
        del photos, training  # the store has their pixels
        forward: Any = run.network
        if world.size > 1:  # buffers are constants, or each process's own statistics
            forward = DistributedDataParallel(run.network, broadcast_buffers=False)
        if run.compiled:
            forward = torch.compile(forward)
        if whole is not None:

            def left() -> float:
                return whole - (time.monotonic() - began)

            fitting = steps_within(run, store, held_out, left, forward=forward, world=world)
            run.recipe = rule = recipes.with_steps(rule, fitting)
            tell(f"{fitting} steps fit in {budget}")
        if world.rank == 0:
            with replacing(folder / "recipe.json") as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(rule), indent=2) + "\n")
        done = train(run, store, held_out, folder, forward=forward, world=world, time_limit=limit)
        state = "done" if done else f"stopped; go on with --resume {folder}"
        tell(f"step {run.step} of {rule.steps}, best {run.best_psnr:.3f} dB held out: {state}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
