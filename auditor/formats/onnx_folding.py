"""Arithmetic on shapes, done while reading: Shape → Gather → Concat → Reshape and the like.

Values are small object arrays of int, float, bool, a named dimension (str) or None for unknown, so
that ("batch", 3, None) goes through the same operators as (1, 3, 224). onnx.reference computes with
numbers only, and without a bound on what a node makes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.formats.onnx_dtypes import data_type
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_symbols import product, quotient
from auditor.graph.layer_graph import Shape

#: Object arrays of small size.
Known = np.ndarray[Any, np.dtype[np.object_]]
#: Elements beyond which a value is not followed.
MAX_KNOWN = 1024
MAX_INTEGER = 2**63

FLOAT_TYPES = frozenset({1, 10, 11, 16})
BOOL_TYPE = 9


def known(values: Any) -> Known | None:
    """Values as an object array of plain Python numbers; None where there are too many."""
    array = np.asarray(values)
    if array.size > MAX_KNOWN:
        return None
    result = np.empty(array.shape, dtype=object)
    result[...] = array.tolist() if array.dtype != object else array
    return result


def fold(
    node: OnnxNode, inputs: Sequence[Known | None], shapes: Sequence[Shape | None]
) -> tuple[Known | None, ...]:
    """The values of a node's outputs, where they follow from known values and shapes."""
    if node.domain or not node.outputs:
        return ()
    if node.op_type in ("Shape", "Size"):
        shape = shapes[0] if shapes else None
        return (_shape_of(node, shape) if shape is not None else None,)
    if node.op_type in ELEMENTWISE:
        if any(value is None for value in inputs):
            return ()
        return (_elementwise(ELEMENTWISE[node.op_type], inputs),)
    folder = FOLDERS.get(node.op_type)
    if folder is None or not inputs or inputs[0] is None:
        return ()
    result = folder(Step(node, inputs))
    results = result if isinstance(result, tuple) else (result,)
    return tuple(item if item is not None and item.size <= MAX_KNOWN else None for item in results)


def _shape_of(node: OnnxNode, shape: Shape) -> Known | None:
    if node.op_type == "Shape":
        start, end = node.integer("start", 0), node.integer("end", len(shape))
        return _array(shape[start:end], (len(shape[start:end]),))
    return _array([_bounded(product(shape))], ())


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> Known:
    result = np.empty(len(values), dtype=object)
    result[:] = list(values)
    return result.reshape(shape)


def _bounded(value: Any) -> Any:
    if isinstance(value, (int, float)) and not abs(value) < MAX_INTEGER:
        return None
    return value


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b if b else None
    return int(math.copysign(1, a) * math.copysign(1, b)) * (abs(a) // abs(b)) if b else None


ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _divide,
    "Mod": lambda a, b: a % b if b else None,
    "Min": min,
    "Max": max,
    "Neg": operator.neg,
    "Abs": abs,
    "Floor": math.floor,
    "Ceil": math.ceil,
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "And": lambda a, b: bool(a and b),
    "Or": lambda a, b: bool(a or b),
    "Not": operator.not_,
}


def _elementwise(function: Callable[..., Any], inputs: Sequence[Known | None]) -> Known | None:
    arrays = [value for value in inputs if value is not None]
    if math.prod(np.broadcast_shapes(*(array.shape for array in arrays))) > MAX_KNOWN:
        return None
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    columns = [np.broadcast_to(array, shape).reshape(-1) for array in arrays]
    return _array([_apply(function, row) for row in zip(*columns, strict=True)], shape)


def _apply(function: Callable[..., Any], row: tuple[Any, ...]) -> Any:
    if all(isinstance(value, (int, float)) for value in row):
        return _bounded(function(*row))
    if len(row) == 2 and _are_dims(row):
        left, right = row
        if function is operator.mul:
            return product(row)
        if function is _divide:
            return quotient((left,), (right,))
        if 0 in row and function in (operator.add, operator.sub):
            return left if right == 0 else right if function is operator.add else None
    return None


def _are_dims(values: Sequence[Any]) -> bool:
    """Whether a product of these is one of dimensions: numbers without fractions, and names."""
    return all(isinstance(value, (int, str)) for value in values)


@dataclass(frozen=True)
class Step:
    """A node, and the values of its inputs as far as they are known."""

    node: OnnxNode
    inputs: Sequence[Known | None]

    @property
    def first(self) -> Known:
        """The first input's value."""
        value = self.inputs[0]
        if value is None:
            raise ValueError("the first input is unknown")
        return value

    def integers(self, position: int) -> list[int] | None:
        """An input that must be a list of known integers."""
        return _integers(self.inputs, position)


Folder = Callable[[Step], "Known | tuple[Known, ...] | None"]


def _integers(inputs: Sequence[Known | None], position: int) -> list[int] | None:
    """An input that must be a list of known integers."""
    if position >= len(inputs):
        return None
    value = inputs[position]
    if value is None or not all(isinstance(item, int) for item in value.reshape(-1)):
        return None
    return [int(item) for item in value.reshape(-1)]


def _identity(step: Step) -> Known:
    return step.first


def _cast(step: Step) -> Known:
    to = data_type(step.node, "to")
    kind: Callable[[Any], Any] = float if to in FLOAT_TYPES else bool if to == BOOL_TYPE else int
    data = step.first
    cast = [kind(v) if isinstance(v, (int, float)) else v for v in data.reshape(-1)]
    return _array(cast, data.shape)


