"""OpenVINO on the CPU: Intel's, and any other x86-64 or Arm one."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gidrn_runtime import optional, plans
from gidrn_runtime.engines.base import Array, Engine, TensorSpec
from gidrn_runtime.engines.ort_cpu import OUT_OF_MEMORY, one_line
from gidrn_runtime.errors import EngineError, EngineUnavailable, FrameTooLargeError, ModelError

DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "f64": "float64", "i64": "int64"}
"""OpenVINO's names of element types -> NumPy's, as far as images have them."""


class OpenVino(Engine):
    """One ONNX file compiled once, for the sizes that the file leaves free; a request a call.

    It computes in FP32: by itself OpenVINO would take bfloat16 on a CPU that has it, which moves
    pictures by a level or two.
    """

    name = "openvino"
    remedy = 'pip install "gidrn[openvino]"'
    tile_engine = "ort-cpu"
    opens_slowly = True
    properties: ClassVar[dict[str, str]] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }

    @classmethod
    def installed_version(cls) -> str:
        openvino = cls._import()
        if "CPU" not in openvino.Core().available_devices:
            raise EngineUnavailable(
                f"{cls.name}: OpenVINO {openvino.__version__} has no CPU device here; {cls.remedy}"
            )
        return str(openvino.__version__)

    @classmethod
    def build(cls) -> str:
        try:
            return metadata.version("openvino")
        except metadata.PackageNotFoundError as error:
            raise EngineUnavailable(f"{cls.name} is not installed; {cls.remedy}") from error

    @classmethod
    def _import(cls) -> Any:
        needs = f"{cls.name} needs OpenVINO"
        return optional.load("openvino", needs, cls.remedy, EngineUnavailable)

    def __init__(self, model: Path, threads: int | None = None) -> None:
        self._openvino = self._import()
        self._version = self.installed_version()
        if plans.is_plan(model):
            raise ModelError(
                f"{self.name} opens ONNX files; {model} is a TensorRT plan: engine='tensorrt' or "
                "'tensorrt-rtx' opens it, whichever built it"
            )
        if not os.access(model, os.R_OK):
            raise ModelError(f"{model} may not be read by this user")
        properties: dict[str, Any] = dict(self.properties)
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        core = self._openvino.Core()
        try:
            network = self._read(model)
            self._compiled: Any = core.compile_model(network, "CPU", properties)
        except Exception as error:  # RuntimeError and others, without a base of their own
            if isinstance(error, MemoryError) or any(w in str(error) for w in OUT_OF_MEMORY):
                raise EngineError(f"{self.name} has too little memory for {model}") from error
            raise ModelError(
                f"{model} ({model.stat().st_size} bytes) is not an ONNX file that OpenVINO "
                f"{self._version} can load: {one_line(error)}; download or export it again"
            ) from error
        self._threads = threads
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        if used != self._openvino.Type.f32:
            raise EngineUnavailable(f"OpenVINO was asked to compute in f32 and takes {used}")
        said = network.get_rt_info()["framework"] if network.has_rt_info("framework") else {}
        self.metadata = {key: str(value.value) for key, value in said.items()}
        self.inputs = tuple(_spec(port) for port in network.inputs)
        self.outputs = tuple(_spec(port) for port in network.outputs)

    def _read(self, model: Path) -> Any:
        """The network of an ONNX file; `read_model` would try the readers of all other formats,
        which print what they do not understand."""
        from openvino.frontend import FrontEndManager

        reader = FrontEndManager().load_by_framework("onnx")
        return reader.convert(reader.load(str(model)))

    def run(self, tensor: Array) -> Array:
        try:
            request = self._compiled.create_infer_request()
            request.set_input_tensor(self._openvino.Tensor(tensor, shared_memory=True))
            request.infer()
            # A copy: the request owns the memory, and goes with this call.
            output: Array = np.array(request.get_output_tensor(0).data)
        except Exception as error:
            message = one_line(error)
            if isinstance(error, MemoryError) or any(word in message for word in OUT_OF_MEMORY):
                raise FrameTooLargeError(f"{self.name} ran out of memory: {message}") from error
            raise EngineError(f"{self.name} failed: {message}") from error
        return output

    def close(self) -> None:
        self._compiled = None

    def describe(self) -> dict[str, object]:
        return {
            "engine": self.name,
            "engine_version": self._version,
            "device": "cpu",
            "threads": self._threads,
            "inference_precision": "f32",
        }


def _spec(port: Any) -> TensorSpec:
    """A port's name, type and shape; a dimension that may vary is None."""
    kind = port.element_type.get_type_name()
    shape = tuple(int(side.get_length()) if side.is_static else None for side in port.partial_shape)
    return TensorSpec(port.any_name, DTYPES.get(kind, kind), shape)
