"""An ONNX model as plain frozen values.

Whatever comes after decoding (expansion of functions, ordering, shapes, grouping) works on these,
so that no protobuf object has to be copied or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from auditor.formats.onnx_tensors import StoredTensor
from auditor.graph.layer_graph import Shape

#: A node's attribute as decoded. Sparse tensors and types are named by a string.
Attribute: TypeAlias = (
    "int | float | str | StoredTensor | OnnxGraph | tuple[int, ...] | tuple[float, ...] | "
    "tuple[str, ...] | tuple[StoredTensor, ...] | tuple[OnnxGraph, ...]"
)


@dataclass(frozen=True, kw_only=True)
class TensorType:
    """What is declared or inferred of a value. `dtype` is empty where unknown."""

    dtype: str = ""
    shape: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """One node. `references` maps an attribute to the function attribute it stands for.

    `scope` is the module path that the exporter recorded beside the node, outermost first.
    """

    op_type: str
    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    scope: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The node in a message to a user."""
        return f"{self.op_type} {self.name!r}" if self.name else f"{self.op_type} of {self.outputs}"

    @property
    def graphs(self) -> Iterator[OnnxGraph]:
        """Graphs among the attributes."""
        for value in self.attributes.values():
            if isinstance(value, OnnxGraph):
                yield value
            elif isinstance(value, tuple):
                yield from (item for item in value if isinstance(item, OnnxGraph))

    def integer(self, name: str, default: int) -> int:
        """An attribute that has to be an integer; `default` where it is not."""
        value = self.attributes.get(name)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """An attribute that has to be a number; `default` where it is not."""
        value = self.attributes.get(name)
        return float(value) if isinstance(value, (int, float)) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that has to be a list of integers; None where it is not."""
        value = self.attributes.get(name)
        if not isinstance(value, tuple):
            return None
        integers = tuple(item for item in value if isinstance(item, int))
        return integers if len(integers) == len(value) else None

    def text(self, name: str, default: str = "") -> str:
        """An attribute that has to be a string; `default` where it is not."""
        value = self.attributes.get(name)
        return value if isinstance(value, str) else default


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """A graph: nodes as they stand in the file, stored tensors, and what is said of its values."""

    name: str
    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, StoredTensor]
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]

    def captured(self) -> tuple[str, ...]:
        """Names the graph uses and does not define: values of the graphs around it."""
        defined = {*self.tensors, *(name for name, _ in self.inputs)}
        for node in self.nodes:
            defined.update(node.outputs)
        used: dict[str, None] = {}
        for node in self.nodes:
            used.update(dict.fromkeys(node.inputs))
            for graph in node.graphs:
                used.update(dict.fromkeys(graph.captured()))
        used.update(dict.fromkeys(self.outputs))
        return tuple(name for name in used if name and name not in defined)

    def walk(self) -> Iterator[OnnxNode]:
        """All nodes, those of graphs within nodes included."""
        for node in self.nodes:
            yield node
            for graph in node.graphs:
                yield from graph.walk()


@dataclass(frozen=True, kw_only=True)
class OnnxFunction:
    """A function of the model's own: its body, and the defaults of its attributes."""

    domain: str
    name: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Attribute]
    nodes: tuple[OnnxNode, ...]


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A model as decoded. `opsets` maps a domain to its version; "" is ai.onnx."""

    writer: str
    opsets: Mapping[str, int]
    graph: OnnxGraph
    functions: tuple[OnnxFunction, ...]
