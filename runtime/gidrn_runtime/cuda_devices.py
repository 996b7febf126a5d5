"""The NVIDIA GPU as its driver tells it, looked at before any library is trusted with it.

Without a device TensorRT's `Runtime` is a null pointer and the process dies in its first use, and
ONNX Runtime quietly computes on the CPU; so nothing that needs a device is made before
`find_device` has returned. It asks the driver itself, which is there wherever a GPU works: a CUDA
runtime from a package may be newer than the driver, as on JetPack, and see no device that others
use.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from gidrn_runtime.errors import EngineUnavailable

MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


@dataclass(frozen=True)
class Device:
    """What an engine's speed and validity depend on."""

    name: str
    """As the driver says it, such as "NVIDIA GeForce RTX 4090"."""
    compute_capability: str
    """Such as "8.9"."""
    memory_mib: int
    driver: str
    """The newest CUDA version that the driver serves, such as "13.0"."""


def find_device(index: int = 0) -> Device:
    """The CUDA device `index`.

    Raises:
        EngineUnavailable: there is no driver, or no such device; the message says which.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineUnavailable(
            f"there is no NVIDIA driver ({error}); install it, or take a machine with an NVIDIA GPU"
        ) from error
    _ask(cuda.cuInit, 0)
    count = ctypes.c_int()
    _ask(cuda.cuDeviceGetCount, ctypes.byref(count))
    if not 0 <= index < count.value:
        raise EngineUnavailable(f"there is no GPU {index}: the driver finds {count.value}")
    device, version = ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    _ask(cuda.cuDeviceGet, ctypes.byref(device), index)
    _ask(cuda.cuDeviceGetName, name, len(name), device)
    _ask(cuda.cuDeviceGetAttribute, ctypes.byref(major), MAJOR, device)
    _ask(cuda.cuDeviceGetAttribute, ctypes.byref(minor), MINOR, device)
    _ask(cuda.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    _ask(cuda.cuDriverGetVersion, ctypes.byref(version))
    return Device(
        name.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        memory.value // 2**20,
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _ask(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status:
        raise EngineUnavailable(
            f"the NVIDIA driver finds no GPU that can be used (CUDA error {status}); look at it "
            "with nvidia-smi"
        )
