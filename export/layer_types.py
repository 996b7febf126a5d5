"""What a TensorRT network or engine computes in, layer by layer, and whether that was asked for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

FP16, FP32, MIXED, INTEGER, OTHER = "fp16", "fp32", "mixed", "integer", "other"

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""ONNX's operators whose second input is a kernel."""

_NETWORK_TYPES = {"HALF": FP16, "FLOAT": FP32}
_INTEGERS = {"INT8", "INT32", "INT64", "BOOL", "UINT8", "INT4"}
_ONNX_TYPES = {onnx.TensorProto.FLOAT16: FP16, onnx.TensorProto.FLOAT: FP32}


class OtherTypesError(ValueError):
    """TensorRT would compute in other types than the file says; the message names the layers."""


def of_onnx_convolutions(model: onnx.ModelProto) -> dict[str, str]:
    """Each convolution of a typed graph by its node's name: the type of its weights."""
    weights = {one.name: one.data_type for one in model.graph.initializer}
    return {
        node.name: _ONNX_TYPES.get(weights.get(node.input[1], 0), OTHER)
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS
    }


def of_network(network: Any) -> dict[str, str]:
    """Each layer of a parsed network, before the build: the type of its first output."""
    return {
        layer.name: _network_type(layer.get_output(0).dtype)
        for layer in (network.get_layer(index) for index in range(network.num_layers))
        if layer.num_outputs
    }


def _network_type(dtype: Any) -> str:
    name = dtype.name
    return _NETWORK_TYPES.get(name, INTEGER if name in _INTEGERS else OTHER)


def check_network(types: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise OtherTypesError where a convolution is not of the type its weights have in the file."""
    wrong = [
        f"{name} is {types.get(name, 'missing')}, not {dtype}"
        for name, dtype in wanted.items()
        if types.get(name) != dtype
    ]
    if wrong:
        raise OtherTypesError(
            f"TensorRT reads {len(wrong)} of {len(wanted)} convolutions otherwise than the file "
            f"says: {_some(wrong)}"
        )


@dataclass(frozen=True)
class EngineLayer:
    """A layer of an engine, as TensorRT reports it."""

    name: str
    """Its own, and those of the file's nodes that it holds, as far as it tells."""
    kind: str
    """TensorRT's `LayerType`."""
    weights: str | None
    """Type of its weights; None where it does not tell."""
    ends: str
    """Type of its inputs and outputs; "mixed" where they have two, "other" where it does not tell,
    as for sizes that are not set."""

    @property
    def is_reformat(self) -> bool:
        """Whether it moves data and computes nothing."""
        return "reformat" in self.kind.lower()


def of_engine(report: str) -> list[EngineLayer]:
    """An engine's own report: what `EngineInspector.get_engine_information` gives as JSON.

    Raises:
        ValueError: it is no such report, or of an engine built without detailed verbosity.
    """
    try:
        layers = json.loads(report)["Layers"]
        if not layers or not all(isinstance(layer, dict) for layer in layers):
            raise ValueError("it has no layers, or their names alone")
        return [
            EngineLayer(
                f"{layer['Name']} {layer.get('Metadata', '')}".strip(),
                str(layer.get("LayerType", "")),
                _weights_type(layer),
                _ends_type(layer),
            )
            for layer in layers
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"TensorRT's report of the engine cannot be read: {error}") from error


def _weights_type(layer: Mapping[str, Any]) -> str | None:
    weights = layer.get("Weights")
    if not isinstance(weights, dict) or not weights.get("Count", 1):
        return None
    dtype = _named_type(str(weights.get("Type", "")))
    return None if dtype == OTHER else dtype


def _ends_type(layer: Mapping[str, Any]) -> str:
    ends = {_tensor_type(tensor) for key in ("Inputs", "Outputs") for tensor in layer.get(key, [])}
    floats = ends - {INTEGER}  # shapes that come along say nothing of the arithmetic
    types = floats or ends or {OTHER}
    return types.pop() if len(types) == 1 else MIXED


def _tensor_type(tensor: Mapping[str, Any]) -> str:
    """TensorRT 10 has a tensor's type inside "Format/Datatype", 11 as "DataType"."""
    return _named_type(str(tensor.get("DataType") or tensor.get("Format/Datatype") or ""))


def _named_type(words: str) -> str:
    """TensorRT's word for a type, or the sentence that has it inside."""
    words = words.lower()
    if "bf16" in words or "bfloat" in words:
        return OTHER
    if "fp16" in words or "half" in words:
        return FP16
    if "fp32" in words or "float" in words:
        return FP32
    return INTEGER if "int" in words or "bool" in words else OTHER


def check_engine(layers: Iterable[EngineLayer], wanted: Mapping[str, str]) -> tuple[int, int]:
    """Look for the file's FP16 convolutions; how many of them the engine tells to be FP16, of all.

    A layer may hold several of the file's nodes. It tells their type by that of its weights, or by
    ends that are FP16; FP32 ends alone say nothing of what is between them.

    Raises:
        OtherTypesError: a layer has FP32 weights whose convolutions are all FP16 in the file.
    """
    asked = {name for name, dtype in wanted.items() if dtype == FP16}
    told: set[str] = set()
    wrong = []
    for layer in layers:
        if layer.is_reformat:  # may carry its neighbour's name
            continue
        held = set(re.findall(r"[^\s+\[\]{}\x1e]+", layer.name.replace("...", " "))) & set(wanted)
        if held and layer.weights == FP32 and held <= asked:
            wrong.append(f"{layer.name} ({layer.kind})")
        elif (layer.weights or layer.ends) == FP16:
            told |= held & asked
    if wrong:
        raise OtherTypesError(
            f"FP16 was asked for, and the engine computes in FP32: {_some(wrong)}"
        )
    return len(told), len(asked)


def shares(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """How many layers of each type an engine has, by weights or else ends; reformats apart."""
    counts = Counter(
        "reformat" if layer.is_reformat else layer.weights or layer.ends for layer in layers
    )
    return dict(sorted(counts.items()))


def _some(names: list[str]) -> str:
    rest = f"; and {len(names) - 8} more" if len(names) > 8 else ""
    return "; ".join(names[:8]) + rest
