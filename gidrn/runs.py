"""A run: all that changes while a network trains, on its way to and from the disk."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gidrn import checkpoints, recipes, transfer, zoo
from gidrn.files import replacing
from gidrn.merged_groups import fastest_factor, merge_groups
from gidrn.photos import Photo
from gidrn.recipes import Recipe


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
    merged_groups: int = 1
    """How many groups of each grouped convolution are computed as one: `gidrn.merged_groups`."""
    held_out: tuple[str, ...] = ()
    """Digests of the photos held out, sorted; a resumed run keeps the same ones apart."""
    trained_on: tuple[str, ...] = ()
    """Digests of the photos to train on, sorted; a resumed run needs the same ones."""
    partners: str = ""
    """Digest of those photos' low-resolution pixels."""
    compiled: bool = False
    """Whether `torch.compile` makes the steps."""
    processes: int = 1
    """How many processes share a batch."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Time spent in steps, validation and saving, over all resumptions."""
    losses: float = 0.0
    """Sum of the losses that are not yet logged."""
    loss_count: int = 0
    """How many they are."""
    best_psnr: float = -math.inf
    """Best score on the photos held out, dB."""


def choose_groups(wanted: str, recipe: Recipe, device: str) -> int:
    """How many groups to merge, of "auto", "all" or a number.

    "auto" measures on a GPU. On a CPU it is 1: merging lost there wherever it was measured
    (`benchmarks/train_speed.py`), and equal runs should not depend on a stopwatch.
    """
    if wanted == "auto" and device == "cpu":
        return 1
    network = zoo.create(recipe.network, recipe.scale, config=recipe.network_config).to(device)
    if wanted == "auto":
        return fastest_factor(
            network, batch=recipe.batch, patch=recipe.patch, autocast=recipe.autocast == "bf16"
        )
    if wanted != "all" and not wanted.isdecimal():
        raise ValueError(f"--merge-groups is auto, all or a number of groups, not {wanted}")
    groups = [p.groups for p in network.modules() if isinstance(p, nn.Conv2d) and p.groups > 1]
    return max(groups, default=1) if wanted == "all" else int(wanted)


def begin(
    recipe: Recipe, device: str, *, channels_last: bool = False, merged_groups: int = 1
) -> Run:
    """A run at step 0 with fresh weights."""
    torch.manual_seed(recipe.seed)
    network = zoo.create(recipe.network, recipe.scale, config=recipe.network_config).to(device)
    if channels_last:  # before Adam's moments, which take over their weights' order
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    merge_groups(network, merged_groups)
    trained = [p for p in network.parameters() if p.requires_grad]
    return Run(
        recipe,
        network,
        average,
        torch.optim.Adam(
            trained, recipe.learning_rate, recipe.adam_betas, recipe.adam_epsilon, fused=True
        ),
        torch.Generator(device).manual_seed(recipe.seed),
        channels_last,
        merged_groups,
    )


def start(
    chosen: Recipe,
    init_from: Path | None,
    device: str,
    *,
    channels_last: bool = False,
    merge: str = "auto",
    agree: Callable[[int], int] = int,
) -> Run:
    """A new run, from fresh weights or those of `init_from`.

    `agree` makes one number of those that several processes measured for their groups.
    """
    merged_groups = agree(choose_groups(merge, chosen, device))
    run = begin(chosen, device, channels_last=channels_last, merged_groups=merged_groups)
    if init_from is not None:
        weights = checkpoints.read_weights(init_from)
        transfer.start_from(run.network, weights, source=str(init_from))
        transfer.start_from(run.average, weights, source=str(init_from))
    return run


def save(run: Run, path: Path) -> None:
    """Write a checkpoint, whole or not at all. Raises DivergedError for a weight not finite."""
    if not all(bool(torch.isfinite(p).all()) for p in run.network.parameters()):
        raise DivergedError(
            f"weights are no longer finite at step {run.step}; {path}, if it is there, is from "
            "before: start a new run from it with --init-from and a lower --learning-rate"
        )
    data = io.BytesIO()  # written below, so that a full disk is an OSError as everywhere
    torch.save(
        {
            "format": checkpoints.TRAINING_FORMAT,
            "recipe": dataclasses.asdict(run.recipe),
            "device": run.generator.device.type,
            "channels_last": run.channels_last,
            "merged_groups": run.merged_groups,
            "held_out": list(run.held_out),
            "trained_on": list(run.trained_on),
            "partners": run.partners,
            "compiled": run.compiled,
            "processes": run.processes,
            "network": run.network.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
            "step": run.step,
            "seconds": run.seconds,
            "losses": run.losses,
            "loss_count": run.loss_count,
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
            recipes.from_dict(saved["recipe"]),
            device,
            channels_last=saved["channels_last"],
            merged_groups=saved["merged_groups"],
        )
        run.network.load_state_dict(saved["network"])
        run.average.load_state_dict(saved["average"])
        run.optimizer.load_state_dict(saved["optimizer"])
        run.generator.set_state(saved["generator"].cpu())
        run.held_out = tuple(saved["held_out"])
        run.trained_on = tuple(saved["trained_on"])
        run.partners = saved.get("partners", "")  # these came later than the format
        run.compiled, run.processes = saved.get("compiled", False), saved.get("processes", 1)
        run.losses, run.loss_count = saved.get("losses", 0.0), saved.get("loss_count", 0)
        run.step, run.seconds, run.best_psnr = (
            saved[key] for key in ("step", "seconds", "best_psnr")
        )
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError) as error:  # of another version of the networks or this file
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} does not fit this version of the project: {cause}") from error
    return run


def keep_photos(run: Run, training: list[Photo], held_out: list[Photo]) -> None:
    """Note which photos are trained on and held out.

    Raises ValueError where a resumed run had others, or other low-resolution partners: its steps
    would be others than if it had never stopped, or photos that it trained on would judge it.
    """
    apart = tuple(sorted(photo.digest for photo in held_out))
    trained = tuple(sorted(photo.digest for photo in training))
    if run.held_out and (run.held_out, run.trained_on) != (apart, trained):
        before, now = {*run.held_out, *run.trained_on}, {*apart, *trained}
        raise ValueError(
            f"the photos are others than when this run began: {len(before - now)} of "
            f"{len(before)} are missing or changed, and {len(now - before)} are new; give --data "
            "the same photos, or start a new run with --init-from"
        )
    partners = hashlib.sha256()
    for photo in sorted([*training, *held_out], key=lambda photo: photo.digest):
        partners.update(np.ascontiguousarray(photo.low).tobytes())
    if run.partners not in ("", partners.hexdigest()):
        raise ValueError(
            "the photos' low-resolution partners are others than when this run began; give --data "
            "the same ones, or start a new run with --init-from"
        )
    run.held_out, run.trained_on, run.partners = apart, trained, partners.hexdigest()


@torch.no_grad()
def update_average(run: Run) -> None:
    """Move the averaged weights towards the network's.

    Early on they follow faster than the recipe's decay, so that the fresh weights are forgotten.
    """
    decay = min(run.recipe.ema_decay, (1 + run.step) / (10 + run.step))
    averaged: list[Tensor] = list(run.average.parameters())
    current: list[Tensor] = list(run.network.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)
    buffers = dict(run.network.named_buffers())  # merged groups have more
    for name, kept in run.average.named_buffers():
        kept.copy_(buffers[name])  # constants, or statistics of batches, which are averages already


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
