"""Implementations of ONNX operators on `keras.ops`, one family a file."""
