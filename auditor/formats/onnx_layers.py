"""What exporters write several nodes for: the table of layers and their patterns.

A dense layer is MatMul and Add, a GELU five nodes, a layer normalization nine. A new way of writing
a layer is a new option of its pattern here, and nothing elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditor.formats.onnx_conditions import (
    adds_to_channels,
    adds_to_last_axis,
    any_axes,
    from_0_to_6,
    keeps_last_axis,
    last_axes,
    merges_leading_axes,
    plain_norm,
    slope_of_a_sixth,
    without_bias,
)
from auditor.formats.onnx_patterns import (
    Data,
    Fixed,
    NodeTest,
    Number,
    Pattern,
    either,
    op,
    product,
)
from auditor.graph.operators import Op

#: The name patterns give to the value that comes in; weights have their role for a name.
DATA = "x"
X = Data(DATA)
GAMMA, BETA, KERNEL, BIAS = Fixed("gamma"), Fixed("beta"), Fixed("kernel"), Fixed("bias")
EPSILON = Number(name="epsilon")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A kind of layer that exporters write as several nodes."""

    kind: str
    op: Op
    pattern: Pattern
    activation: str | None = None


def _square(of: Pattern) -> Pattern:
    return either(op("Pow", of, Number(2)), op("Mul", of, of))


def _inverse(of: Pattern) -> Pattern:
    return either(op("Reciprocal", of), op("Div", Number(1), of), op("Pow", of, Number(-1)))


def _divided(dividend: Pattern, divisor: Pattern) -> Pattern:
    return either(op("Div", dividend, divisor), op("Mul", dividend, _inverse(divisor)))


def _scaled(of: Pattern, factor: float) -> Pattern:
    return either(op("Mul", of, Number(factor)), op("Div", of, Number(1 / factor)))


def _affine(core: Pattern) -> Pattern:
    return either(
        op("Add", op("Mul", core, GAMMA), BETA), op("Mul", core, GAMMA), op("Add", core, BETA), core
    )


def _mean(of: Pattern, test: NodeTest) -> Pattern:
    return op("ReduceMean GlobalAveragePool", of, test=test)


def _normalized(x: Pattern, test: NodeTest) -> Pattern:
    """(x − μ)/σ·γ + β, as torch and as TensorFlow write it; μ and σ over axes that pass `test`."""
    mean = _mean(x, test)
    centred = op("Sub", x, mean)
    # E[x²] − E[x]² is Keras' way on some backends, perhaps kept from below 0.
    difference = op("Sub", _mean(_square(x), test), _square(mean))
    variance = either(_mean(_square(centred), test), difference, op("Max Relu", difference))
    deviation = op("Sqrt", op("Add", variance, EPSILON))
    # TensorFlow multiplies γ/σ out first: x·(γ/σ) + (β − μ·(γ/σ)).
    rate = either(op("Mul", _inverse(deviation), GAMMA), _inverse(deviation))
    shift = either(
        op("Sub", BETA, op("Mul", mean, rate)),
        op("Add", op("Mul", op("Neg", mean), rate), BETA),
        op("Mul", op("Neg", mean), rate),
    )
    return either(op("Add", op("Mul", x, rate), shift), _affine(_divided(centred, deviation)))


def _dense(x: Pattern) -> Pattern:
    """x·W + b, either by itself or over all but the last axis merged and restored."""
    merged = op("MatMul", op("Reshape", x, test=merges_leading_axes), KERNEL)
    return either(
        op("Add", op("MatMul", x, KERNEL), BIAS, test=adds_to_last_axis),
        op("Add", op("Reshape", merged, test=keeps_last_axis), BIAS, test=adds_to_last_axis),
        op("Reshape", op("Add", merged, BIAS, test=adds_to_last_axis), test=keeps_last_axis),
        op("Reshape", merged, test=keeps_last_axis),
    )


_RMS = op("Sqrt", op("Add", _mean(_square(X), last_axes), EPSILON))
_NORM = either(op("ReduceL2 ReduceL1", X), op("Sqrt", op("ReduceSum", _square(X))))

_ONE_PLUS_ERF = op("Add", op("Erf", _scaled(X, 0.5**0.5)), Number(1))
_CUBE = either(op("Pow", X, Number(3)), product(X, X, X))
_TANH_ARGUMENT = either(
    op("Mul", op("Add", X, op("Mul", _CUBE, Number(0.044715))), Number(0.7978845608)),
    product(Number(0.7978845608), X, op("Add", product(Number(0.044715), X, X), Number(1))),
    product(Number(0.7978845608), X, op("Add", op("Mul", _square(X), Number(0.044715)), Number(1))),
)
_ONE_PLUS_TANH = op("Add", op("Tanh", _TANH_ARGUMENT), Number(1))
_RELU6 = either(
    op("Clip", op("Add", X, Number(3)), test=from_0_to_6),
    op("Min", op("Relu", op("Add", X, Number(3))), Number(6)),
)
_EXP = op("Exp", op("Sub", X, op("ReduceMax", X)))

