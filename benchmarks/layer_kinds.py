"""Which kinds of layer a training step's time goes to, forwards and back, and their multiply-adds.

The profiler's ops are told apart by the module that ran them; an op of the backward pass belongs
where the op belongs whose gradient it computes (the two share a sequence number). Adding up the
gradients of a feature map that is used several times counts as a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.complexity import aim_flops
from benchmarks.training_steps import Trainee, synchronise
from gidrn.networks.anrb import ANRB
from gidrn.networks.attention import ChannelAttention, ContrastAttention

KINDS = {
    "pointwise": "pointwise convolution",
    "grouped": "grouped convolution",
    "dense": "dense 3x3 (5x5) convolution",
    "activation": "activation",
    "attention": "channel attention, ANRB",
    "sums": "sums of feature maps and of their gradients",
    "rest": "rest of the network (concatenation, split, shuffle)",
    "outside": "outside the network (crops, loss, Adam, EMA)",
}
"""Kinds of layer by short name, with what tables call them."""

_ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.PReLU)
_SUMS = {"aten::add", "aten::add_", "aten::sub", "aten::mul", "aten::select"}
_ADDITIONS = {"aten::add", "aten::add_"}
_NETWORK = "network"
_KIND = "kind "
_BACKWARD = "autograd::engine::evaluate_function: "


def kinds_of_modules(network: nn.Module) -> dict[nn.Module, str]:
    """The modules whose whole call is of one kind; what runs outside of them is sums or rest."""
    found: dict[nn.Module, str] = {}

    def look(module: nn.Module) -> None:
        if isinstance(module, ContrastAttention | ChannelAttention | ANRB):
            found[module] = "attention"
        elif isinstance(module, nn.Conv2d):
            pointwise, grouped = module.kernel_size == (1, 1), module.groups > 1
            found[module] = "grouped" if grouped else "pointwise" if pointwise else "dense"
        elif isinstance(module, _ACTIVATIONS):
            found[module] = "activation"
        else:
            for child in module.children():
                look(child)

    look(network)
    return found


def multiply_adds(network: nn.Module, size_hw: tuple[int, int]) -> dict[str, int]:
    """Multiply-adds of one forward pass over (1, 3, H, W) by kind, counted by AIM 2020's rule.

    The network lies on PyTorch's meta device, or on any other.
    """
    total = dict.fromkeys(KINDS, 0)
    handles = []
    for module, kind in kinds_of_modules(network).items():

        def look(part: nn.Module, inputs: tuple[Tensor], output: Tensor, kind: str = kind) -> None:
            total[kind] += aim_flops(part, inputs[0], output)

        leaves = [part for part in module.modules() if not any(part.children())]
        handles += [leaf.register_forward_hook(look) for leaf in leaves]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, *size_hw, device=next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return total


def profiled_step(trainee: Trainee) -> dict[str, float]:
    """Milliseconds of one step by kind: the CPU's time, or on a GPU that of its kernels.

    The run is one that is not compiled, whose ops are the modules' own; it has been warmed up.
    """
    cuda = trainee.store.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with _labels(trainee), profile(activities=activities, acc_events=True) as profiler:
        trainee.step()
        synchronise(trainee.store.device)
    events = [event for event in profiler.events() or [] if event.device_type == DeviceType.CPU]
    of_sequence = {
        event.sequence_nr: _forward_kind(_upwards(event))
        for event in sorted(events, key=lambda event: event.time_range.start)
        if event.sequence_nr >= 0 and not _is_backward(_upwards(event))
    }  # the last op of a number is the one whose gradient carries it
    total = dict.fromkeys(KINDS, 0.0)
    for event in events:
        if cuda and event.is_user_annotation:  # its kernels are counted at their ops
            continue
        path = _upwards(event)
        kind = _backward_kind(path, of_sequence) if _is_backward(path) else _forward_kind(path)
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        total[kind] += own / 1e3
    return total


@contextmanager
def _labels(trainee: Trainee) -> Iterator[None]:
    """Put a named range around the network and each module of one kind."""
    network, plain = trainee.run.network, trainee.forward
    handles: list[Any] = []
    for module, kind in kinds_of_modules(network).items():
        spans: list[Any] = []

        def enter(part: nn.Module, inputs: Any, kind: str = kind, spans: list[Any] = spans) -> None:
            spans.append(record_function(_KIND + kind))
            spans[-1].__enter__()

        def leave(part: nn.Module, inputs: Any, output: Any, spans: list[Any] = spans) -> None:
            spans.pop().__exit__(None, None, None)

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def forward(x: Tensor) -> Tensor:
        with record_function(_NETWORK):
            return plain(x)

    trainee.forward = forward
    try:
        yield
    finally:
        trainee.forward = plain
        for handle in handles:
            handle.remove()


def _upwards(event: Any) -> list[Any]:
    """The event, what called it, and so on."""
    path = [event]
    while path[-1].cpu_parent is not None:
        path.append(path[-1].cpu_parent)
    return path


def _is_backward(path: list[Any]) -> bool:
    return any(event.name.startswith(_BACKWARD) for event in path)


def _forward_kind(path: list[Any]) -> str:
    names: list[str] = [event.name for event in path]
    for name in names:
        if name.startswith(_KIND):
            return name.removeprefix(_KIND)
    if _NETWORK not in names:
        return "outside"
    below = names.index(_NETWORK) - 1  # -1 is the network's own range: Python between ops
    return "sums" if below >= 0 and names[below] in _SUMS else "rest"


def _backward_kind(path: list[Any], of_sequence: dict[int, str]) -> str:
    at = next(i for i, event in enumerate(path) if event.name.startswith(_BACKWARD))
    kind = of_sequence.get(path[at].sequence_nr, "outside")
    adding = at > 0 and path[at - 1].name in _ADDITIONS  # by the engine, not by the op's gradient
    return "sums" if adding and kind not in ("attention", "outside") else kind
