"""The layer graph: one type for Keras and ONNX models, and analyses of it. Knows no file format."""

from auditor.graph.compile_settings import (
    CompileSettings,
    LossSettings,
    OptimizerSettings,
)
from auditor.graph.layer_graph import Edge, InputSpec, LayerCall, LayerGraph, Shape
from auditor.graph.operators import Op
from auditor.graph.weight import Initializer, TensorReader, Weight

__all__ = [
    "CompileSettings",
    "Edge",
    "Initializer",
    "InputSpec",
    "LayerCall",
    "LayerGraph",
    "LossSettings",
    "Op",
    "OptimizerSettings",
    "Shape",
    "TensorReader",
    "Weight",
]
