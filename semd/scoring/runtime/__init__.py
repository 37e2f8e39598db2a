"""The scoring network's convolutions in ONNX Runtime: exported, verified, and run in place of torch."""
