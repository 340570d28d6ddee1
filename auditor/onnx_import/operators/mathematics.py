"""Mathematical functions of one tensor, element by element."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from .table import Implementation, Node, Value, operator
from .tensors import cast, dtype_of, is_demoted, tensor

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


#: The names that the array API standard has for functions which Keras computes in 32 bits on JAX
#: (https://data-apis.org/array-api, elementwise functions).
STANDARD = {
    kind: kind.lower()
    for kind in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh")
} | {"Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Floor": "floor", "Ceil": "ceil"}


def evaluated(kind: str, value: Value) -> Value:
    """A function of a tensor in the tensor's own precision."""
    value = tensor(value)
    dtype = dtype_of(value)
    if is_demoted(dtype) and kind in STANDARD:
        if getattr(value, "__array_namespace__", None) is not None:
            return getattr(value.__array_namespace__(), STANDARD[kind])(value)
        if kind in STEPS:  # torch
            return _whole(value if kind == "Floor" else -value) * (1 if kind == "Floor" else -1)
    return cast((FUNCTIONS | STEPS)[kind](value), dtype)


def _whole(value: Value) -> Value:
    """⌊x⌋; an infinite number has no remainder."""
    return ops.where(ops.isfinite(value), value - value % 1, value)


def _elementwise(kind: str) -> Implementation:
    def run(node: Node, value: Value) -> Value:
        return evaluated(kind, value)

    return run


for _kind in FUNCTIONS:
    operator(_kind)(_elementwise(_kind))
for _kind in STEPS:
    operator(_kind, differentiable=False)(_elementwise(_kind))


@operator("Reciprocal")
def reciprocal(node: Node, value: Value) -> Value:
    """1 / x."""
    return 1 / tensor(value)
