"""The dtype of what an ONNX operator gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_tensors import StoredTensor, dtype_name

#: Attributes that name the dtype of the result, where they are set.
NAMING = ("to", "dtype", "output_dtype", "output_datatype")

#: TensorProto.DataType by the words of onnx.proto.
WORDS: Mapping[str, int] = dict(onnx.TensorProto.DataType.items())
#: dtype → operators that always give it, unless an attribute says otherwise.
ALWAYS: Mapping[str, str] = {
    "bool": """
        And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not OptionalHasElement Or
        RegexFullMatch Xor""",
    "int64": "ArgMax ArgMin NonMaxSuppression NonZero SequenceLength Shape Size",
    "int32": "ConvInteger MatMulInteger",
    "uint8": "DynamicQuantizeLinear",
    "float32": """
        BlackmanWindow ConstantOfShape HammingWindow HannWindow MelWeightMatrix RandomNormal
        RandomUniform TfIdfVectorizer""",
}
#: Position of the input whose dtype the result has, where it is not the first.
LIKE_INPUT: Mapping[str, int] = {
    "CastLike": 1,
    "DequantizeLinear": 1,
    "OneHot": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
    "QuantizeLinear": 2,
    "Where": 1,
}
UNKNOWN = frozenset({"If", "ImageDecoder", "Loop", "OptionalGetElement", "Scan", "SequenceMap"})
#: Operators all of whose outputs have the dtype of the first.
ALIKE = frozenset({"Attention", "BatchNormalization", "GRU", "LSTM", "RNN", "Split"})

_ALWAYS = {name: dtype for dtype, names in ALWAYS.items() for name in names.split()}


def data_type(node: OnnxNode, name: str) -> int:
    """An attribute that names a TensorProto.DataType: by number, below opset 6 by word; else 0."""
    return WORDS.get(node.text(name)) or node.integer(name, 0)


def result_dtype(node: OnnxNode, dtypes: Sequence[str]) -> str:
    """The dtype of a node's first output, by the dtypes of its inputs; empty where unknown."""
    if node.domain or node.op_type in UNKNOWN:
        return ""
    for name in NAMING:
        named = data_type(node, name)
        if named:
            return dtype_name(named)
    fill = node.attributes.get("value")
    if node.op_type == "ConstantOfShape" and isinstance(fill, StoredTensor):
        return fill.dtype
    if node.op_type in _ALWAYS:
        return _ALWAYS[node.op_type]
    position = LIKE_INPUT.get(node.op_type, 0)
    if position < len(dtypes):
        return dtypes[position]
    return "uint8" if node.op_type == "QuantizeLinear" else ""
