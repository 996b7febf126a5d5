"""Networks as ONNX files for measuring, exported once and kept in `build/benchmarks/`.

A file's name carries a hash of everything that it depends on: network, factor, configuration,
weights, versions, and the source of networks and exporter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import gidrn
from benchmarks import weight_files
from benchmarks.low_images import smooth_noise
from benchmarks.records import PROJECT
from export import to_onnx
from export.proof import Dtype
from export.rewrites.frames import Color
from gidrn import checkpoints, evaluation, zoo

CACHE = PROJECT / "build" / "benchmarks"

RANDOM_SEED = 0
"""Of made-up weights."""

RANDOM = f"random (seed {RANDOM_SEED})"

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
"""Below this, and above 0, an FP32 number is denormal; CPUs take many times longer over those."""

_VERSIONS = ("gidrn", "torch", "onnx", "onnxscript", "onnxslim")


@dataclass(frozen=True)
class ExportedModel:
    """A network as an ONNX file."""

    path: Path
    weights: str
    """"shipped", "file NAME", "random (seed N)" or "none"."""
    parameters: int
    proof_levels: float
    """Its largest difference from PyTorch at its proof, in 8-bit levels."""


def exported(
    name: str,
    scale: int,
    *,
    weights_root: Path | None,
    dtype: Dtype = "fp32",
    frames: Color | None = None,
) -> ExportedModel:
    """The ONNX file of a network of the zoo, exported now where it is not there yet.

    `dtype` is what it computes in; with `frames` it takes uint8 frames in that order.

    Weights are those of `weights_root` (or GIDRN_WEIGHTS), a file such as `imdn_x4.safetensors` or
    `imdn_x4.pth`; else those that ship; else made up and named so, since speed does not depend on
    them. A file of other parameter names is passed over with a notice. Raises FileNotFoundError
    for a root that is given and not there.
    """
    network, weights, weights_sha256 = with_weights(name, scale, weights_root)
    marks: list[str] = [mark for mark in (dtype if dtype != "fp32" else None, frames) if mark]
    key = _key(name, scale, weights_sha256, marks)
    path = CACHE / ("_".join([name, f"x{scale}", *marks, key]) + ".onnx")
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        labels = labels_of(name, scale, weights, weights_sha256)
        _export(network, path, dataclasses.replace(labels, dtype=dtype, frames=frames))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return ExportedModel(path, weights, parameters, float(told["proof_levels"]))


def with_weights(name: str, scale: int, weights_root: Path | None) -> tuple[nn.Module, str, str]:
    """A network in eval mode, a word on its weights, and their sha256.

    The word is "shipped", "file NAME", "random (seed 0)", or "none" for one that has no weights.
    """
    if zoo.needs_no_weights(name):
        return zoo.load(name, scale), "none", ""
    for file in weight_files.names(weight_files.folder(weights_root), name, scale):
        if not file.is_file():
            continue
        try:
            return (
                zoo.load(name, scale, weights=file),
                f"file {file.name}",
                checkpoints.sha256(file),
            )
        except (ValueError, ImportError) as error:
            print(f"{error}; going on without that file", file=sys.stderr)
    for variant in zoo.variants().values():
        if (variant.network, variant.scale) == (name, scale) and variant.path.is_file():
            return zoo.load(name, scale), "shipped", checkpoints.sha256(variant.path)
    network = _made_up(name, scale)
    return network, RANDOM, _sha256_of_weights(network)


def check_activations(network: nn.Module, low: Tensor) -> None:
    """Run a network and raise ValueError where a layer gives a number that distorts timing.

    That is one which is not finite, or denormal.
    """
    faults: list[str] = []

    def look(name: str, output: Tensor) -> None:
        size = output.abs()
        if not torch.isfinite(output).all():
            faults.append(f"{name} gives numbers that are not finite")
        elif ((size > 0) & (size < SMALLEST_NORMAL)).any():
            faults.append(f"{name} gives denormal numbers")

    def hook_of(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: look(name, output)

    hooks = [
        module.register_forward_hook(hook_of(name))
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    try:
        with torch.inference_mode():
            look("the output", network(low))
    finally:
        for hook in hooks:
            hook.remove()
    if faults:
        raise ValueError(
            f"{type(network).__name__} with these weights is unfit for timing: {'; '.join(faults)}"
        )


def _made_up(name: str, scale: int) -> nn.Module:
    """A network with seeded random weights, fit for timing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = zoo.create(name, scale).eval()
    check_activations(network, evaluation.to_tensor(smooth_noise((24, 20), seed=0)))
    return network


def _sha256_of_weights(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _key(name: str, scale: int, weights_sha256: str, marks: list[str]) -> str:
    """A hash of everything that the ONNX file depends on."""
    versions = [importlib.metadata.version(package) for package in _VERSIONS]
    facts = (name, scale, zoo.find(name).config, weights_sha256, versions, marks)
    digest = hashlib.sha256(repr(facts).encode())
    networks = Path(str(gidrn.__file__)).parent / "networks"
    exporter = Path(to_onnx.__file__).parent
    for source in sorted([*networks.rglob("*.py"), *exporter.rglob("*.py")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _export(network: nn.Module, path: Path, labels: to_onnx.Labels) -> None:
    """The one place that calls our exporter."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # "torchvision is not installed"
    to_onnx.export(network, path, labels)


def labels_of(name: str, scale: int, weights: str, weights_sha256: str) -> to_onnx.Labels:
    """What an ONNX file says of a network that `with_weights` gave."""
    label, digest = ("random", "") if weights == RANDOM else (weights, weights_sha256)
    return to_onnx.Labels(name, scale, label, digest, str(zoo.find(name).context))
