"""Layers with a kernel as exporters write them in several nodes, and what they put around them."""

from __future__ import annotations

from auditor.formats.onnx_conditions import (
    adds_to_channels,
    adds_to_last_axis,
    adds_to_last_two_axes,
    adds_to_rows,
    channels_to_first,
    channels_to_last,
    is_parameter,
    is_table,
    keeps_last_axis,
    merges_heads,
    merges_leading_axes,
    pads_positions,
    splits_last_axis,
    to_float,
    without_bias,
)
from auditor.formats.onnx_pattern_pieces import BIAS, KERNEL, UNKEPT, X
from auditor.formats.onnx_patterns import (
    Data,
    Fixed,
    Layer,
    Number,
    Pattern,
    Surroundings,
    either,
    near,
    op,
)
from auditor.graph.operators import Op

#: Zeros that are put around positions before a convolution belong to its padding.
PADDED = Surroundings(before=(near("Pad", pads_positions),))
#: Exporters run recurrent operators with time first and a direction axis, and turn both back.
UNROLLED = Surroundings(
    before=(near("Transpose Squeeze Unsqueeze"),),
    after=(near("Transpose Squeeze Reshape"),),
)


def _dense(x: Pattern) -> Pattern:
    """x·W + b, either by itself or over all but the last axis merged and restored."""
    flat = op("Reshape", x, test=merges_leading_axes)
    merged = op("MatMul", either(flat, op("Reshape", x, test=merges_heads)), KERNEL)
    return either(
        op("Add", op("MatMul", x, KERNEL), BIAS, test=adds_to_last_axis),
        op("Add", op("MatMul", KERNEL, x), BIAS, test=adds_to_rows),
        op("Add", op("Reshape", merged, test=keeps_last_axis), BIAS, test=adds_to_last_axis),
        op("Reshape", op("Add", merged, BIAS, test=adds_to_last_axis), test=keeps_last_axis),
        op("Reshape", merged, test=keeps_last_axis),
        # Units in heads, as the projections of Keras' attention are.
        op("Add", op("Reshape", merged, test=splits_last_axis), BIAS, test=adds_to_last_two_axes),
    )


def _matrix(x: Pattern) -> Pattern:
    """x·W + b by Gemm, which takes matrices: other shapes are merged before, restored after."""
    rows = either(op("Reshape", x, test=merges_leading_axes), x)
    plain = op("Gemm", rows, KERNEL, test=without_bias)
    whole = either(op("Gemm", rows, KERNEL, BIAS), plain)
    return either(
        op("Add", op("Reshape", plain, test=keeps_last_axis), BIAS, test=adds_to_last_axis),
        op("Add", plain, BIAS, test=adds_to_last_axis),
        op("Reshape", whole, test=keeps_last_axis),
    )


def _convolution(op_type: str) -> Pattern:
    plain = op(op_type, X, KERNEL, test=without_bias)
    return op("Add", plain, BIAS, test=adds_to_channels)


def _channels_last(op_type: str) -> Pattern:
    """A convolution of (n, …, c), turned for an operator that wants (n, c, …), and back."""
    turned = op("Transpose", X, test=channels_to_first)
    within = either(op("Pad", turned, test=pads_positions), turned)
    plain = op(op_type, within, KERNEL, test=without_bias)
    biased = op(op_type, within, KERNEL, BIAS)
    back = op("Transpose", plain, test=channels_to_last)
    return either(
        op("Add", back, BIAS, test=adds_to_last_axis),
        back,
        op("Transpose", biased, test=channels_to_last),
    )


CHANNELS_LAST = {"data_format": "channels_last"}
_TABLE = Fixed("embeddings", test=is_table)
_IS_NEGATIVE = op("Less", either(op("Cast", X), X), Number(0))
_FROM_THE_END = op("Add", X, UNKEPT)
#: Indices below zero counted from the end, as tf.gather has them.
_WRAPPED = either(
    op("Where", _IS_NEGATIVE, _FROM_THE_END, X),
    op(
        "Add",
        op("Mul", op("Cast", _IS_NEGATIVE), _FROM_THE_END),
        op("Mul", X, op("Cast", op("Not", _IS_NEGATIVE))),
    ),
)

