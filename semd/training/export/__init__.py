"""Export of the scoring network to ONNX Runtime, verified against eager torch."""
