"""Patterns of ONNX nodes, and a matcher for them.

A pattern is a small expression over values: `op("Add", op("MatMul", X, weight("kernel")),
weight("bias"))`. It is matched from the value it ends in, against the nodes that give its operands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_values import Values

#: Relative distance at which a stored number still is the one meant: float16 has 11 bits.
CLOSE = 2e-3

NodeTest = Callable[[OnnxNode, Values], bool]


@dataclass(frozen=True)
class Data:
    """Any value that the input changes; the same one wherever the name stands."""

    name: str


@dataclass(frozen=True)
class Fixed:
    """A value that no input changes, kept under `name`, which for weights is their role."""

    name: str


@dataclass(frozen=True)
class Number:
    """A constant of one element: near `value`, or any and kept under `name`."""

    value: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Make:
    """What a node of one of these types makes of operands; further operands must be fixed."""

    op_types: tuple[str, ...]
    operands: tuple[Pattern, ...]
    test: NodeTest | None = None


@dataclass(frozen=True)
class Product:
    """A product of factors in any order and grouping, by Mul nodes."""

    factors: tuple[Pattern, ...]


@dataclass(frozen=True)
class Either:
    """The first of several patterns that matches."""

    options: tuple[Pattern, ...]


Pattern: TypeAlias = "Data | Fixed | Number | Make | Product | Either"

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "Sum"})


def op(op_types: str, *operands: Pattern, test: NodeTest | None = None) -> Make:
    """A `Make` of op types given in one string, separated by blanks."""
    return Make(tuple(op_types.split()), operands, test)


def product(*factors: Pattern) -> Product:
    """A `Product` of these factors."""
    return Product(factors)


def either(*options: Pattern) -> Either:
    """An `Either` of these options."""
    return Either(options)


def ending_types(pattern: Pattern) -> frozenset[str]:
    """Operator types of the node a pattern can end in."""
    if isinstance(pattern, Either):
        return frozenset().union(*map(ending_types, pattern.options))
    if isinstance(pattern, Make):
        return frozenset(pattern.op_types)
    return frozenset({"Mul"} if isinstance(pattern, Product) else ())


@dataclass(frozen=True)
class Match:
    """Values bound to names, numbers to names, and nodes (by index) so far taken."""

    values: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    nodes: frozenset[int] = frozenset()

    def bind(self, name: str, value: str) -> Match | None:
        """With `name` bound to `value`; None where it is bound to another."""
        if self.values.get(name, value) != value:
            return None
        return Match({**self.values, name: value}, self.numbers, self.nodes)


@dataclass(frozen=True)
class Matcher:
    """Matches patterns in one graph, over nodes the input changes and that are not yet `taken`."""

    graph: OnnxGraph
    values: Values
    taken: set[int] = field(default_factory=set)

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Index of the node that gives each value the input changes, as its first output."""
        return {
            node.outputs[0]: index
            for index, node in enumerate(self.graph.nodes)
            if node.outputs and node.outputs[0] and node.outputs[0] not in self.values.fixed
        }

    @cached_property
    def users(self) -> Mapping[str, frozenset[int]]:
        """Indices of nodes that use each value; −1 stands for an output of the graph."""
        users: dict[str, set[int]] = {name: {-1} for name in self.graph.outputs}
        for index, node in enumerate(self.graph.nodes):
            for name in node.inputs:
                users.setdefault(name, set()).add(index)
            for inner in node.graphs:
                for name in inner.captured():
                    users.setdefault(name, set()).add(index)
        return {name: frozenset(indices) for name, indices in users.items()}

    def match(self, pattern: Pattern, value: str) -> Match | None:
        """The first match of a pattern that ends in `value`, whose inside nobody else uses."""
        return next(
            (
                found
                for found in self._match(pattern, value, Match())
                if found.nodes and self._closed(found, value)
            ),
            None,
        )

    def _closed(self, found: Match, value: str) -> bool:
        for index in found.nodes:
            for name in filter(None, self.graph.nodes[index].outputs):
                if name != value and not self.users.get(name, frozenset()) <= found.nodes:
                    return False
        return True

    def _match(self, pattern: Pattern, value: str, so_far: Match) -> Iterator[Match]:
        if isinstance(pattern, Either):
            for option in pattern.options:
                yield from self._match(option, value, so_far)
        elif isinstance(pattern, Make):
            yield from self._make(pattern, value, so_far)
        elif isinstance(pattern, Product):
            for factors in self._factors(value, len(pattern.factors), so_far):
                names, after = factors
                for order in itertools.permutations(names):
                    yield from self._all(pattern.factors, order, after)
        elif isinstance(pattern, Number):
            number = self.values.scalar(value) if value in self.values.fixed else None
            if number is None:
                return
            if pattern.value is None:
                yield Match(so_far.values, {**so_far.numbers, pattern.name: number}, so_far.nodes)
            elif math.isclose(number, pattern.value, rel_tol=CLOSE, abs_tol=1e-12):
                yield so_far
        elif value and isinstance(pattern, Fixed) == (value in self.values.fixed):
            bound = so_far.bind(pattern.name, value)
            if bound is not None:
                yield bound

    def _make(self, pattern: Make, value: str, so_far: Match) -> Iterator[Match]:
        index = self.producer.get(value)
        if index is None or index in self.taken:
            return
        node = self.graph.nodes[index]
        count = len(pattern.operands)
        if node.domain or node.op_type not in pattern.op_types or len(node.inputs) < count:
            return
        rest = node.inputs[count:]
        if any(name and name not in self.values.fixed for name in rest):
            return
        if pattern.test is not None and not pattern.test(node, self.values):
            return
        after = Match(so_far.values, so_far.numbers, so_far.nodes | {index})
        operands = node.inputs[:count]
        yield from self._all(pattern.operands, operands, after)
        if node.op_type in COMMUTATIVE and count == 2 and not rest:
            yield from self._all(pattern.operands, operands[::-1], after)

    def _all(
        self, patterns: Sequence[Pattern], values: Sequence[str], so_far: Match
    ) -> Iterator[Match]:
        if not patterns:
            yield so_far
            return
        for found in self._match(patterns[0], values[0], so_far):
            yield from self._all(patterns[1:], values[1:], found)

    def _factors(
        self, value: str, count: int, so_far: Match
    ) -> Iterator[tuple[tuple[str, ...], Match]]:
        """Ways to see `value` as a product of `count` factors."""
        if count == 1:
            yield (value,), so_far
            return
        index = self.producer.get(value)
        if index is None or index in self.taken:
            return
        node = self.graph.nodes[index]
        if node.domain or node.op_type != "Mul" or len(node.inputs) != 2:
            return
        after = Match(so_far.values, so_far.numbers, so_far.nodes | {index})
        left, right = node.inputs
        for share in range(1, count):
            for first, between in self._factors(left, share, after):
                for second, found in self._factors(right, count - share, between):
                    yield first + second, found
