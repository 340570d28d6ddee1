"""Finds patterns in a graph: backward from the value they end in, and nowhere across its use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_patterns import (
    COMMUTATIVE,
    Data,
    Either,
    Fixed,
    Given,
    Make,
    Number,
    Pattern,
    Product,
    Through,
)
from auditor.formats.onnx_values import Values

#: Relative distance at which a stored number still is the one meant: float16 has 11 bits.
CLOSE = 2e-3
#: Nodes a `Through` goes back over.
MOST_THROUGH = 4
#: Ways to match one pattern at one value that are tried: a bound on graphs built to have many.
MOST_WAYS = 256
#: Operators that lay one number out over a shape, and keep what it is.
LAYING_OUT = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose"}
    | {"Unsqueeze"}
)


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

    def count(self, name: str, number: float) -> Match | None:
        """With `name` bound to a number; None where it is bound to another."""
        if not math.isclose(self.numbers.get(name, number), number, rel_tol=CLOSE):
            return None
        return Match(self.values, {**self.numbers, name: number}, self.nodes)

    def take(self, index: int) -> Match:
        """With one more node taken."""
        return Match(self.values, self.numbers, self.nodes | {index})


@dataclass(frozen=True)
class Matcher:
    """Matches patterns in one graph, over nodes that are `wanted` and not yet `taken`.

    Other nodes are arithmetic on shapes and constants: they look at no value that the input
    changes, only at its shape, and are no users of it.
    """

    graph: OnnxGraph
    values: Values
    wanted: frozenset[int]
    taken: set[int] = field(default_factory=set)

    @cached_property
    def producer(self) -> Mapping[str, tuple[int, int]]:
        """Node, by index, and its output, by index, that give each value the input changes."""
        return {
            name: (index, output)
            for index in self.wanted
            for output, name in enumerate(self.graph.nodes[index].outputs)
            if name and name not in self.values.fixed
        }

    @cached_property
    def users(self) -> Mapping[str, frozenset[int]]:
        """Indices of nodes that use each value; −1 stands for an output of the graph."""
        users: dict[str, set[int]] = {name: {-1} for name in self.graph.outputs}
        for index in self.wanted:
            for name in needs(self.graph.nodes[index]):
                users.setdefault(name, set()).add(index)
        return {name: frozenset(indices) for name, indices in users.items()}

    @cached_property
    def _makers(self) -> Mapping[str, OnnxNode]:
        """Nodes that give fixed values."""
        fixed = self.values.fixed
        return {
            node.outputs[0]: node
            for node in self.graph.nodes
            if node.outputs and node.outputs[0] in fixed
        }

    def match(self, pattern: Pattern, value: str) -> Match | None:
        """The first match of a pattern that ends in `value`, whose inside nobody else uses."""
        return next(self.matches(pattern, value), None)

    def matches(self, pattern: Pattern, value: str) -> Iterator[Match]:
        """All matches of a pattern that end in `value`, whose inside nobody else uses."""
        for found in itertools.islice(self._match(pattern, value, Match()), MOST_WAYS):
            if found.nodes and self._closed(found.nodes, value):
                yield found

    def _closed(self, nodes: frozenset[int], end: str) -> bool:
        """Whether nobody outside uses what these nodes make, apart from what they end in."""
        return all(
            name == end or self.users.get(name, frozenset()) <= nodes
            for index in nodes
            for name in self.graph.nodes[index].outputs
            if name
        )

    def number(self, value: str, *, uniform: bool) -> float | None:
        """The one number a fixed value consists of; a tensor full of it counts if `uniform`."""
        for _ in range(MOST_THROUGH):
            known = self.values.known.get(value)
            if known is not None and (uniform or known.size == 1):
                numbers = set(known.reshape(-1).tolist())
                number = numbers.pop() if len(numbers) == 1 else None
                return float(number) if isinstance(number, (int, float)) else None
            node = self._makers.get(value)
            if node is None or node.domain or node.op_type not in LAYING_OUT or not node.inputs:
                return None
            value = node.inputs[0]
        return None

    def _match(self, pattern: Pattern, value: str, so_far: Match) -> Iterator[Match]:
        if isinstance(pattern, Either):
            for option in pattern.options:
                yield from self._match(option, value, so_far)
        elif isinstance(pattern, Make):
            yield from self._make(pattern, value, so_far)
        elif isinstance(pattern, Through):
            yield from self._through(pattern, value, so_far)
        elif isinstance(pattern, Product):
            for names, after in self._factors(value, len(pattern.factors), so_far):
                for order in itertools.permutations(names):
                    yield from self._all(pattern.factors, order, after)
        elif isinstance(pattern, Number):
            yield from self._number(pattern, value, so_far)
        else:
            bound = self._bound(pattern, value, so_far) if value else None
            if bound is not None:
                yield bound

    def _bound(self, pattern: Data | Fixed | Given, value: str, so_far: Match) -> Match | None:
        fixed = value in self.values.fixed
        if isinstance(pattern, Given):
            return so_far if fixed else so_far.bind(pattern.name, value)
        if isinstance(pattern, Data):
            return None if fixed else so_far.bind(pattern.name, value)
        if not fixed or (pattern.test is not None and not pattern.test(value, self.values)):
            return None
        return so_far.bind(pattern.name, value) if pattern.name else so_far

    def _number(self, pattern: Number, value: str, so_far: Match) -> Iterator[Match]:
        # A tensor of equal elements may be a parameter, fresh from its initializer; one number is
        # told as a setting only where the graph holds one number.
        uniform = pattern.value is not None
        number = self.number(value, uniform=uniform) if value in self.values.fixed else None
        if number is None or (pattern.inverse and not number):
            return
        number = 1 / number if pattern.inverse else number
        if pattern.value is None:
            counted = so_far.count(pattern.name, number)
            if counted is not None:
                yield counted
        elif math.isclose(number, pattern.value, rel_tol=CLOSE, abs_tol=1e-12):
            yield so_far

    def _node(self, value: str, op_types: Sequence[str], output: int) -> int | None:
        """The free node of one of these types that gives a value as its output of this index."""
        index, place = self.producer.get(value, (-1, 0))
        if index < 0 or index in self.taken or place != output:
            return None
        node = self.graph.nodes[index]
        return None if node.domain or node.op_type not in op_types else index

    def _make(self, pattern: Make, value: str, so_far: Match) -> Iterator[Match]:
        index = self._node(value, pattern.op_types, pattern.output)
        if index is None:
            return
        node = self.graph.nodes[index]
        count = len(pattern.operands)
        if len(node.inputs) < count:
            return
        rest = node.inputs[count:]
        if any(name and name not in self.values.fixed for name in rest):
            return
        if pattern.test is not None and not pattern.test(node, self.values):
            return
        after = so_far.take(index)
        operands = node.inputs[:count]
        yield from self._all(pattern.operands, operands, after)
        if node.op_type in COMMUTATIVE and count == 2 and not rest:
            yield from self._all(pattern.operands, operands[::-1], after)

    def _through(self, pattern: Through, value: str, so_far: Match) -> Iterator[Match]:
        for _ in range(MOST_THROUGH + 1):
            yield from self._match(pattern.of, value, so_far)
            index = self._node(value, pattern.op_types, 0)
            if index is None or not self._only_first(self.graph.nodes[index]):
                return
            value, so_far = self.graph.nodes[index].inputs[0], so_far.take(index)

    def _only_first(self, node: OnnxNode) -> bool:
        fixed = self.values.fixed
        return bool(node.inputs) and all(not n or n in fixed for n in node.inputs[1:])

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
        index = self._node(value, ("Mul",), 0)
        if index is None or len(self.graph.nodes[index].inputs) != 2:
            return
        after = so_far.take(index)
        left, right = self.graph.nodes[index].inputs
        for share in range(1, count):
            for first, between in self._factors(left, share, after):
                for second, found in self._factors(right, count - share, between):
                    yield first + second, found
