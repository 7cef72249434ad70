"""Step converter: a trained model as a self-contained ONNX bundle, gated by parity with PyTorch."""
