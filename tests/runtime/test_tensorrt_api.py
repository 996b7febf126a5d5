"""NVIDIA's libraries opened or refused with the reason, and the GPU looked for before them."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gidrn_runtime import cuda_devices, tensorrt_api
from gidrn_runtime.cuda_devices import Device
from gidrn_runtime.errors import EngineUnavailable

HAS_WHEELS = sys.platform == "linux" and platform.machine() == "x86_64"


def driver(status: int = 0, count: int = 1) -> SimpleNamespace:
    """NVIDIA's driver with made-up GPUs, writing where it is told to."""

    def put(**values: Any) -> Callable[..., int]:
        (value,) = values.values()

        def function(reference: Any, *rest: Any) -> int:
            reference._obj.value = value
            return 0

        return function

    def name(buffer: Any, size: int, device: Any) -> int:
        buffer.value = b"Made-up GPU"
        return 0

    def attribute(reference: Any, which: int, device: Any) -> int:
        reference._obj.value = {75: 8, 76: 9}[which]
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: status,
        cuDeviceGetCount=put(count=count),
        cuDeviceGet=put(device=0),
        cuDeviceGetName=name,
        cuDeviceGetAttribute=attribute,
        cuDeviceTotalMem_v2=put(memory=8 * 2**30),
        cuDriverGetVersion=put(version=12060),
    )


def load(found: SimpleNamespace | None) -> Callable[[str], SimpleNamespace]:
    """`ctypes.CDLL` on a machine with this driver, or without one."""

    def library(name: str) -> SimpleNamespace:
        if name != "libcuda.so.1" or found is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found

    return library


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", load(driver()))
    assert cuda_devices.find_device() == Device("Made-up GPU", "8.9", 8192, "12.6")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (None, r"no NVIDIA driver \(libcuda\.so\.1: cannot open"),
        (driver(status=100), r"CUDA error 100\); look at it with nvidia-smi"),
        (driver(count=0), "there is no GPU 0: the driver finds 0"),
    ],
)
def test_without_a_gpu_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, there: SimpleNamespace | None, message: str
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", load(there))
    with pytest.raises(EngineUnavailable, match=message):
        cuda_devices.find_device()


def test_an_unknown_library_is_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match="tensorrt or tensorrt-rtx, not 'trt'"):
        tensorrt_api.open_api("trt")


@pytest.mark.parametrize("flavor", list(tensorrt_api.MODULES))
def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, flavor: str) -> None:
    monkeypatch.setitem(sys.modules, tensorrt_api.MODULES[flavor], None)
    with pytest.raises(EngineUnavailable, match=f"{flavor} cannot be imported") as caught:
        tensorrt_api.open_api(flavor)
    assert str(caught.value).endswith(tensorrt_api.REMEDIES[flavor])


def test_a_library_without_strong_types_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = SimpleNamespace(EXPLICIT_BATCH=0)
    old = SimpleNamespace(__version__="8.6.1", NetworkDefinitionCreationFlag=flags)
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(EngineUnavailable, match=r"tensorrt 8\.6\.1 has no strongly typed"):
        tensorrt_api.open_api("tensorrt")


@pytest.mark.skipif(not HAS_WHEELS, reason="TensorRT for RTX has wheels for Linux on x86-64 alone")
def test_the_library_for_rtx() -> None:
    api = tensorrt_api.open_api("tensorrt-rtx")
    assert api.builds_without_gpu
    assert not api.keeps_timings
    assert {"8.6", "8.9", "12.0"} <= set(api.compute_capabilities())
    messages = tensorrt_api.Messages()
    logger = api.logger(messages)
    trt = api.module
    logger.log(trt.ILogger.ERROR, "bad")
    logger.log(trt.ILogger.INTERNAL_ERROR, "worse")
    logger.log(trt.ILogger.WARNING, "careful")
    logger.log(trt.ILogger.INFO, "fine")
    assert messages == tensorrt_api.Messages(["bad", "worse"], ["careful"])
