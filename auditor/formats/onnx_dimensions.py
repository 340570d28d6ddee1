"""Dimensions of tensors before a model runs, and the arithmetic of them.

A dimension is a number, a name ("batch") or None for unknown; a shape is None where not even its
rank is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.formats.onnx_folding import MAX_INTEGER, Known
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_symbols import Dim
from auditor.graph.layer_graph import Shape

#: Shapes of a node's outputs, as far as they are known.
Shapes = list[Shape | None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node to infer: its inputs' shapes and known values, by position."""

    node: OnnxNode
    shapes: Sequence[Shape | None]
    values: Sequence[Known | None]
    opset: int

    def shape(self, position: int = 0) -> Shape | None:
        """Shape of one input; None where unknown or absent."""
        return self.shapes[position] if position < len(self.shapes) else None

    def value(self, position: int) -> list[Any] | None:
        """Values of one input as a flat list; None where unknown or absent."""
        if position >= len(self.values):
            return None
        value = self.values[position]
        return None if value is None else list(value.reshape(-1))

    def given(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.node.inputs) and bool(self.node.inputs[position])


Rule = Callable[[Case], "Shape | Shapes | None"]


def by_operator(served: Mapping[Rule, str]) -> Mapping[str, Rule]:
    """A table of rule → operators, turned round."""
    return {name: rule for rule, names in served.items() for name in names.split()}


def broadcast(*shapes: Shape) -> Shape:
    """The common shape, as NumPy has it; raises `ValueError` where there is none."""
    rank = max(map(len, shapes), default=0)
    return tuple(
        _common([shape[axis - rank] for shape in shapes if len(shape) >= rank - axis])
        for axis in range(rank)
    )


def _common(dims: Sequence[Dim]) -> Dim:
    numbers = {dim for dim in dims if isinstance(dim, int) and dim != 1}
    if len(numbers) > 1:
        raise ValueError(f"dimensions {sorted(numbers)} do not broadcast")
    if numbers:
        return numbers.pop()
    others = {dim for dim in dims if dim != 1}
    return others.pop() if len(others) == 1 else None if others else 1


def plus(dims: Sequence[Dim]) -> Dim:
    """The sum; of one dimension, that dimension."""
    if len(dims) == 1:
        return dims[0]
    numbers = [dim for dim in dims if isinstance(dim, int)]
    return sum(numbers) if len(numbers) == len(dims) else None


def replaced(shape: Shape, changes: Mapping[int, Dim]) -> Shape:
    """A shape with some axes changed."""
    dims = list(shape)
    for axis, dim in changes.items():
        dims[axis] = dim
    return tuple(dims)


def dims_of(values: Sequence[Any]) -> Shape:
    """Known values as dimensions; what is no number of elements is unknown."""
    return tuple(value if isinstance(value, str) or _counts(value) else None for value in values)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_INTEGER
