"""Local functions of an ONNX model, expanded where they are called.

onnx.inliner does the same in native code, which a crafted model can crash, and without a bound on
what comes out; this expansion is counted before it is begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.finding import Confidence, Finding, Severity
from auditor.formats.limits import Limits
from auditor.formats.onnx_model import Attribute, OnnxFunction, OnnxGraph, OnnxModel, OnnxNode

Key = tuple[str, str, str]

#: Characters of a call's name that its nodes' names begin with.
MAX_LABEL = 200


def expand_functions(model: OnnxModel, limits: Limits, source: str) -> OnnxModel:
    """The model with every call of one of its functions replaced by the function's nodes.

    Raises `UnsafeModel` for functions that call themselves (GHSA-7w46-vvrh-m8q5), and
    `UnreadableModel` for more nodes than `limits.calls`.
    """
    functions: dict[Key, OnnxFunction] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions:
            raise UnreadableModel(
                f"{source}: damaged ONNX model: two functions have the name {function.name!r}"
            )
        functions[key] = function
    sizes = _Sizes(functions, limits, source)
    total = sum(sizes.of(node) for node in model.graph.walk())
    if total > limits.calls:
        raise UnreadableModel(
            f"{source}: {total} nodes with functions expanded, more than the {limits.calls} allowed"
        )
    if not functions:
        return model
    return replace(model, graph=_Expansion(functions).graph(model.graph), functions=())


def _called(node: OnnxNode) -> Key:
    return node.domain, node.op_type, node.overload


@dataclass
class _Sizes:
    """How many nodes calls expand to; found bottom-up, so that the answer is never built."""

    functions: Mapping[Key, OnnxFunction]
    limits: Limits
    source: str

    def __post_init__(self) -> None:
        self._known: dict[Key, int] = {}
        self._open: list[Key] = []

    def of(self, node: OnnxNode) -> int:
        key = _called(node)
        if key not in self.functions:
            return 1
        if key in self._known:
            return self._known[key]
        if key in self._open:
            raise self._recursive(key)
        if len(self._open) >= self.limits.nesting:
            raise UnreadableModel(
                f"{self.source}: functions call functions more than {self.limits.nesting} deep"
            )
        self._open.append(key)
        # The call itself counts, or empty functions calling each other twice would cost nothing.
        self._known[key] = 1 + sum(
            self.of(inner) for body in self.functions[key].nodes for inner in _walk(body)
        )
        self._open.pop()
        return self._known[key]

    def _recursive(self, key: Key) -> UnsafeModel:
        what = f"the function {key[1]!r} of domain {key[0]!r} calls itself"
        return UnsafeModel(
            f"{self.source}: unsafe ONNX model: {what}; no ONNX model may, and libraries that "
            "expand it run out of memory",
            findings=(
                Finding(
                    code="GEB909",
                    name="recursion-or-nesting",
                    severity=Severity.ERROR,
                    confidence=Confidence.HIGH,
                    message=f"{what} (GHSA-7w46-vvrh-m8q5)",
                ),
            ),
        )


def _walk(node: OnnxNode) -> Iterator[OnnxNode]:
    yield node
    for graph in node.graphs:
        yield from graph.walk()


@dataclass(frozen=True)
class _Expansion:
    functions: Mapping[Key, OnnxFunction]
    numbers: Iterator[int] = field(default_factory=count)

    def graph(self, graph: OnnxGraph) -> OnnxGraph:
        """A graph with calls of functions replaced, in graphs within nodes also."""
        nodes: list[OnnxNode] = []
        for node in graph.nodes:
            function = self.functions.get(_called(node))
            if function is None:
                nodes.append(self._inner(node))
            else:
                nodes.extend(self._body(node, function))
        return replace(graph, nodes=tuple(nodes))

    def _inner(self, node: OnnxNode) -> OnnxNode:
        if not any(True for _ in node.graphs):
            return node
        return replace(
            node, attributes={name: self._value(value) for name, value in node.attributes.items()}
        )

    def _value(self, value: Attribute) -> Attribute:
        if isinstance(value, OnnxGraph):
            return self.graph(value)
        if isinstance(value, tuple) and value and isinstance(value[0], OnnxGraph):
            return tuple(self.graph(item) for item in value if isinstance(item, OnnxGraph))
        return value

    def _body(self, call: OnnxNode, function: OnnxFunction) -> Iterator[OnnxNode]:
        """The function's nodes with this call's values; what it names itself gets new names."""
        number = next(self.numbers)
        label = (call.name or f"{function.name}_{number + 1}")[-MAX_LABEL:]
        naming = _Naming(
            values=_outer_names(call, function),
            prefix=f"<{function.name[:MAX_LABEL]} {number}>",
            label=label,
            attributes={**function.defaults, **call.attributes},
        )
        for node in function.nodes:
            renamed = naming.node(node)
            inner = self.functions.get(_called(node))
            if inner is None:
                yield self._inner(renamed)
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
        attributes = {name: self._attribute(value) for name, value in node.attributes.items()}
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
        )

    def _attribute(self, value: Attribute) -> Attribute:
        if isinstance(value, OnnxGraph):
            return self._graph(value)
        if isinstance(value, tuple) and value and isinstance(value[0], OnnxGraph):
            return tuple(self._graph(item) for item in value if isinstance(item, OnnxGraph))
        return value

    def _graph(self, graph: OnnxGraph) -> OnnxGraph:
        """A graph within the function: what it defines is its own, what it captures follows."""
        defined = {*graph.tensors, *(name for name, _ in graph.inputs)}
        defined.update(name for node in graph.nodes for name in node.outputs if name)
        own = {name: self.prefix + name for name in defined}
        inner = replace(self, values={**self.values, **own})
        return replace(
            graph,
            nodes=tuple(map(inner.node, graph.nodes)),
            tensors={inner.value(name): tensor for name, tensor in graph.tensors.items()},
            inputs=tuple((inner.value(name), kind) for name, kind in graph.inputs),
            outputs=tuple(map(inner.value, graph.outputs)),
            types={inner.value(name): kind for name, kind in graph.types.items()},
        )
