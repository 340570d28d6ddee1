"""What exporters write several nodes for: the table of layers.

A dense layer is MatMul and Add, a GELU five nodes, a layer normalization nine. A new way of writing
a layer is a new option of its pattern in one of the tables gathered here, and nothing elsewhere.
Batch normalization stays a call of its own beside the convolution it follows: rules judge the one
by its statistics and the other by its kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from auditor.formats.onnx_pattern_activations import ACTIVATION_LAYERS
from auditor.formats.onnx_pattern_affine import (
    AFFINE_LAYERS,
    PADDED,
    QUANTIZED_LAYERS,
    UNROLLED,
)
from auditor.formats.onnx_pattern_attention import ATTENTION_LAYERS, HEADS
from auditor.formats.onnx_pattern_norms import NORMS
from auditor.formats.onnx_patterns import Layer, Surroundings

#: Among layers that can end in one node the first that matches is taken: the longer ones first.
LAYERS: tuple[Layer, ...] = (
    *ATTENTION_LAYERS,
    *NORMS,
    *QUANTIZED_LAYERS,
    *ACTIVATION_LAYERS,
    *AFFINE_LAYERS,
)

#: Operators that are a layer in one node, and what exporters put around it.
SURROUNDINGS: Mapping[str, Surroundings] = {
    "Attention": HEADS,
    "Conv": PADDED,
    "GRU": UNROLLED,
    "LSTM": UNROLLED,
    "RNN": UNROLLED,
}