AFFINE_LAYERS: tuple[Layer, ...] = (
    Layer(kind="MatMul", op=Op.DENSE, pattern=_dense(X)),
    Layer(
        kind="Gemm",
        op=Op.DENSE,
        pattern=_matrix(X),
    ),
    Layer(
        kind="Einsum",
        op=Op.EINSUM_DENSE,
        pattern=either(
            op("Add", op("Einsum", X, KERNEL), BIAS, test=adds_to_last_two_axes),
            op("Add", op("Einsum", KERNEL, X), BIAS, test=adds_to_last_two_axes),
        ),
    ),
    Layer(kind="Conv", op=Op.CONV, pattern=_channels_last("Conv"), config=CHANNELS_LAST),
    Layer(
        kind="ConvTranspose",
        op=Op.CONV_TRANSPOSE,
        pattern=_channels_last("ConvTranspose"),
        config=CHANNELS_LAST,
    ),
    Layer(
        kind="Conv",
        op=Op.CONV,
        pattern=_convolution("Conv"),
        surroundings=PADDED,
    ),
    Layer(kind="ConvTranspose", op=Op.CONV_TRANSPOSE, pattern=_convolution("ConvTranspose")),
    Layer(
        kind="Gather",
        op=Op.EMBEDDING,
        pattern=op("Gather", _TABLE, _WRAPPED),
    ),
    Layer(
        kind="Scale",
        op=Op.SCALE,
        pattern=op("Add", op("Mul", X, Fixed("gamma", is_parameter)), Fixed("beta", is_parameter)),
    ),
    Layer(
        kind="Rescaling",
        op=Op.SCALE,
        pattern=either(
            op("Add", op("Mul", X, Number(name="scale")), Number(name="offset")),
            op("Add", op("Div", X, Number(name="scale", inverse=True)), Number(name="offset")),
        ),
    ),
)

_SCALE = Data("input_scale")
_QUANTIZED = op("DynamicQuantizeLinear", X, output=0), op("DynamicQuantizeLinear", X, output=2)
_SHARED = Data("quantized"), Data("zero_point")


def _integers(op_type: str, operands: tuple[Pattern, Pattern]) -> Pattern:
    quantized, zero_point = operands
    return op(op_type, quantized, KERNEL, zero_point)


def _rescaled(op_type: str, operands: tuple[Pattern, Pattern], scale: Pattern) -> Pattern:
    """What integers make, back in units of what came in: · input scale · kernel scale."""
    scales = op("Mul", scale, UNKEPT)
    integers = _integers(op_type, operands)
    # A convolution's bias is divided by the scales first, and added as an integer.
    rounded = op("Cast", op("Floor", op("Div", BIAS, scales)))
    biased = op("Add", integers, op("Reshape", rounded))
    return op("Mul", op("Cast", either(integers, biased), test=to_float), scales)


def _quantized(op_type: str) -> Pattern:
    alone = _rescaled(op_type, _QUANTIZED, op("DynamicQuantizeLinear", X, output=1))
    shared = _rescaled(op_type, _SHARED, _SCALE)
    test = adds_to_last_axis if op_type == "MatMulInteger" else adds_to_channels
    return either(
        op("Add", alone, BIAS, test=test), op("Add", shared, BIAS, test=test), alone, shared
    )


_COMES_IN = ("x", "quantized", "input_scale", "zero_point")
QUANTIZED_LAYERS: tuple[Layer, ...] = (
    Layer(kind="MatMulInteger", op=Op.DENSE, pattern=_quantized("MatMulInteger"), data=_COMES_IN),
    Layer(kind="ConvInteger", op=Op.CONV, pattern=_quantized("ConvInteger"), data=_COMES_IN),
    Layer(
        kind="QuantizeLinear",
        op=Op.QUANTIZE,
        pattern=op("DequantizeLinear", op("QuantizeLinear", X)),
    ),
)
