"""From networks to ONNX files that anybody's tools load, each proved before it is called done."""
