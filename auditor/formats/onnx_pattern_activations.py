"""Activations as exporters write them where the format or its version has no operator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from auditor.formats.onnx_conditions import (
    from_0_to_1,
    from_0_to_6,
    over_one_axis,
    slope_of_a_sixth,
)
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_pattern_pieces import (
    X,
    divided_exponentials,
    inverse,
    less_largest,
    negative,
    relu,
    scaled,
    shifted,
    square,
)
from auditor.formats.onnx_patterns import (
    Fixed,
    Layer,
    LayerTest,
    Number,
    Pattern,
    either,
    op,
    product,
)
from auditor.formats.onnx_values import Values
from auditor.graph.operators import Op

_SLOPE = Number(name="alpha")
_BOUND = Number(name="lambd")

_ONE_PLUS_ERF = shifted(op("Erf", scaled(X, math.sqrt(0.5))), 1)
# 1 + erf(z) = erfc(−z), TensorFlow's way.
_ERFC = op("Erfc", either(scaled(negative(X), math.sqrt(0.5)), scaled(X, -math.sqrt(0.5))))
_CUBE = either(op("Pow", X, Number(3)), product(X, X, X), op("Mul", square(X), X))
_CUBIC = either(op("Mul", _CUBE, Number(0.044715)), product(Number(0.044715), X, X, X))
_WITHIN_TANH = 0.7978845608
_TANH_ARGUMENT = either(
    scaled(op("Add", X, _CUBIC), _WITHIN_TANH),
    product(Number(_WITHIN_TANH), X, shifted(product(Number(0.044715), X, X), 1)),
    product(Number(_WITHIN_TANH), X, shifted(op("Mul", square(X), Number(0.044715)), 1)),
)
_ONE_PLUS_TANH = shifted(op("Tanh", _TANH_ARGUMENT), 1)


def _gelu(doubled: Pattern) -> Pattern:
    """x/2 · `doubled`, the half at any factor."""
    return either(
        product(X, Number(0.5), doubled),
        op("Div", product(X, doubled), Number(2)),
        product(X, op("Div", doubled, Number(2))),
        product(op("Div", X, Number(2)), doubled),
    )


_SHIFTED = shifted(X, 3)
_RELU6_SHIFTED = either(
    op("Clip", _SHIFTED, test=from_0_to_6),
    op("Min", relu(_SHIFTED), Number(6)),
    relu(op("Min", _SHIFTED, Number(6))),
)
# clip(x/6 + ½, 0, 1), the same outside of the clip.
_STRAIGHT = shifted(scaled(X, 1 / 6), 0.5)
_CLIPPED_SIXTH = either(
    op("Clip", _STRAIGHT, test=from_0_to_1),
    op("Min", relu(_STRAIGHT), Number(1)),
    relu(op("Min", _STRAIGHT, Number(1))),
)
_HARD_SIGMOID = either(scaled(_RELU6_SHIFTED, 1 / 6), _CLIPPED_SIXTH)

_ONE_PLUS_EXP = shifted(op("Exp", X), 1)
_LOGISTIC = either(op("Sigmoid", X), op("Sigmoid", op("Mul", X, Number(1))))
_SOFTPLUS = either(
    op("Softplus", X),
    op("Log", _ONE_PLUS_EXP),
    # max(x, 0) + log(1 + exp(−|x|)) does not overflow.
    op("Add", relu(X), op("Log", shifted(op("Exp", op("Neg", op("Abs", X))), 1))),
)
_POSITIVE = op("Greater GreaterOrEqual", X, Number(0))
_NEGATIVE = op("Less LessOrEqual", X, Number(0))
_ONLY_NEGATIVE = either(op("Min", X, Number(0)), op("Neg", relu(op("Neg", X))))
_EXPM1 = either(
    shifted(op("Exp", _ONLY_NEGATIVE), -1),
    shifted(op("Exp", X), -1),
    op("Expm1", either(_ONLY_NEGATIVE, X)),
)
_EXPM1_OF_NEGATIVE = either(shifted(op("Exp", _ONLY_NEGATIVE), -1), op("Expm1", _ONLY_NEGATIVE))
_ABOVE = op("Greater GreaterOrEqual", X, _BOUND)
_BELOW = op("Less LessOrEqual", X, Number(name="below"))
_OUTSIDE = either(op("Or", _ABOVE, _BELOW), op("Greater GreaterOrEqual", op("Abs", X), _BOUND))
_MULTIPLIED = op("Mul", X, _SLOPE)


def _activation(kind: str, name: str, *options: Pattern, test: LayerTest | None = None) -> Layer:
    return Layer(kind=kind, op=Op.ACTIVATION, activation=name, pattern=either(*options), test=test)


def _mild_slope(_: Sequence[OnnxNode], numbers: Mapping[str, float], __: Values) -> bool:
    """Whether the slope on the negative side is one of a leak: of the larger slope, max is x."""
    return 0 <= numbers["alpha"] < 1


def _symmetric(_: Sequence[OnnxNode], numbers: Mapping[str, float], __: Values) -> bool:
    """Whether both bounds of a shrinkage are as far from zero."""
    bound = numbers["lambd"]
    return bound > 0 and math.isclose(numbers.get("below", -bound), -bound, rel_tol=1e-3)


def _halves(nodes: Sequence[OnnxNode], _: Mapping[str, float], __: Values) -> bool:
    """Whether a Split makes two parts and no more."""
    return all(len(node.outputs) == 2 for node in nodes if node.op_type == "Split")


ACTIVATION_LAYERS: tuple[Layer, ...] = (
    _activation(
        "Gelu",
        "gelu",
        _gelu(_ONE_PLUS_ERF),
        _gelu(_ERFC),
        _gelu(_ONE_PLUS_TANH),
        product(X, op("Sigmoid", scaled(X, 1.702))),
    ),
    _activation(
        "HardSwish",
        "hard_silu",
        product(X, op("HardSigmoid", X, test=slope_of_a_sixth)),
        scaled(product(X, _RELU6_SHIFTED), 1 / 6),
        product(X, _HARD_SIGMOID),
        product(X, _RELU6_SHIFTED, Number(1 / 6)),
        product(scaled(X, 1 / 6), _RELU6_SHIFTED),
    ),
    _activation("HardSigmoid", "hard_sigmoid", _HARD_SIGMOID),
    _activation(
        "Swish",
        "silu",
        product(X, _LOGISTIC),
        op("Div", X, shifted(op("Exp", negative(X)), 1)),
        product(X, inverse(shifted(op("Exp", negative(X)), 1))),
    ),
    _activation("Mish", "mish", product(X, op("Tanh", _SOFTPLUS))),
    _activation("Softmax", "softmax", divided_exponentials(X), test=over_one_axis),
    _activation(
        "LogSoftmax",
        "log_softmax",
        op("Sub", less_largest(X), op("Log", op("ReduceSum", op("Exp", less_largest(X))))),
        op("Log", op("Softmax", X)),
        op("Log", divided_exponentials(X)),
        test=over_one_axis,
    ),
    _activation("Sigmoid", "sigmoid", inverse(shifted(op("Exp", negative(X)), 1))),
    _activation(
        "LogSigmoid",
        "log_sigmoid",
        op("Log", op("Sigmoid", X)),
        op("Neg", op("Softplus", op("Neg", X))),
    ),
    _activation(
        "Softplus",
        "softplus",
        op("Log", _ONE_PLUS_EXP),
        op("Add", relu(X), op("Log", shifted(op("Exp", op("Neg", op("Abs", X))), 1))),
        op("Where", op("Greater", X, Number(name="threshold")), X, _SOFTPLUS),
    ),
    _activation("Softsign", "softsign", op("Div", X, shifted(op("Abs", X), 1))),
    _activation(
        "Elu",
        "elu",
        op("Add", relu(X), _EXPM1_OF_NEGATIVE),
        op("Add", relu(X), op("Mul", _EXPM1_OF_NEGATIVE, _SLOPE)),
        op("Where", _POSITIVE, X, _EXPM1),
        op("Where", _POSITIVE, X, op("Mul", _EXPM1, _SLOPE)),
    ),
    _activation(
        "LeakyRelu",
        "leaky_relu",
        op("Max", _MULTIPLIED, X),
        op("Where", _POSITIVE, X, _MULTIPLIED),
        op("Where", _NEGATIVE, _MULTIPLIED, X),
        op("Add", relu(X), op("Mul", op("Min", X, Number(0)), _SLOPE)),
        op("Sub", relu(X), op("Mul", relu(op("Neg", X)), _SLOPE)),
        test=_mild_slope,
    ),
    _activation(
        "PRelu",
        "prelu",
        # The slope, or with Neg before the Relu its negative.
        op("Add", relu(X), op("Mul", relu(op("Neg", X)), Fixed("other"))),
        op("Sub", relu(X), op("Mul", relu(op("Neg", X)), Fixed("other"))),
        op("Add", relu(X), op("Mul", op("Min", X, Number(0)), Fixed("other"))),
        op("Where", _POSITIVE, X, op("Mul", X, Fixed("other"))),
        op("Add", relu(X), op("Mul", Fixed("other"), scaled(op("Sub", X, op("Abs", X)), 0.5))),
    ),
    _activation(
        "Relu",
        "relu",
        op("Where", _POSITIVE, X, Number(0)),
        op("Mul", X, op("Cast", op("Greater GreaterOrEqual", X, Number(0)))),
    ),
    _activation(
        "Relu6",
        "relu6",
        op("Min", relu(X), Number(6)),
        relu(op("Min", X, Number(6))),
        op("Clip", op("Relu", X), test=from_0_to_6),
    ),
    _activation(
        "HardTanh",
        "hard_tanh",
        op("Max", op("Min", X, Number(1)), Number(-1)),
        op("Min", op("Max", X, Number(-1)), Number(1)),
    ),
    _activation("TanhShrink", "tanh_shrink", op("Sub", X, op("Tanh", X))),
    _activation(
        "HardShrink",
        "hard_shrink",
        op("Where", _OUTSIDE, X, Number(0)),
        op("Where", _ABOVE, X, op("Where", _BELOW, X, Number(0))),
        test=_symmetric,
    ),
    _activation(
        "SoftShrink",
        "soft_shrink",
        op(
            "Add",
            op("Where", _ABOVE, op("Sub", X, _BOUND), Number(0)),
            op("Where", _BELOW, op("Add", X, _BOUND), Number(0)),
        ),
        op(
            "Where",
            _ABOVE,
            op("Sub", X, _BOUND),
            op("Where", _BELOW, op("Add", X, _BOUND), Number(0)),
        ),
        test=_symmetric,
    ),
    _activation(
        "Glu",
        "glu",
        op("Mul", op("Split", X, output=0), op("Sigmoid", op("Split", X, output=1))),
        test=_halves,
    ),
)
