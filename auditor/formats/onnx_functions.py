"""Local functions of an ONNX model, expanded where they are called.

onnx.inliner does the same in native code, which a crafted model can crash, and without a bound on
what comes out; this expansion is counted before it is begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_budget import Budget, Cost, cost
from auditor.formats.onnx_model import Attribute, OnnxFunction, OnnxModel, OnnxNode
from auditor.formats.onnx_tensors import StoredTensor
from auditor.formats.refusal import refusal

Key = tuple[str, str, str]

#: The advisory on functions that call themselves.
RECURSION = "GHSA-7w46-vvrh-m8q5"
#: Characters of a call's name that its nodes' names begin with.
MAX_LABEL = 200
#: Characters that tell one call's values from another's.
NUMBER = 10


def expand_functions(model: OnnxModel, limits: Limits, source: str) -> OnnxModel:
    """The model with every call of one of its functions replaced by the function's nodes.

    Graphs within nodes have been laid out before. Raises `UnreadableModel` for more nodes than
    `limits.calls`, and `UnsafeModel` where calls multiply to more than that, or nest more than
    `limits.nesting` deep, or a function calls itself (GHSA-7w46-vvrh-m8q5).
    """
    functions: dict[Key, OnnxFunction] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions:
            raise UnreadableModel(
                f"{source}: damaged ONNX model: two functions have the name {function.name!r}"
            )
        functions[key] = function
    if not functions:
        return model
    costs = _Costs(functions, limits, source)
    costs.check()
    total = Cost()
    for node in model.graph.nodes:
        total += costs.of(node)
    Budget(limits=limits, source=source).check_expanded(total, "its functions")
    expansion = _Expansion(functions)
    nodes = tuple(expansion.nodes(model.graph.nodes))
    tensors = {**model.graph.tensors, **expansion.tensors}
    return replace(model, graph=replace(model.graph, nodes=nodes, tensors=tensors), functions=())


def _called(node: OnnxNode) -> Key:
    return node.domain, node.op_type, node.overload


@dataclass
class _Costs:
    """What calls expand to; found bottom-up, so that the answer is never built."""

    functions: Mapping[Key, OnnxFunction]
    limits: Limits
    source: str

    def __post_init__(self) -> None:
        self._known: dict[Key, Cost] = {}
        self._open: list[Key] = []

    def check(self) -> None:
        """Raise `UnsafeModel` for functions that call themselves, called or not."""
        for key, function in self.functions.items():
            self._of_body(key, function)

    def of(self, node: OnnxNode) -> Cost:
        """The cost of a node, or of all that a call of a function becomes."""
        key = _called(node)
        function = self.functions.get(key)
        if function is None:
            return cost(node)
        # The call itself counts, or empty functions calling each other twice would cost nothing.
        return cost(node) + self._of_body(key, function)

    def _of_body(self, key: Key, function: OnnxFunction) -> Cost:
        if key not in self._known:
            self._known[key] = self._body(key, function)
        return self._known[key]

    def _body(self, key: Key, function: OnnxFunction) -> Cost:
        place = f"{self.source}: function {key[1]!r} of domain {key[0]!r}"
        if key in self._open:
            raise refusal(
                "GEB909",
                place,
                "it calls itself, which no ONNX function may; libraries that expand it run out "
                "of memory",
                identifier=RECURSION,
            )
        if len(self._open) >= self.limits.nesting:
            raise refusal(
                "GEB909", place, f"functions call functions more than {self.limits.nesting} deep"
            )
        self._open.append(key)
        told = (*function.inputs, *function.outputs, *function.tensors, *function.defaults)
        total = Cost(characters=sum(map(len, told)))
        prefix = min(len(key[1]), MAX_LABEL) + NUMBER
        for inner in function.nodes:
            total += self.of(inner)
            values = len(inner.inputs) + len(inner.outputs)
            total += Cost(characters=MAX_LABEL + values * prefix)
        self._open.pop()
        return total


@dataclass(frozen=True)
class _Expansion:
    """`tensors` gathers those that functions hold: once, however often the function is called."""

    functions: Mapping[Key, OnnxFunction]
    numbers: Iterator[int] = field(default_factory=count)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)

    def nodes(self, nodes: Sequence[OnnxNode]) -> Iterator[OnnxNode]:
        """The nodes, with calls of functions replaced."""
        for node in nodes:
            function = self.functions.get(_called(node))
            if function is None:
                yield node
            else:
                yield from self._body(node, function)

    def _body(self, call: OnnxNode, function: OnnxFunction) -> Iterator[OnnxNode]:
        """The function's nodes with this call's values; what it names itself gets new names."""
        number = next(self.numbers)
        label = (call.name or f"{function.name}_{number + 1}")[-MAX_LABEL:]
        stored = {name: f"<{function.domain}.{function.name}>{name}" for name in function.tensors}
        for name, tensor in function.tensors.items():
            self.tensors.setdefault(stored[name], replace(tensor, name=stored[name]))
        naming = _Naming(
            values={**_outer_names(call, function), **stored},
            prefix=f"<{function.name[:MAX_LABEL]} {number}>",
            label=label,
            attributes={**function.defaults, **call.attributes},
        )
        for node in function.nodes:
            renamed = naming.node(node)
            inner = self.functions.get(_called(node))
            if inner is None:
                yield renamed
            else:
                yield from self._body(renamed, inner)
        for inside, outside in zip(function.outputs, call.outputs, strict=False):
            if outside and naming.value(inside) != outside:
                yield OnnxNode(
                    op_type="Identity",
                    name=f"{label}/{inside}",
                    inputs=(naming.value(inside),),
                    outputs=(outside,),
                    scope=call.scope,
                )


def _outer_names(call: OnnxNode, function: OnnxFunction) -> dict[str, str]:
    """Names of the function's inputs and produced outputs where it is called; "" for omitted."""
    names = {"": "", **dict.fromkeys(function.inputs, "")}
    names.update(zip(function.inputs, call.inputs, strict=False))
    produced = {name for node in function.nodes for name in node.outputs}
    outputs = zip(function.outputs, call.outputs, strict=False)
    return names | {
        inside: outside for inside, outside in outputs if inside in produced and outside
    }


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """How names within one call of a function read outside of it.

    `values` maps those known outside; all others get `prefix`. `label` is put before names of
    nodes, and `attributes` are what the function's attributes are in this call.
    """

    values: dict[str, str]
    prefix: str
    label: str
    attributes: Mapping[str, Attribute]

    def value(self, name: str) -> str:
        return self.values.get(name, self.prefix + name)

    def node(self, node: OnnxNode) -> OnnxNode:
        attributes = dict(node.attributes)
        for name, reference in node.references.items():
            if reference in self.attributes:
                attributes[name] = self.attributes[reference]
        return replace(
            node,
            name=f"{self.label}/{node.name or node.op_type}",
            inputs=tuple(map(self.value, node.inputs)),
            outputs=tuple(map(self.value, node.outputs)),
            attributes=attributes,
            references={},
            bodies={name: tuple(map(self.value, names)) for name, names in node.bodies.items()},
        )
