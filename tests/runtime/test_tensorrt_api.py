"""NVIDIA's libraries opened or refused with the reason, and the GPU looked for before them."""

from __future__ import annotations

import platform
import sys
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from gidrn_runtime import cuda_devices, tensorrt_api
from gidrn_runtime.cuda_devices import Device
from gidrn_runtime.errors import EngineUnavailable

HAS_WHEELS = sys.platform == "linux" and platform.machine() == "x86_64"


class Status(IntEnum):
    """CUDA's answers that the tests need; names and numbers as in cuda.bindings."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815


def cuda(count: int = 1, status: Status = Status.cudaSuccess) -> SimpleNamespace:
    """A CUDA runtime with made-up GPUs."""
    gpu = SimpleNamespace(name=b"Made-up GPU", major=8, minor=9, totalGlobalMem=8 * 2**30)
    return SimpleNamespace(
        cudaGetDeviceCount=lambda: (status, count),
        cudaGetDeviceProperties=lambda index: (Status.cudaSuccess, gpu),
        cudaDriverGetVersion=lambda: (Status.cudaSuccess, 12060),
    )


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_devices, "_bindings", cuda)
    assert cuda_devices.find_device() == Device("Made-up GPU", "8.9", 8192, "12.6")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (cuda(status=Status.cudaErrorInsufficientDriver), "cudaErrorInsufficientDriver"),
        (cuda(status=Status.cudaErrorNoDevice), "cudaErrorNoDevice"),
        (cuda(count=0), "there is no GPU 0: 0 were found"),
    ],
)
def test_without_a_gpu_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, there: Any, message: str
) -> None:
    monkeypatch.setattr(cuda_devices, "_bindings", lambda: there)
    with pytest.raises(EngineUnavailable, match=message):
        cuda_devices.find_device()


def test_missing_bindings_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(EngineUnavailable, match=r"pip install \"gidrn\[tensorrt\]\""):
        cuda_devices.find_device()


@pytest.mark.skipif(not HAS_WHEELS, reason="cuda-bindings are tested on Linux on x86-64")
def test_the_made_up_runtime_has_the_real_one_s_names() -> None:
    from cuda.bindings import runtime

    assert all(callable(getattr(runtime, name)) for name in vars(cuda()))
    for status in Status:
        assert runtime.cudaError_t(int(status)).name == status.name
    for name in ("name", "major", "minor", "totalGlobalMem"):
        assert hasattr(runtime.cudaDeviceProp, name)


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
