"""What TensorRT computes in, told in its versions' words, and refused where it is not asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from export import layer_types
from export.layer_types import OtherTypesError

HALF_10 = "Channel major FP16 format where channel % 8 == 0"
FLOAT_10 = "Row major linear FP32"
DYNAMIC = "N/A due to dynamic shapes"
HALF, FLOAT = {"Type": "Half", "Count": 9}, {"Type": "Float", "Count": 9}


def layer(name: str, kind: str, came: str, gave: str, **more: Any) -> dict[str, Any]:
    """A layer as TensorRT 10 reports it."""
    ends = {"Inputs": [{"Format/Datatype": came}], "Outputs": [{"Format/Datatype": gave}]}
    return {"Name": name, "LayerType": kind, **ends, **more}


def report(*layers: object) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["input", "output"]})


@pytest.mark.parametrize(
    ("one", "weights", "ends"),
    [
        (layer("a", "CaskConvolution", HALF_10, HALF_10), None, "fp16"),
        (layer("a", "CaskConvolution", FLOAT_10, FLOAT_10), None, "fp32"),
        (layer("a", "kgen", "Half", "Float"), None, "mixed"),
        (layer("a", "kgen", "Half", "Float", Weights=HALF), "fp16", "mixed"),
        (layer("a", "CaskConvolution", HALF_10, HALF_10, Weights=FLOAT), "fp32", "fp16"),
        (layer("a", "kgen", "Half", "Half", Weights={"Type": "Float", "Count": 0}), None, "fp16"),
        (layer("a", "shape_call", "Int64", "Int64"), None, "integer"),
        (layer("a", "kgen", "Int64", "Half"), None, "fp16"),
        (layer("a", "kgen", "BFloat16", "BFloat16"), None, "other"),
        (layer("a", "CaskConvolution", DYNAMIC, DYNAMIC), None, "other"),
        (layer("a", "CaskConvolution", DYNAMIC, DYNAMIC, Weights=HALF), "fp16", "other"),
        ({"Name": "a", "LayerType": "NoOp"}, None, "other"),
        # TensorRT 11 has a tensor's type in a field of its own.
        (
            {
                "Name": "a",
                "Inputs": [{"DataType": "Half", "Format": "Row major linear (kLINEAR)"}],
                "Outputs": [{"DataType": "Half", "Format": "Row major linear (kLINEAR)"}],
            },
            None,
            "fp16",
        ),
    ],
)
def test_types_in_the_words_of_10_and_11(
    one: dict[str, Any], weights: str | None, ends: str
) -> None:
    (found,) = layer_types.of_engine(report(one))
    assert (found.weights, found.ends) == (weights, ends)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"Layers": []}', '{"Layers": ["conv_1"]}', '{"Layers": [{}]}']
)
def test_reports_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        layer_types.of_engine(text)


WANTED = {"conv_1": "fp16", "conv_2": "fp16", "conv_12": "fp32"}


@pytest.mark.parametrize(
    "one",
    [
        layer("conv_2 + relu_2", "CaskConvolution", FLOAT_10, FLOAT_10, Weights=FLOAT),
        layer("fused", "kgen", "Float", "Float", Metadata="[ONNX Layer: conv_1]", Weights=FLOAT),
        layer("conv_1", "CaskConvolution", HALF_10, HALF_10, Weights=FLOAT),
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
        layer("conv_12 + relu", "CaskConvolution", FLOAT_10, FLOAT_10, Weights=FLOAT),  # as asked
        layer("conv_1 + conv_12", "Myelin", FLOAT_10, FLOAT_10, Weights=FLOAT),  # some as asked
        layer("conv_1", "CaskConvolution", HALF_10, FLOAT_10),  # FP16, widened on its way out
        layer("{ForeignNode[conv_1...conv_2]}", "Myelin", "Float", "Float"),  # casts at its ends
        layer("Reformatting CopyNode for conv_1", "Reformat", FLOAT_10, FLOAT_10, Weights=FLOAT),
        layer("reduce_1", "kgen", "Float", "Float"),
    ],
)
def test_what_is_fp32_by_right_passes(one: dict[str, Any]) -> None:
    layer_types.check_engine(layer_types.of_engine(report(one)), WANTED)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([layer("conv_1 + relu", "CaskConvolution", HALF_10, HALF_10)], 1),
        ([layer("conv_1", "CaskConvolution", DYNAMIC, DYNAMIC, Weights=HALF)], 1),
        ([layer("fused", "kgen", "Half", "Half", Metadata="[ONNX Layer: conv_1]\x1econv_2")], 2),
        ([layer("conv_1", "CaskConvolution", DYNAMIC, DYNAMIC)], 0),
        ([layer("{ForeignNode[conv_1...conv_2]}", "Myelin", "Float", "Float")], 0),
        ([layer("relu", "kgen", "Half", "Half")], 0),
    ],
)
def test_how_many_convolutions_an_engine_tells_of(layers: list[dict[str, Any]], told: int) -> None:
    found = layer_types.of_engine(report(*layers))
    assert layer_types.check_engine(found, WANTED) == (told, 2)


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
