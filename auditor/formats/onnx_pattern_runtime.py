"""Operators of onnxruntime's own domain: its optimizer writes one where a pattern of nodes was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from auditor.formats.onnx_operators import KERNEL, Operator
from auditor.graph.operators import Op

DOMAIN = "com.microsoft"
_NORM = {1: "gamma", 2: "beta"}
_SKIP = "adds its first two inputs before it normalizes"

#: Operators with weights, and what each input is. Kernels packed into fewer bits than numpy has
#: have no fans that their shape tells, and are no kernels here.
_WEIGHTED: Mapping[str, tuple[Op, Mapping[int, str]]] = {
    "Attention": (Op.ATTENTION, {1: "kernel", 2: "bias"}),
    "DynamicQuantizeLSTM": (Op.LSTM, {1: "other", 2: "other", 3: "bias"}),
    "DynamicQuantizeMatMul": (Op.DENSE, {1: "kernel", 4: "bias"}),
    "EmbedLayerNormalization": (
        Op.EMBEDDING,
        {2: "embeddings", 3: "other", 4: "other", 5: "gamma", 6: "beta"},
    ),
    "FusedConv": (Op.CONV, KERNEL),
    "FusedGemm": (Op.DENSE, KERNEL),
    "FusedMatMul": (Op.DENSE, {0: "kernel", 1: "kernel"}),
    "FusedMatMulActivation": (Op.DENSE, {0: "kernel", 1: "kernel"}),
    "GroupNorm": (Op.GROUP_NORM, _NORM),
    "MatMulBnb4": (Op.DENSE, {1: "other"}),
    "MatMulIntegerToFloat": (Op.DENSE, {1: "kernel", 6: "bias"}),
    "MatMulNBits": (Op.DENSE, {1: "other", 5: "bias"}),
    "MultiHeadAttention": (Op.DOT_ATTENTION, {3: "bias"}),
    "QAttention": (Op.ATTENTION, {1: "kernel", 2: "bias"}),
    "QGemm": (Op.DENSE, {3: "kernel", 6: "bias"}),
    "SimplifiedLayerNormalization": (Op.RMS_NORM, {1: "gamma"}),
    "SkipGroupNorm": (Op.GROUP_NORM, _NORM),
    "SkipLayerNormalization": (Op.LAYER_NORM, {2: "gamma", 3: "beta", 4: "bias"}),
    "SkipSimplifiedLayerNormalization": (Op.RMS_NORM, {2: "gamma", 3: "bias"}),
    "TransposeMatMul": (Op.DENSE, {0: "kernel", 1: "kernel"}),
}
_PLAIN: Mapping[Op, str] = {
    Op.ADD: "QLinearAdd",
    Op.AVERAGE_POOL: "QLinearAveragePool",
    Op.CONCATENATE: "QLinearConcat",
    Op.DOT_ATTENTION: """
        DecoderMaskedMultiHeadAttention GroupQueryAttention PackedAttention
        PackedMultiHeadAttention PagedAttention SparseAttention""",
    Op.DROPOUT: "BitmaskDropout BiasDropout",
    Op.ELEMENTWISE: "GemmaRotaryEmbedding RotaryEmbedding",
    Op.GLOBAL_AVERAGE_POOL: "QLinearGlobalAveragePool",
    Op.MAX_POOL: "NhwcMaxPool",
    Op.MULTIPLY: "QLinearMul",
    Op.PAD: "Pad",
    Op.QUANTIZE: "DequantizeLinear QuantizeLinear",
    Op.RESHAPE: "ExpandDims",
}
_ACTIVATIONS: Mapping[str, str] = {
    "BiasGelu": "gelu",
    "BiasSoftmax": "softmax",
    "FastGelu": "gelu",
    "Gelu": "gelu",
    "QLinearLeakyRelu": "leaky_relu",
    "QLinearSigmoid": "sigmoid",
    "QLinearSoftmax": "softmax",
    "QuickGelu": "gelu",
}
#: Names of the activation that a fused node gives in its attribute "activation".
FUSED_ACTIVATIONS: Mapping[str, str] = {
    "Elu": "elu",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_silu",
    "LeakyRelu": "leaky_relu",
    "Relu": "relu",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}


def _entries() -> Iterator[tuple[str, Operator]]:
    for op, names in _PLAIN.items():
        for name in names.split():
            yield name, Operator(op=op)
    for name, activation in _ACTIVATIONS.items():
        bias = {1: "bias"} if name in ("BiasGelu", "FastGelu") else {}
        yield name, Operator(op=Op.ACTIVATION, activation=activation, roles=bias)
    for name, (op, roles) in _WEIGHTED.items():
        note = _SKIP if name.startswith("Skip") else ""
        yield name, Operator(op=op, roles=roles, note=note)


#: Operator type → what it is.
RUNTIME: Mapping[str, Operator] = dict(_entries())
