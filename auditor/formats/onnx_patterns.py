"""The vocabulary that layers of several ONNX nodes are described in.

A pattern is a small expression over values: `op("Add", op("MatMul", X, Fixed("kernel")),
Fixed("bias"))`. It is data; `onnx_pattern_matcher` finds it in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_values import Values
from auditor.graph.operators import Op

NodeTest = Callable[[OnnxNode, Values], bool]
ValueTest = Callable[[str, Values], bool]
#: Looks at all nodes of a match and the numbers it bound.
LayerTest = Callable[[Sequence[OnnxNode], Mapping[str, float], Values], bool]


@dataclass(frozen=True)
class Data:
    """Any value that the input changes; the same one wherever the name stands."""

    name: str


@dataclass(frozen=True)
class Fixed:
    """A value that no input changes, kept under `name`, which for weights is their role.

    Without a name it takes part and is not kept: a scale that the graph computes, a mask.
    """

    name: str = ""
    test: ValueTest | None = None


@dataclass(frozen=True)
class Given:
    """Any value: bound to `name` where the input changes it, and not kept where none does."""

    name: str


@dataclass(frozen=True)
class Number:
    """A constant of one number: near `value`, or any and kept under `name`, or its `inverse`.

    A tensor whose elements are all that number is the same once it is multiplied out.
    """

    value: float | None = None
    name: str = ""
    inverse: bool = False


@dataclass(frozen=True)
class Make:
    """What a node of one of these types makes of operands, as its output of this index.

    Operands beyond those named must be fixed.
    """

    op_types: tuple[str, ...]
    operands: tuple[Pattern, ...]
    test: NodeTest | None = None
    output: int = 0


@dataclass(frozen=True)
class Through:
    """A value behind any number of nodes of these types, at most four, each with one operand."""

    op_types: tuple[str, ...]
    of: Pattern


@dataclass(frozen=True)
class Product:
    """A product of factors in any order and grouping, by Mul nodes."""

    factors: tuple[Pattern, ...]


@dataclass(frozen=True)
class Either:
    """The first of several patterns that matches."""

    options: tuple[Pattern, ...]


Pattern: TypeAlias = "Data | Fixed | Given | Number | Make | Through | Product | Either"

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "Sum", "Or", "And"})


def op(op_types: str, *operands: Pattern, test: NodeTest | None = None, output: int = 0) -> Make:
    """A `Make` of op types given in one string, separated by blanks."""
    return Make(tuple(op_types.split()), operands, test, output)


def through(op_types: str, of: Pattern) -> Through:
    """A `Through` of op types given in one string, separated by blanks."""
    return Through(tuple(op_types.split()), of)


def product(*factors: Pattern) -> Product:
    """A `Product` of these factors, what matches anything last: orders that fail do so early."""

    def loose(factor: Pattern) -> int:
        return 0 if isinstance(factor, Number) else 2 if isinstance(factor, Data | Fixed) else 1

    return Product(tuple(sorted(factors, key=loose)))


def either(*options: Pattern) -> Either:
    """An `Either` of these options."""
    return Either(options)


def ending_types(pattern: Pattern) -> frozenset[str]:
    """Operator types of the node a pattern can end in."""
    if isinstance(pattern, Either):
        return frozenset().union(*map(ending_types, pattern.options))
    if isinstance(pattern, Make):
        return frozenset(pattern.op_types)
    if isinstance(pattern, Through):
        return frozenset(pattern.op_types) | ending_types(pattern.of)
    return frozenset({"Mul"} if isinstance(pattern, Product) else ())


def possible(pattern: Pattern, present: Set[str]) -> Pattern | None:
    """What is left of a pattern in a graph that has these types of nodes; None if nothing is.

    Most graphs have few types, and most patterns need one that is not among them.
    """
    return _possible(pattern, present, {})


def _possible(
    pattern: Pattern, present: Set[str], known: dict[int, Pattern | None]
) -> Pattern | None:
    place = id(pattern)
    if place not in known:
        known[place] = _left(pattern, present, known)
    return known[place]


def _left(pattern: Pattern, present: Set[str], known: dict[int, Pattern | None]) -> Pattern | None:
    if isinstance(pattern, Either):
        options = [_possible(option, present, known) for option in pattern.options]
        kept = tuple(option for option in options if option is not None)
        return Either(kept) if kept else None
    if isinstance(pattern, Make):
        op_types = tuple(kind for kind in pattern.op_types if kind in present)
        operands = [_possible(operand, present, known) for operand in pattern.operands]
        left = tuple(operand for operand in operands if operand is not None)
        whole = op_types and len(left) == len(operands)
        return replace(pattern, op_types=op_types, operands=left) if whole else None
    if isinstance(pattern, Product):
        factors = [_possible(factor, present, known) for factor in pattern.factors]
        needed = tuple(factor for factor in factors if factor is not None)
        return Product(needed) if "Mul" in present and len(needed) == len(factors) else None
    if isinstance(pattern, Through):
        of = _possible(pattern.of, present, known)
        return replace(pattern, of=of) if of is not None else None
    return pattern


@dataclass(frozen=True)
class Near:
    """A node of one of these types beside a layer, which belongs to it if nobody else uses it."""

    op_types: tuple[str, ...]
    test: NodeTest | None = None


def near(op_types: str, test: NodeTest | None = None) -> Near:
    """A `Near` of op types given in one string, separated by blanks."""
    return Near(tuple(op_types.split()), test)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Nodes that exporters put `before` a layer, on any of its inputs, and `after` it.

    They change shape and order only, so that the layer without them would be the same one in
    another layout.
    """

    before: tuple[Near, ...] = ()
    after: tuple[Near, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A kind of layer that exporters write as several nodes.

    `data` names, in order, what comes to it by edges; any other name of the pattern is the role of
    a weight. `config` adds to the settings of its node of type `kind`, if it has one.
    """

    kind: str
    op: Op
    pattern: Pattern
    activation: str | None = None
    data: tuple[str, ...] = ("x",)
    test: LayerTest | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)
