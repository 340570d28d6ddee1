"""An ONNX graph as a `keras.Model` on `keras.ops`, differentiable on every backend of Keras."""
