"""ONNX files read with NumPy alone: nodes, constants and metadata.

The file is one protobuf message (https://protobuf.dev/programming-guides/encoding, ONNX's
onnx.proto3 for the numbers of the fields). What is read is what an exported network of ours has:
everything in one file, dense constants of float32, int64 and a few other types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime.errors import ModelError

Constant = npt.NDArray[Any]

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
"""ONNX's numbers for the types of elements that are read, NumPy's names for them."""


@dataclass(frozen=True)
class Node:
    """One operation."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    """Numbers, tuples of numbers, text or a constant."""


@dataclass(frozen=True)
class Value:
    """One input or output of the graph."""

    name: str
    dtype: str
    """NumPy's name, or ONNX's number for a type not in `DTYPES`."""
    shape: tuple[int | None, ...]
    """None where a dimension is free."""


@dataclass(frozen=True)
class OnnxFile:
    """What a file says."""

    metadata: dict[str, str]
    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


Wire = tuple[int, int, Any]
"""Number of a field, kind of its coding, and the number or the bytes."""


def read(path: Path) -> OnnxFile:
    """Read an ONNX file.

    Raises:
        ModelError: it may not be read, is not an ONNX file, or is cut off or damaged, or keeps
            constants in another file or of a type that is not read here.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _model(memoryview(data))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, IndexError, struct.error, OverflowError, RecursionError) as error:
        raise ModelError(
            f"{path} ({len(data)} bytes) is not an ONNX file, or is damaged: {error}; download or "
            "export it again"
        ) from error


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and where what follows begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number is longer than ten bytes")


def _fields(data: Any) -> Iterator[Wire]:
    at = 0
    data = _bytes(data)
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field is coded in the unknown way {kind}")
        if size > len(data) - at:
            raise ValueError("it ends too early")
        yield number, kind, data[at : at + size]
        at += size


def _bytes(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a field that holds bytes is coded as a number")
    return value


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a field that holds a number is coded as bytes")
    return value - (1 << 64) if value >> 63 else value


def _text(value: Any) -> str:
    return str(_bytes(value), "utf-8")


def _numbers(kind: int, value: Any) -> Iterator[int]:
    """Signed integers, packed or one."""
    if kind == 0:
        yield _signed(value)
        return
    at = 0
    while at < len(_bytes(value)):
        one, at = _varint(value, at)
        yield _signed(one)


def _floats(value: Any) -> list[float]:
    """Floats, packed or one."""
    numbers: list[float] = np.frombuffer(_bytes(value), "<f4").tolist()
    return numbers


def _model(data: memoryview) -> OnnxFile:
    metadata: dict[str, str] = {}
    graphs = []
    for number, _, value in _fields(data):
        if number == 7:
            graphs.append(value)
        elif number == 14:
            entry = {key: _text(text) for key, _, text in _fields(value)}
            metadata[entry.get(1, "")] = entry.get(2, "")
    if len(graphs) != 1:
        raise ValueError("it has no graph" if not graphs else "it has several graphs")
    nodes, constants = [], {}
    ends: dict[int, list[Value]] = {11: [], 12: []}
    for number, _, value in _fields(graphs[0]):
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            name, constant = _constant(value)
            constants[name] = constant
        elif number == 15:
            raise ModelError("sparse constants are not read here")
        elif number in ends:
            ends[number].append(_value(value))
    for node in nodes:
        if node.operation == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
            constants[node.outputs[0]] = node.attributes["value"]
    inputs = tuple(value for value in ends[11] if value.name not in constants)
    return OnnxFile(metadata, tuple(nodes), constants, inputs, tuple(ends[12]))


def _node(data: memoryview) -> Node:
    inputs, outputs, operation = [], [], ""
    attributes: dict[str, Any] = {}
    for number, _, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            operation = _text(value)
        elif number == 5:
            name, attribute = _attribute(value)
            attributes[name] = attribute
        elif number == 7 and (domain := _text(value)):
            operation = f"{domain}::{operation}"  # of another domain than ONNX's own
    return Node(operation, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name = ""
    found: Any = None
    integers: list[int] = []
    floats: list[float] = []
    for number, kind, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            found = _floats(value)[0]
        elif number == 3:
            found = _signed(value)
        elif number == 4:
            found = bytes(_bytes(value)).decode("utf-8", "replace")
        elif number == 5:
            found = _constant(value)[1]
        elif number == 7:
            floats += _floats(value)
        elif number == 8:
            integers += _numbers(kind, value)
    return name, tuple(integers or floats) if integers or floats else found


@dataclass
class _Tensor:
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    name: str = ""
    raw: Any = None
    floats: list[float] = field(default_factory=list)
    integers: list[int] = field(default_factory=list)


def _constant(data: memoryview) -> tuple[str, Constant]:
    tensor = _Tensor()
    for number, kind, value in _fields(data):
        if number == 1:
            tensor.dims += _numbers(kind, value)
        elif number == 2:
            tensor.kind = _signed(value)
        elif number == 4:
            tensor.floats += _floats(value)
        elif number in (5, 7):
            tensor.integers += _numbers(kind, value)
        elif number == 8:
            tensor.name = _text(value)
        elif number == 9:
            tensor.raw = _bytes(value)
        elif number == 13 or (number == 14 and value):
            raise ModelError("its constants are in another file, which is not read here")
    if tensor.kind not in DTYPES:
        raise ModelError(
            f"the constant {tensor.name!r} is of ONNX's type {tensor.kind}, which is not read here"
        )
    if any(side < 0 for side in tensor.dims):
        raise ValueError(f"the constant {tensor.name!r} has the shape {tensor.dims}")
    dtype = np.dtype(DTYPES[tensor.kind])
    if tensor.raw is not None:
        array = np.frombuffer(tensor.raw, dtype.newbyteorder("<")).astype(dtype)
    elif tensor.kind == 10:  # bit patterns
        array = np.array(tensor.integers, np.uint16).view(dtype)
    else:
        array = np.array(tensor.floats or tensor.integers, dtype)
    return tensor.name, array.reshape(tensor.dims)


def _value(data: memoryview) -> Value:
    name, dtype = "", "none"
    shape: tuple[int | None, ...] = ()
    for number, _, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, _, tensor in _fields(value):
                if kind == 1:
                    dtype, shape = _tensor_type(tensor)
    return Value(name, dtype, shape)


def _tensor_type(data: memoryview) -> tuple[str, tuple[int | None, ...]]:
    dtype = "none"
    shape: list[int | None] = []
    for number, _, value in _fields(data):
        if number == 1:
            dtype = DTYPES.get(_signed(value), str(value))
        elif number == 2:
            for _, _, dimension in _fields(value):
                sides = [_signed(side) for key, _, side in _fields(dimension) if key == 1]
                shape.append(sides[0] if sides else None)
    return dtype, tuple(shape)
