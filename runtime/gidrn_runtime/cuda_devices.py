"""The CUDA device, looked at before any NVIDIA library is trusted with it.

Without a device TensorRT's `Runtime` is a null pointer and the process dies in its first use, so
nothing of TensorRT that needs a device is made before `find_device` has returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gidrn_runtime.errors import EngineUnavailable

REMEDY = 'pip install "gidrn[tensorrt]"'


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


def _bindings() -> Any:
    from cuda.bindings import runtime

    return runtime


def find_device(index: int = 0) -> Device:
    """The CUDA device `index`.

    Raises:
        EngineUnavailable: cuda-bindings is not installed, there is no driver or no such device;
            the message says which.
    """
    try:
        cuda = _bindings()
        status, count = cuda.cudaGetDeviceCount()
    except Exception as error:  # missing package or library, each with its own exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EngineUnavailable(
            f"the GPU cannot be asked for ({reason}); {REMEDY}, and check the driver"
        ) from error
    if int(status) != 0:
        raise EngineUnavailable(
            f"no GPU can be used here: CUDA says {status.name}; "
            "install or update the NVIDIA driver, or use a machine with an NVIDIA GPU"
        )
    if not 0 <= index < count:
        raise EngineUnavailable(f"there is no GPU {index}: {count} were found, counted from 0")
    status, properties = cuda.cudaGetDeviceProperties(index)
    driver_status, driver = cuda.cudaDriverGetVersion()
    if int(status) != 0 or int(driver_status) != 0:
        raise EngineUnavailable(
            f"GPU {index} does not answer: CUDA says {status.name} and {driver_status.name}; "
            "look at it with nvidia-smi"
        )
    name = properties.name
    return Device(
        name.decode() if isinstance(name, bytes) else str(name),
        f"{properties.major}.{properties.minor}",
        properties.totalGlobalMem // 2**20,
        f"{driver // 1000}.{driver % 1000 // 10}",
    )
