"""What a TensorRT network or engine computes in, layer by layer, and whether that was asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import onnx

FP16, FP32, MIXED, INTEGER, OTHER = "fp16", "fp32", "mixed", "integer", "other"

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
        if node.op_type == "Conv"
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


def of_engine(report: str) -> list[tuple[str, str, str]]:
    """An engine's own report as (layer, kind, type); the kind is TensorRT's `LayerType`.

    `report` is what `EngineInspector.get_engine_information` gives as JSON for an engine built with
    detailed verbosity. A layer's type is that of its weights, where the report tells; else what its
    inputs and outputs have in common, "mixed" where they are of two types.

    Raises:
        ValueError: it is no such report.
    """
    try:
        layers = json.loads(report)["Layers"]
        if not all(isinstance(layer, dict) for layer in layers):
            raise ValueError("layers are names alone: built without detailed verbosity")
        return [
            (
                f"{layer['Name']} {layer.get('Metadata', '')}".strip(),
                str(layer.get("LayerType", "")),
                _layer_type(layer),
            )
            for layer in layers
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"TensorRT's report of the engine cannot be read: {error}") from error


def _layer_type(layer: Mapping[str, Any]) -> str:
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Count", 1):
        return _named_type(str(weights.get("Type", "")))
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


def check_engine(layers: Iterable[tuple[str, str, str]], wanted: Mapping[str, str]) -> None:
    """Raise OtherTypesError where an engine computes FP16 convolutions of the file in FP32.

    A layer of the engine may hold several of the file's, and its name or metadata has their names.
    An FP32 one is at fault where all the convolutions that it holds are FP16 in the file. A
    reformat, which may carry its neighbour's name, is none.
    """
    wrong = []
    for name, kind, dtype in layers:
        words = set(name.replace("+", " ").replace("]", " ").replace("[", " ").split())
        held = [wanted[part] for part in words if part in wanted]
        if dtype == FP32 and "reformat" not in kind.lower() and held and set(held) == {FP16}:
            wrong.append(f"{name} ({kind})")
    if wrong:
        raise OtherTypesError(
            f"FP16 was asked for, and the engine computes in FP32: {_some(wrong)}"
        )


def shares(layers: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    """How many layers of each type an engine has; reformats, which compute nothing, apart."""
    counts: Counter[str] = Counter()
    for _, kind, dtype in layers:
        counts["reformat" if "reformat" in kind.lower() else dtype] += 1
    return dict(sorted(counts.items()))


def _some(names: list[str]) -> str:
    rest = f"; and {len(names) - 8} more" if len(names) > 8 else ""
    return "; ".join(names[:8]) + rest