LAYERS: tuple[Layer, ...] = (
    Layer(
        kind="LayerNormalization",
        op=Op.LAYER_NORM,
        pattern=_normalized(X, last_axes),
    ),
    Layer(
        kind="GroupNormalization",
        op=Op.GROUP_NORM,
        pattern=either(
            _affine(op("Reshape", op("InstanceNormalization", op("Reshape", X), test=plain_norm))),
            _affine(op("Reshape", _normalized(op("Reshape", X), any_axes))),
        ),
    ),
    Layer(
        kind="RMSNormalization",
        op=Op.RMS_NORM,
        pattern=either(
            op("Mul", _divided(X, _RMS), GAMMA),
            product(X, _inverse(_RMS), GAMMA),
            _divided(X, _RMS),
        ),
    ),
    Layer(
        kind="LpNormalization",
        op=Op.UNIT_NORM,
        pattern=either(
            op("Div", X, _NORM),
            op("Div", X, op("Clip Max Add Expand", _NORM)),
            op("Div", X, op("Expand", op("Clip Max Add", _NORM))),
            product(X, _inverse(_NORM)),
            product(X, op("Min", _inverse(_NORM))),
        ),
    ),
    Layer(
        kind="Gelu",
        op=Op.ACTIVATION,
        activation="gelu",
        pattern=either(
            product(X, Number(0.5), _ONE_PLUS_ERF),
            op("Div", product(X, _ONE_PLUS_ERF), Number(2)),
            product(X, op("Div", _ONE_PLUS_ERF, Number(2))),
            product(X, Number(0.5), _ONE_PLUS_TANH),
            product(X, op("Sigmoid", _scaled(X, 1.702))),
        ),
    ),
    Layer(
        kind="HardSwish",
        op=Op.ACTIVATION,
        activation="hard_silu",
        pattern=either(
            product(X, op("HardSigmoid", X, test=slope_of_a_sixth)),
            _scaled(product(X, _RELU6), 1 / 6),
            product(X, _scaled(_RELU6, 1 / 6)),
            product(X, _RELU6, Number(1 / 6)),
        ),
    ),
    Layer(
        kind="HardSigmoid",
        op=Op.ACTIVATION,
        activation="hard_sigmoid",
        pattern=_scaled(_RELU6, 1 / 6),
    ),
    Layer(
        kind="Swish",
        op=Op.ACTIVATION,
        activation="silu",
        pattern=either(
            product(X, op("Sigmoid", X)),
            op("Div", X, op("Add", op("Exp", op("Neg", X)), Number(1))),
        ),
    ),
    Layer(
        kind="Mish",
        op=Op.ACTIVATION,
        activation="mish",
        pattern=product(X, op("Tanh", op("Softplus", X))),
    ),
    Layer(
        kind="Softmax",
        op=Op.ACTIVATION,
        activation="softmax",
        pattern=op("Div", _EXP, op("ReduceSum", _EXP)),
    ),
    Layer(
        kind="Sigmoid",
        op=Op.ACTIVATION,
        activation="sigmoid",
        pattern=_inverse(op("Add", op("Exp", op("Neg", X)), Number(1))),
    ),
    Layer(
        kind="Softplus",
        op=Op.ACTIVATION,
        activation="softplus",
        pattern=op("Log", op("Add", op("Exp", X), Number(1))),
    ),
    Layer(
        kind="Softsign",
        op=Op.ACTIVATION,
        activation="softsign",
        pattern=op("Div", X, op("Add", op("Abs", X), Number(1))),
    ),
    Layer(
        kind="LeakyRelu",
        op=Op.ACTIVATION,
        activation="leaky_relu",
        pattern=op("Max", op("Mul", X, Number(name="alpha")), X),
    ),
    Layer(
        kind="PRelu",
        op=Op.ACTIVATION,
        activation="prelu",
        pattern=op("Add", op("Relu", X), op("Mul", op("Relu", op("Neg", X)), Fixed("other"))),
    ),
    Layer(kind="MatMul", op=Op.DENSE, pattern=_dense(X)),
    Layer(
        kind="Gemm",
        op=Op.DENSE,
        pattern=op("Add", op("Gemm", X, KERNEL, test=without_bias), BIAS, test=adds_to_last_axis),
    ),
    Layer(
        kind="Conv",
        op=Op.CONV,
        pattern=op("Add", op("Conv", X, KERNEL, test=without_bias), BIAS, test=adds_to_channels),
    ),
    Layer(
        kind="ConvTranspose",
        op=Op.CONV_TRANSPOSE,
        pattern=op(
            "Add", op("ConvTranspose", X, KERNEL, test=without_bias), BIAS, test=adds_to_channels
        ),
    ),
)
