"""A network on ncnn, converted by pnnx: for comparison alone, ``pip install ncnn pnnx``.

pnnx fixes the size. FP16 in storage and arithmetic is off, as in the other engines' files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import exported_models
from gidrn.networks import attention

MOST_LEVELS = 1.0
"""By which its output may differ from PyTorch's, of 255."""


def why_absent() -> str:
    """Why it cannot be used here; empty where it can."""
    lacking = [name for name in ("ncnn", "pnnx") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(lacking)} not installed: pip install ncnn pnnx" if lacking else ""


class NcnnNetwork:
    """A network converted for one size and opened."""

    def __init__(self, network: nn.Module, name: str, size_hw: tuple[int, int], threads: int):
        """Raises ValueError where pnnx makes nothing of it that ncnn opens, or another network."""
        import ncnn

        param, weights = converted(network, name, size_hw)
        self._net: Any = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
            raise ValueError(f"ncnn does not open what pnnx made of {name}")
        self._matrix = ncnn.Mat
        self._check(network, name, size_hw)

    def run_tensor(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, 3, H, W) -> (1, 3, s*H, s*W)."""
        extractor = self._net.create_extractor()
        extractor.input("in0", self._matrix(np.ascontiguousarray(x[0])))
        status, high = extractor.extract("out0")
        if status:
            raise ValueError(f"ncnn failed with status {status}")
        return np.array(high)[None]

    def _check(self, network: nn.Module, name: str, size_hw: tuple[int, int]) -> None:
        x = torch.rand(1, 3, *size_hw, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            wanted = network(x).numpy()
        levels = 255 * float(np.abs(self.run_tensor(x.numpy()) - wanted).max())
        if not levels <= MOST_LEVELS:
            raise ValueError(f"ncnn's output of {name} is {levels:.2f} levels from PyTorch's")


def converted(network: nn.Module, name: str, size_hw: tuple[int, int]) -> tuple[Path, Path]:
    """ncnn's two files of a network, made by pnnx where they are not there yet."""
    import pnnx

    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    height, width = size_hw
    stem = f"{name}_{height}x{width}_{digest.hexdigest()[:16]}.ncnn"
    files = [exported_models.CACHE / f"{stem}.{end}" for end in ("param", "bin")]
    if not all(file.is_file() for file in files):
        exported_models.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=exported_models.CACHE) as folder:
            traced = Path(folder, "network.pt")
            x = torch.rand(1, 3, height, width)
            with _without_floor(), torch.inference_mode():
                torch.jit.trace(network, x).save(str(traced))  # type: ignore[no-untyped-call]
            command = [pnnx.EXEC_PATH, traced.name, f"inputshape=[1,3,{height},{width}]", "fp16=0"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            made = [Path(folder, f"network.ncnn.{end}") for end in ("param", "bin")]
            if done.returncode or not all(file.is_file() for file in made):
                raise ValueError(f"pnnx makes nothing of {name}: {done.stderr.strip()[-300:]}")
            for file, target in zip(made, files, strict=True):
                os.replace(file, target)
    return files[0], files[1]


@contextmanager
def _without_floor() -> Iterator[None]:
    """Contrast without the floor under a variance, which ncnn has no layer for; the floor is for
    gradients, and a variance computed as a mean of squares is not below 0."""

    def contrast(x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        centred = x - mean
        return (centred * centred).mean(dim=(2, 3), keepdim=True).sqrt() + mean

    kept = attention.contrast
    attention.contrast = contrast
    try:
        yield
    finally:
        attention.contrast = kept
