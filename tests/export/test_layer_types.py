"""What TensorRT computes in, told in its versions' words, and refused where it is not asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from export import layer_types
from export.layer_types import OtherTypesError

HALF_10 = "Channel major FP16 format where channel % 8 == 0"
FLOAT_10 = "Row major linear FP32"


def layer(name: str, kind: str, came: str, gave: str, **more: Any) -> dict[str, Any]:
    """A layer as TensorRT 10 reports it."""
    ends = {"Inputs": [{"Format/Datatype": came}], "Outputs": [{"Format/Datatype": gave}]}
    return {"Name": name, "LayerType": kind, **ends, **more}


def report(*layers: object) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["input", "output"]})


@pytest.mark.parametrize(
    ("one", "dtype"),
    [
        (layer("a", "CaskConvolution", HALF_10, HALF_10), "fp16"),
        (layer("a", "CaskConvolution", FLOAT_10, FLOAT_10), "fp32"),
        (layer("a", "kgen", "Half", "Float"), "mixed"),
        (layer("a", "kgen", "Half", "Float", Weights={"Type": "Half", "Count": 9}), "fp16"),
        (layer("a", "CaskConvolution", HALF_10, HALF_10, Weights={"Type": "Float"}), "fp32"),
        (layer("a", "kgen", "Half", "Half", Weights={"Type": "Float", "Count": 0}), "fp16"),
        (layer("a", "shape_call", "Int64", "Int64"), "integer"),
        (layer("a", "kgen", "Int64", "Half"), "fp16"),
        (layer("a", "kgen", "BFloat16", "BFloat16"), "other"),
        ({"Name": "a", "LayerType": "NoOp"}, "other"),
        # TensorRT 11 has a tensor's type in a field of its own.
        (
            {
                "Name": "a",
                "Inputs": [{"DataType": "Half", "Format": "Row major linear (kLINEAR)"}],
                "Outputs": [{"DataType": "Half", "Format": "Row major linear (kLINEAR)"}],
            },
            "fp16",
        ),
    ],
)
def test_types_in_the_words_of_10_and_11(one: dict[str, Any], dtype: str) -> None:
    assert [found[2] for found in layer_types.of_engine(report(one))] == [dtype]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": ["conv_1"]}', '{"Layers": [{}]}'])
def test_reports_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        layer_types.of_engine(text)


WANTED = {"conv_1": "fp16", "conv_2": "fp16", "conv_12": "fp32"}


@pytest.mark.parametrize(
    "one",
    [
        layer("conv_2 + relu_2", "CaskConvolution", FLOAT_10, FLOAT_10),
        layer("fused", "kgen", "Float", "Float", Metadata="[ONNX Layer: conv_1][ONNX Layer: relu]"),
        layer("conv_1", "CaskConvolution", HALF_10, HALF_10, Weights={"Type": "Float"}),
    ],
)
def test_an_fp32_convolution_that_should_be_fp16_is_named(one: dict[str, Any]) -> None:
    good = layer("conv_1", "CaskConvolution", HALF_10, HALF_10)
    found = layer_types.of_engine(report(good, one))
    with pytest.raises(OtherTypesError, match="computes in FP32") as caught:
        layer_types.check_engine(found, WANTED)
    assert one["Name"] in str(caught.value)


@pytest.mark.parametrize(
    "one",
    [
        layer("conv_12 + relu", "CaskConvolution", FLOAT_10, FLOAT_10),  # FP32 in the file too
        layer("conv_1", "CaskConvolution", HALF_10, FLOAT_10),  # FP16, widened on its way out
        layer("Reformatting CopyNode for conv_1", "Reformat", FLOAT_10, FLOAT_10),
        layer("reduce_1", "kgen", "Float", "Float"),
    ],
)
def test_what_is_fp32_by_right_passes(one: dict[str, Any]) -> None:
    layer_types.check_engine(layer_types.of_engine(report(one)), WANTED)


def test_shares_keep_reformats_apart() -> None:
    found = layer_types.of_engine(
        report(
            layer("a", "CaskConvolution", HALF_10, HALF_10),
            layer("b", "CaskConvolution", HALF_10, HALF_10),
            layer("c", "Reformat", FLOAT_10, HALF_10),
            layer("d", "kgen", "Float", "Float"),
        )
    )
    assert layer_types.shares(found) == {"fp16": 2, "fp32": 1, "reformat": 1}


def test_a_network_read_otherwise_than_the_file_is_refused() -> None:
    layer_types.check_network({**WANTED, "relu": "fp32"}, WANTED)
    with pytest.raises(OtherTypesError, match="conv_2 is fp32, not fp16"):
        layer_types.check_network({**WANTED, "conv_2": "fp32"}, WANTED)
    with pytest.raises(OtherTypesError, match=r"1 of 3 convolutions .* conv_12 is missing"):
        layer_types.check_network({"conv_1": "fp16", "conv_2": "fp16"}, WANTED)
