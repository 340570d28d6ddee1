"""`LayerGraph`: the calls of a model's layers and the tensors between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx

from auditor.graph.compile_settings import CompileSettings
from auditor.graph.dominators import DominatorTree, dominator_tree
from auditor.graph.operators import TRAINING_ONLY_OPS, Op
from auditor.graph.statistics import WeightStatistics, weight_statistics
from auditor.graph.weight import Weight

#: Dimensions with the batch first; None is unknown, a string is a named unknown (ONNX).
#: A shape that is altogether unknown is None where a `Shape | None` is allowed.
Shape = tuple[int | str | None, ...]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of the model. `call` is the id of its call of operator INPUT."""

    name: str
    call: str
    shape: Shape | None
    dtype: str


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """One call of one layer. A shared layer has several calls.

    `id` is unique and stable: the path of layer names through nested models joined by "/", with
    "#2", "#3", … after a name for its second, third … call ("encoder/conv1", "dense#2"). The
    outermost model's own name does not enter.
    `layer` is the same path without call numbers: calls with one `layer` share their weights.
    `kind` is the format's name of the class or operator ("Conv2D", "MatMul"); `op` the canonical
    operator; `activation` the canonical fused or own activation, None for linear.
    `config` is the layer's configuration as read (untrusted, JSON-like), ONNX attributes alike.
    `nodes` names the ONNX nodes that form this call.
    `note` says why the call is opaque or what was not understood; empty otherwise.
    """

    id: str
    name: str
    layer: str
    kind: str
    op: Op
    module: str = ""
    activation: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    in_shapes: tuple[Shape | None, ...] = ()
    out_shapes: tuple[Shape | None, ...] = ()
    dtype: str = "float32"
    weights: tuple[Weight, ...] = ()
    trainable: bool = True
    nodes: tuple[str, ...] = ()
    note: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """Names of the nested models this call is in, outermost first, then its own."""
        return tuple(self.layer.split("/"))

    @property
    def training_only(self) -> bool:
        """Whether the call is the identity outside training."""
        return self.op in TRAINING_ONLY_OPS

    @property
    def parameters(self) -> int:
        """Values in all weights, trainable or not."""
        return sum(weight.size for weight in self.weights)

    @property
    def trainable_parameters(self) -> int:
        """Values in weights that training changes."""
        return (
            sum(weight.size for weight in self.weights if weight.trainable) if self.trainable else 0
        )

    @property
    def in_shape(self) -> Shape | None:
        """Shape of the first input."""
        return self.in_shapes[0] if self.in_shapes else None

    @property
    def out_shape(self) -> Shape | None:
        """Shape of the first output."""
        return self.out_shapes[0] if self.out_shapes else None

    def weight(self, role: str) -> Weight | None:
        """The first weight of this role."""
        return next((weight for weight in self.weights if weight.role == role), None)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A tensor from output `source_slot` of one call into input `target_slot` of another."""

    source: str
    target: str
    source_slot: int = 0
    target_slot: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerGraph:
    """A model as calls and edges, the same for every format.

    `calls` stand in topological order (the reader ensures it). `outputs` are (call id, slot).
    `format` is one of keras, keras-h5, onnx, keras-live. `writer` is what the file says wrote it
    ("keras 3.15.1", "pytorch 2.13.0"). `notes` names what was not understood about the whole.
    """

    name: str
    format: str
    writer: str
    calls: tuple[LayerCall, ...]
    edges: tuple[Edge, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[tuple[str, int], ...]
    compile: CompileSettings | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def by_id(self) -> Mapping[str, LayerCall]:
        """Calls by id."""
        return {call.id: call for call in self.calls}

    @cached_property
    def digraph(self) -> nx.MultiDiGraph[str]:
        """The graph for networkx: nodes are call ids, edges carry `source_slot`, `target_slot`."""
        digraph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        digraph.add_nodes_from(call.id for call in self.calls)
        for edge in self.edges:
            digraph.add_edge(
                edge.source, edge.target, source_slot=edge.source_slot, target_slot=edge.target_slot
            )
        return digraph

    @cached_property
    def dominators(self) -> DominatorTree:
        """Which calls every way from the inputs passes."""
        return dominator_tree(self)

    def predecessors(self, call_id: str) -> tuple[LayerCall, ...]:
        """Calls whose outputs this call takes, in order of its inputs; an x + x gives x twice."""
        return self._sources.get(call_id, ())

    def successors(self, call_id: str) -> tuple[LayerCall, ...]:
        """Calls that take this call's outputs, each once, in topological order."""
        return self._targets.get(call_id, ())

    @cached_property
    def _sources(self) -> Mapping[str, tuple[LayerCall, ...]]:
        slots: dict[str, list[tuple[int, str]]] = {}
        for edge in self.edges:
            slots.setdefault(edge.target, []).append((edge.target_slot, edge.source))
        return {
            target: tuple(self.by_id[source] for _, source in sorted(pairs, key=_slot))
            for target, pairs in slots.items()
        }

    @cached_property
    def _targets(self) -> Mapping[str, tuple[LayerCall, ...]]:
        order = {call.id: index for index, call in enumerate(self.calls)}
        targets: dict[str, set[int]] = {}
        for edge in self.edges:
            targets.setdefault(edge.source, set()).add(order[edge.target])
        return {
            source: tuple(self.calls[place] for place in sorted(places))
            for source, places in targets.items()
        }

    @property
    def output_calls(self) -> tuple[LayerCall, ...]:
        """The calls that give the model's outputs, each once, in order."""
        return tuple(
            self.by_id[call_id] for call_id in dict.fromkeys(id_ for id_, _ in self.outputs)
        )

    def layers(self) -> Iterator[LayerCall]:
        """One call for each layer (the first), so that shared weights count once."""
        seen: set[str] = set()
        for call in self.calls:
            if call.layer not in seen:
                seen.add(call.layer)
                yield call

    @cached_property
    def weight_statistics(self) -> Mapping[tuple[str, int], WeightStatistics]:
        """Statistics of every weight whose values can be read, by (layer, index of the weight).

        All values are read when this is first asked for, one weight at a time, and only then.
        """
        statistics = {
            (call.layer, index): weight_statistics(weight)
            for call in self.layers()
            for index, weight in enumerate(call.weights)
        }
        return {place: seen for place, seen in statistics.items() if seen is not None}

    @cached_property
    def parameters(self) -> int:
        """Values in all weights, shared ones once."""
        return sum(call.parameters for call in self.layers())

    @cached_property
    def trainable_parameters(self) -> int:
        """Values in weights that training changes, shared ones once."""
        return sum(call.trainable_parameters for call in self.layers())


def _slot(pair: tuple[int, str]) -> int:
    return pair[0]