def _gather(step: Step) -> Known | None:
    indices = step.integers(1)
    if indices is None or step.inputs[1] is None or len(indices) > MAX_KNOWN:
        return None
    data = step.first
    where = np.array(indices, dtype=np.int64).reshape(step.inputs[1].shape)
    axis = step.node.integer("axis", 0)
    if where.size * data.size > MAX_KNOWN**2:
        return None
    return np.asarray(np.take(data, where, axis=axis), dtype=object)


def _slice(step: Step) -> Known | None:
    bounds = slices(step.node, step.inputs)
    if bounds is None:
        return None
    data = step.first
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, stride in bounds:
        stop = None if stride < 0 and end < -data.shape[axis] else end
        index[axis] = slice(start, stop, stride)
    return data[tuple(index)]


def slices(
    node: OnnxNode, inputs: Sequence[Known | None]
) -> list[tuple[int, int, int, int]] | None:
    """What a Slice cuts, as (axis, start, end, step); None where it is not known."""
    if _unknown(node, inputs):
        return None
    starts = _integers(inputs, 1) or node.integers("starts")
    ends = _integers(inputs, 2) or node.integers("ends")
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    axes = _integers(inputs, 3) or node.integers("axes") or range(len(starts))
    steps = _integers(inputs, 4) or [1] * len(starts)
    return list(zip(axes, starts, ends, steps, strict=True))


def _unknown(node: OnnxNode, inputs: Sequence[Known | None]) -> bool:
    """Whether an input that is there has no known value."""
    return any(
        name and value is None for name, value in zip(node.inputs[1:], inputs[1:], strict=False)
    )


def _concat(step: Step) -> Known | None:
    parts = [value for value in step.inputs if value is not None]
    if len(parts) != len(step.inputs) or sum(part.size for part in parts) > MAX_KNOWN:
        return None
    return np.concatenate(parts, axis=step.node.integer("axis", 0))


def _axes(step: Step) -> list[int] | None:
    given = step.node.integers("axes")
    return list(given) if given is not None else step.integers(1)


def _unsqueeze(step: Step) -> Known | None:
    axes = _axes(step)
    if axes is None or len(axes) > MAX_KNOWN:
        return None
    return np.asarray(np.expand_dims(step.first, tuple(axes)), dtype=object)


def _squeeze(step: Step) -> Known | None:
    axes = _axes(step)
    if axes is None and len(step.inputs) > 1:
        return None
    return np.squeeze(step.first, None if axes is None else tuple(axes))


def _reshape(step: Step) -> Known | None:
    shape = step.integers(1)
    return None if shape is None else step.first.reshape(shape)


def _transpose(step: Step) -> Known:
    return np.transpose(step.first, step.node.integers("perm"))


def _expand(step: Step) -> Known | None:
    shape = step.integers(1)
    if shape is None:
        return None
    data = step.first
    full = np.broadcast_shapes(data.shape, tuple(shape))
    return np.broadcast_to(data, full) if math.prod(full) <= MAX_KNOWN else None


def _constant_of_shape(step: Step) -> Known | None:
    shape = step.integers(0)
    if shape is None or math.prod(shape) > MAX_KNOWN:
        return None
    value = step.node.attributes.get("value")
    fill: Any = 0.0
    if value is not None:
        read = getattr(value, "read", None)
        fill = read().reshape(-1).tolist()[0] if read is not None else None
    return _array([fill] * math.prod(shape), tuple(shape))


def _range(step: Step) -> Known | None:
    bounds = [step.integers(position) for position in range(3)]
    if any(not bound for bound in bounds):
        return None
    values = range(*(bound[0] for bound in bounds if bound))
    return _array(values, (len(values),)) if len(values) <= MAX_KNOWN else None


def _split(step: Step) -> tuple[Known, ...] | None:
    data, axis = step.first, step.node.integer("axis", 0)
    sizes = step.node.integers("split") or step.integers(1)
    count = len(step.node.outputs)
    if sizes is None:
        sizes = [-(-data.shape[axis] // count)] * count
    if len(sizes) > MAX_KNOWN:
        return None
    return tuple(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def _where(step: Step) -> Known | None:
    def choose(condition: Any, a: Any, b: Any) -> Any:
        return None if condition is None or isinstance(condition, str) else a if condition else b

    arrays = [value for value in step.inputs if value is not None]
    if len(arrays) != 3:
        return None
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    if math.prod(shape) > MAX_KNOWN:
        return None
    columns = [np.broadcast_to(array, shape).reshape(-1) for array in arrays]
    return _array([choose(*row) for row in zip(*columns, strict=True)], shape)


def _reduce(step: Step) -> Known | None:
    data = step.first
    axes = _axes(step)
    if (
        data.ndim > 1
        or (axes is None and len(step.inputs) > 1)
        or axes not in (None, [0], [-1], [])
    ):
        return None
    values = list(data.reshape(-1))
    if step.node.op_type == "ReduceProd":
        result = _bounded(product(values)) if _are_dims(values) else None
    elif all(isinstance(value, (int, float)) for value in values):
        reducers: Mapping[str, Callable[[list[Any]], Any]]
        reducers = {"ReduceSum": sum, "ReduceMax": max, "ReduceMin": min}
        result = _bounded(reducers[step.node.op_type](values))
    else:
        result = None
    return _array([result], (1,) * data.ndim if step.node.integer("keepdims", 1) else ())


FOLDERS: Mapping[str, Folder] = {
    "Identity": _identity,
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Split": _split,
    "Where": _where,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
}
