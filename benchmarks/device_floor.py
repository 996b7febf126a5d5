"""The least time that a network can take on a device: its work over the device's own best rates.

For each convolution and matrix product: the larger of its operations over the rate of a large
matrix product, and of the bytes that it must read (input and weights) and write (output) over the
rate of a large copy; both rates are measured on the device, in the same precision. The floor is the
sum. All else counts nothing, as if it were fused into its neighbours: activations, sums, pooling,
rearrangements. Kernels that fuse convolutions, caches that hold what passes between them, and
algorithms with fewer multiplications (Winograd's) can go below; launching takes time beyond it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.training_steps import synchronise

COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Of the array that is copied: far beyond any cache."""

MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}

REPEATS = 7
"""Of each; the fastest counts."""

RUNS_A_REPEAT = {"cpu": 1, "cuda": 10}
"""Runs between two readings of the clock: launching one and waiting for it takes tens of
microseconds, which are a few percent of a copy of `COPY_BYTES` on a GPU."""


@dataclass(frozen=True)
class Rates:
    """What a device reaches on work of one kind."""

    copy_gb_s: float
    """1e9 bytes read or written a second, in a copy within the device's memory."""
    matmul_tflops: float
    """1e12 operations a second in a square matrix product, two a multiply-add."""


@dataclass(frozen=True)
class Work:
    """One convolution or matrix product."""

    operations: int
    """Two a multiply-add."""
    bytes: int
    """Of its inputs, weights and output, each once."""


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The work of what runs in its `with` block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[Work] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
            self.work.append(
                Work(
                    int(count(*args, **(kwargs or {}), out_val=out)),
                    sum(tensor.numel() * tensor.element_size() for tensor in tensors),
                )
            )
        return out


def work_of(
    network: nn.Module, size_hw: tuple[int, int], batch: int, dtype: torch.dtype
) -> list[Work]:
    """The convolutions and matrix products of one run, counted on tensors without data."""
    counted = copy.deepcopy(network).eval().to("meta", dtype)
    ledger = _Ledger()
    with torch.no_grad(), ledger:
        counted(torch.empty(batch, 3, *size_hw, device="meta", dtype=dtype))
    return ledger.work


def floor_ms(work: list[Work], rates: Rates) -> float:
    """The least milliseconds of one run."""
    return sum(
        max(part.operations / (rates.matmul_tflops * 1e9), part.bytes / (rates.copy_gb_s * 1e6))
        for part in work
    )


def measure_rates(device: str, dtype: torch.dtype) -> Rates:
    """Copy and multiply on a device, the fastest of `REPEATS`; TF32 is left as it is set."""
    kind = torch.device(device).type
    source = torch.zeros(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = MATRIX_SIDE[kind]
    left, right = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    copying = _fastest_s(lambda: target.copy_(source), device)
    multiplying = _fastest_s(lambda: torch.mm(left, right, out=product), device)
    return Rates(2 * COPY_BYTES[kind] / copying / 1e9, 2 * side**3 / multiplying / 1e12)


def _fastest_s(work: Callable[[], object], device: str) -> float:
    """Seconds of a run, in the fastest repeat; one before them thrown away."""
    runs = RUNS_A_REPEAT[torch.device(device).type]
    found = []
    for _ in range(1 + REPEATS):
        synchronise(device)
        began = time.perf_counter_ns()
        for _ in range(runs):
            work()
        synchronise(device)
        found.append((time.perf_counter_ns() - began) / 1e9 / runs)
    return min(found[1:])
