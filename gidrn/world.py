"""Devices and processes: which device a process computes on, and whom it shares a run with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


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

    def greatest(self, value: float, device: str) -> float:
        """The largest of the processes' numbers; all of them get the same answer."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared)

    def mean(self, value: Tensor) -> float:
        """Mean of a scalar over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return float(value) / self.size


ALONE = World(0, 1)
"""A run of one process."""


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    yield World(dist.get_rank(), size)
    dist.destroy_process_group()  # not after an error: NCCL would wait for the others in it


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
