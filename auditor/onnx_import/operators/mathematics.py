"""Mathematical functions of one tensor, element by element."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from .table import Implementation, Node, Value, operator
from .tensors import cast, dtype_of, tensor

#: Functions that keep the dtype.
FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "Sqrt": ops.sqrt,
    "Exp": ops.exp,
    "Log": ops.log,
    "Erf": ops.erf,
    "Sin": ops.sin,
    "Cos": ops.cos,
    "Tan": ops.tan,
    "Asin": ops.arcsin,
    "Acos": ops.arccos,
    "Atan": ops.arctan,
    "Sinh": ops.sinh,
    "Cosh": ops.cosh,
    "Tanh": ops.tanh,
    "Asinh": ops.arcsinh,
    "Acosh": ops.arccosh,
    "Atanh": ops.arctanh,
}
#: Steps: their derivative is 0 wherever they have one. Round takes halves to the even number.
STEPS: dict[str, Callable[[Value], Value]] = {
    "Floor": ops.floor,
    "Ceil": ops.ceil,
    "Round": ops.round,
}


def _elementwise(function: Callable[[Value], Value]) -> Implementation:
    def run(node: Node, value: Value) -> Value:
        value = tensor(value)
        return cast(function(value), dtype_of(value))

    return run


for _kind, _function in FUNCTIONS.items():
    operator(_kind)(_elementwise(_function))
for _kind, _function in STEPS.items():
    operator(_kind, differentiable=False)(_elementwise(_function))


@operator("Reciprocal")
def reciprocal(node: Node, value: Value) -> Value:
    """1 / x."""
    return 1 / tensor(value)
