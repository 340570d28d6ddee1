"""ONNX graphs run node by node: what is known by NumPy, what is not on `keras.ops`."""
