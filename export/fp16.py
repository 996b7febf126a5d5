"""FP16 networks whose precision is written into the graph, and their emulation on any machine.

`typed` gives every part of a network (a convolution, an activation, a statistic ...) a type of its
own: it casts what it is given, computes, and hands on what it has. Sums between parts follow
PyTorch's promotion: FP32 where one side is. What is exported is what is emulated.

`Emulator` runs such a network on the CPU as a device that stores FP16 would: each operation on FP16
tensors is computed in FP32 and its result rounded to FP16, overflow becoming infinite and small
numbers losing bits as they do there. Sums over an image are stored before they are divided, and may
be taken as those of a larger frame of the same means. Convolutions add up in FP32, or, on request,
in FP16 in steps of 16 products, as a GPU's matrix units may.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from export.rewrites.attention import CurveAttention, ExactAttention
from export.rewrites.channel_attention import Contrast, Deviation, Mean
from export.rewrites.pyramid_pooling import PyramidPooling
from gidrn.networks.fixed_convolution import FixedConvolution

Accumulation = Literal["fp32", "fp16"]

ALWAYS_FP32 = {
    PyramidPooling: "averages of whole frames as matrix products",
    CurveAttention: "positions on a curve, exponentials and logarithms",
    ExactAttention: "exponentials over all pooled points",
    FixedConvolution: "colours and interpolation of the image itself",
}
"""Parts of one to three channels, which cost little, and whose sums, indices or last digits FP16
cannot hold."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, FixedConvolution)
"""Parts whose kernels' type an ONNX file shows."""

PART_KINDS = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.AvgPool2d, nn.MaxPool2d, nn.BatchNorm2d),
    *(nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.Sigmoid, nn.PixelShuffle),
    *(Contrast, Deviation, Mean, *ALWAYS_FP32),
)

PRODUCTS_A_STEP = 16
"""How many products a matrix unit adds up before it rounds, when it accumulates in FP16."""

