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
    `bodies` is what graphs within the node gave, by attribute, once they are laid out in the graph
    around it (`onnx_bodies`); the same names then stand at the end of `inputs`.
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
    bodies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def own_inputs(self) -> tuple[str, ...]:
        """The inputs that stand in the file: those that bodies gave are left out."""
        given = sum(map(len, self.bodies.values()))
        return self.inputs[: len(self.inputs) - given]

    @property
    def label(self) -> str:
        """The node in a message to a user."""
        return f"{self.op_type} {self.name!r}" if self.name else f"{self.op_type} of {self.outputs}"

    @property
    def graphs(self) -> Iterator[OnnxGraph]:
        """Graphs among the attributes."""
        for _, graph in self.named_graphs:
            yield graph

    @property
    def named_graphs(self) -> Iterator[tuple[str, OnnxGraph]]:
        """Graphs among the attributes, each with the attribute's name, numbered in a list."""
        for name, value in self.attributes.items():
            if isinstance(value, OnnxGraph):
                yield name, value
            elif isinstance(value, tuple):
                for index, item in enumerate(value):
                    if isinstance(item, OnnxGraph):
                        yield f"{name}_{index}", item

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


@dataclass(frozen=True, kw_only=True)
class OnnxFunction:
    """A function of the model's own: its body, and the defaults of its attributes.

    `tensors` are those of graphs within its nodes, once these are laid out.
    """

    domain: str
    name: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Attribute]
    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A model as decoded. `opsets` maps a domain to its version; "" is ai.onnx."""

    writer: str
    opsets: Mapping[str, int]
    graph: OnnxGraph
    functions: tuple[OnnxFunction, ...]