_REDUCTIONS = (torch.ops.aten.mean.dim, torch.ops.aten.sum.dim_IntList)
_CASTS = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Typed(nn.Module):
    """`part` computed in `dtype`: its inputs are cast, its output stays what it is."""

    def __init__(self, part: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.part = part.to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.part(*(x.to(self.dtype) for x in inputs))
        return output


def parts(network: nn.Module) -> dict[str, nn.Module]:
    """What can have a type of its own, by module path, in the order of definition."""
    found: dict[str, nn.Module] = {}

    def look(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            below = f"{path}.{name}" if path else name
            if isinstance(child, PART_KINDS):
                found[below] = child
            else:
                look(child, below)

    look(network, "")
    return found


def always_fp32(network: nn.Module) -> dict[str, str]:
    """Paths of the parts that are not tried in FP16, and why."""
    return {
        path: ALWAYS_FP32[type(part)]
        for path, part in parts(network).items()
        if type(part) in ALWAYS_FP32
    }


def typed(network: nn.Module, fp32: Collection[str]) -> nn.Module:
    """A copy of a rewritten network with every part in FP16 but those whose paths are in `fp32`.

    Raises ValueError for a path that is no part.
    """
    network = copy.deepcopy(network).eval()
    found = parts(network)
    if unknown := sorted(set(fp32) - set(found)):
        raise ValueError(f"{unknown[0]} is no part of the network that can have a type")
    for path, part in found.items():
        dtype = torch.float32 if path in fp32 else torch.float16
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, Typed(part, dtype))
    return network


class Ends(nn.Module):
    """A typed network with FP32 or FP16 tensors at its ends."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        high: Tensor = self.network(x)
        return high.to(self.dtype)


class Emulator(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, operations on FP16 tensors behave as on a device that stores FP16.

    `frame_pixels`: sums over images of fewer pixels are taken as those of a frame of so many with
    the same means; None leaves them. `accumulation`: how convolutions add up.
    """

    def __init__(
        self, *, frame_pixels: int | None = None, accumulation: Accumulation = "fp32"
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.frame_pixels = frame_pixels
        self.accumulation = accumulation

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        with self:  # in inference mode composite operations arrive whole
            composed = func.decompose(*args, **kwargs)
        if composed is not NotImplemented:
            return composed
        tensors: list[Tensor] = []
        tree_map(lambda x: tensors.append(x) if isinstance(x, Tensor) else None, (args, kwargs))
        floats = [x for x in tensors if x.is_floating_point()]
        if func in _CASTS or func.is_view or all(x.dtype != torch.float16 for x in floats):
            return func(*args, **kwargs)
        # PyTorch's promotion: a single number does not widen a tensor.
        widened = any(x.dtype == torch.float32 and x.dim() > 0 for x in floats)
        dtype = torch.float32 if widened else torch.float16
        wide_args, wide_kwargs = tree_map(_to_fp32, (args, kwargs))
        if func in _REDUCTIONS and dtype == torch.float16:
            return self._reduced(func, wide_args, wide_kwargs).to(dtype)
        if func is torch.ops.aten.convolution.default and self.accumulation == "fp16":
            return _convolved_in_steps(*wide_args).to(dtype)
        output = func(*wide_args, **wide_kwargs)
        if func._schema.is_mutable:
            return args[0].copy_(wide_args[0])
        return tree_map(lambda x: _round_to(x, dtype), output)

    def _reduced(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """A sum or mean with the sum itself stored in FP16."""
        x, dims = args[0], args[1]
        count = 1
        for dim in dims:
            count *= x.shape[dim]
        total: Tensor = torch.ops.aten.sum.dim_IntList(*args, **kwargs)
        is_mean = func is torch.ops.aten.mean.dim
        if is_mean and self.frame_pixels is not None and count < self.frame_pixels:
            total, count = total * (self.frame_pixels / count), self.frame_pixels
        total = total.half().float()
        return total / count if is_mean else total


def _to_fp32(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype == torch.float16 else x


def _round_to(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) and x.dtype == torch.float32 else x


def _convolved_in_steps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """A convolution whose running sum is rounded to FP16 after every `PRODUCTS_A_STEP` products.

    Of a transposed one, an output uses some of the taps: its sum is rounded oftener than that.
    """
    height, width = weight.shape[2:]
    inputs = weight.shape[0] // groups if transposed else weight.shape[1]
    # Tap after tap, the channels of each one after another.
    index = torch.arange(height * width * inputs).view(height, width, inputs).permute(2, 0, 1)
    step = index // PRODUCTS_A_STEP
    if transposed:  # (in, out / groups, height, width)
        step = step.repeat(groups, 1, 1).unsqueeze(1)
    total: Tensor | None = None
    for i in range(int(index.max()) // PRODUCTS_A_STEP + 1):
        some = torch.ops.aten.convolution(
            *(x, weight * (step == i), None, stride, padding, dilation),
            *(transposed, output_padding, groups),
        )
        total = some if total is None else (total + some)
        total = total.half().float()
    assert total is not None
    return total if bias is None else total + bias.view(1, -1, 1, 1)


class _Overflow(Exception):  # noqa: N818 (found, not wrong)
    def __init__(self, path: str) -> None:
        self.path = path


def first_overflow(network: nn.Module, x: Tensor, emulator: Emulator) -> str | None:
    """The path of the first part that makes infinity or NaN of numbers, or None.

    Where a sum between parts does, it is the part that ran before it.
    """
    last = ""
    paths: dict[nn.Module, str] = {
        part: path for path, part in network.named_modules() if isinstance(part, Typed)
    }

    def look(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        nonlocal last
        if output is None and not _finite(inputs):
            raise _Overflow(last)
        if output is not None:
            last = paths[part]
            if not _finite([output]):
                raise _Overflow(last)

    handles = [part.register_forward_pre_hook(look) for part in paths]
    handles += [part.register_forward_hook(look) for part in paths]
    try:
        with emulator:
            output = network(x)
        return None if _finite([output]) else last
    except _Overflow as found:
        return found.path
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in tensors)
