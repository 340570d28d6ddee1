"""Graphs within nodes (If, Loop, Scan, SequenceMap, …), laid out in the graph around them.

Everything that comes after (order, shapes, grouping, weights) then sees one flat graph, in which a
layer in a branch is a layer like any other:

- The nodes of a body stand before the node they belong to, under its path: "If_0/then/conv1". What
  a body defines gets names of its own; what it takes from around it, it takes directly.
- What a body gives goes into its node, which stays as the call where the ways come together: the
  outputs of an If are those of one branch or the other.
- What a body is given by its node (the count of a Loop, its state, a slice of a Scan) comes from a
  node made here, of the domain `BODY`. The way back, from what a repetition gives to what the next
  one takes, is left out: a body stands once, as its first repetition.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from auditor.formats.limits import Limits
from auditor.formats.onnx_budget import Budget, Cost, cost
from auditor.formats.onnx_model import OnnxGraph, OnnxModel, OnnxNode, TensorType
from auditor.formats.onnx_operators import BODY
from auditor.formats.onnx_tensors import StoredTensor

#: Characters of a control node's name that the names within its bodies begin with.
MAX_LABEL = 120
#: How spox names the nodes of a model that it put into a branch.
INLINED = r"(?:__Inline_\d+__)?"


def lay_out_bodies(model: OnnxModel, limits: Limits, source: str) -> OnnxModel:
    """The model with the graphs within its nodes, and within its functions' nodes, laid out.

    Raises `UnreadableModel` for more nodes or longer names than `limits` allow.
    """
    budget = Budget(limits=limits, source=source)
    opset = model.opsets.get("", 0)
    main = _Layout(budget=budget, opset=opset, graph=model.graph)
    functions = []
    for function in model.functions:
        body = OnnxGraph(
            name=function.name,
            nodes=function.nodes,
            tensors={},
            inputs=tuple((name, TensorType()) for name in function.inputs),
            outputs=function.outputs,
            types={},
        )
        laid_out = _Layout(budget=budget, opset=opset, graph=body, spent=main.spent)
        flat = laid_out.flat()
        main.spent = laid_out.spent
        functions.append(replace(function, nodes=flat.nodes, tensors=flat.tensors))
    return replace(model, graph=main.flat(), functions=tuple(functions))


@dataclass
class _Scope:
    """Names of one graph as they read in the flat one; a name not defined here is from around."""

    own: Mapping[str, str]
    around: _Scope | None = None
    used: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> str:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.own:
                scope.used.add(name)
                return scope.own[name]
            scope = scope.around
        return name


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the nodes of a body stand.

    path: what their paths begin with. fronts: what exporters put in front of their names to say
    the same, around each other as bodies are. module: where the body's own node is, which names
    in the body repeat.
    """

    path: tuple[str, ...]
    fronts: tuple[re.Pattern[str], ...]
    module: tuple[str, ...]

    def of(self, node: OnnxNode) -> OnnxNode:
        """A node of the body, with its place in its name, or in the scope it records."""
        if node.scope:
            return replace(node, scope=(*self.path, *node.scope), name=node.name or node.op_type)
        own = self.own(node.name) or (node.op_type,)
        if own[: len(self.module)] == self.module and len(own) > len(self.module):
            own = own[len(self.module) :]
        return replace(node, name="/".join((*self.path, *own)))

    def own(self, name: str) -> tuple[str, ...]:
        """A name in the file as a path, without what was put in front of it."""
        for front in self.fronts:
            name = front.sub("", name, count=1)
        return tuple(filter(None, name.split("/")))


OUTSIDE = _Place(path=(), fronts=(), module=())


@dataclass(kw_only=True)
class _Layout:
    budget: Budget
    opset: int
    graph: OnnxGraph
    spent: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        self.tensors: dict[str, StoredTensor] = dict(self.graph.tensors)
        self.types: dict[str, TensorType] = dict(self.graph.types)
        self.taken = {*self.tensors, *(name for name, _ in self.graph.inputs)}
        for node in self.graph.nodes:
            self.taken.update(node.inputs, node.outputs)
        self.labels = {node.name for node in self.graph.nodes}
        self.kinds: Counter[str] = Counter()
        self.numbers = count(1)

    def flat(self) -> OnnxGraph:
        """The graph with all bodies laid out."""
        self._spend(sum(map(cost, self.graph.nodes), Cost()))
        nodes = tuple(self._nodes(self.graph.nodes, _Scope({}), OUTSIDE))
        return replace(self.graph, nodes=nodes, tensors=self.tensors, types=self.types)

    def _spend(self, more: Cost) -> None:
        self.spent += more
        self.budget.check(self.spent)

    def _nodes(self, nodes: Sequence[OnnxNode], scope: _Scope, place: _Place) -> Iterator[OnnxNode]:
        for node in nodes:
            placed = node
            if place is not OUTSIDE:
                placed = replace(
                    place.of(node),
                    inputs=tuple(scope[name] for name in node.inputs),
                    outputs=tuple(scope[name] for name in node.outputs),
                )
            if any(True for _ in node.graphs):
                yield from self._control(placed, node.name, scope, place)
            else:
                yield placed

    def _control(
        self, node: OnnxNode, stored: str, scope: _Scope, place: _Place
    ) -> Iterator[OnnxNode]:
        """The bodies of a node, whose name in the file is `stored`, and the node without them."""
        label = self._label(node)
        node = replace(node, name=node.name or label)
        bodies: dict[str, tuple[str, ...]] = {}
        told: dict[str, str] = {}
        for attribute, body in node.named_graphs:
            front = rf"{re.escape(stored)}(?:_{re.escape(attribute)}|/)" if stored else ""
            within = _Place(
                path=(*_path(node), attribute.removesuffix("_branch")),
                fronts=(*place.fronts, re.compile(rf"\A(?:{front})?{INLINED}")),
                module=place.own(stored)[:-1],
            )
            names, nodes = self._body(node, label, body, scope, within)
            bodies[attribute] = names
            told[attribute] = f"<graph of {len(body.nodes)} nodes>"
            yield from nodes
        plain = {
            name: value
            for name, value in node.attributes.items()
            if not isinstance(value, OnnxGraph)
            and not (isinstance(value, tuple) and value and isinstance(value[0], OnnxGraph))
        }
        given = [name for names in bodies.values() for name in names]
        yield replace(
            node,
            inputs=(*node.inputs, *given),
            attributes={**plain, **told},
            bodies=bodies,
        )

    def _label(self, node: OnnxNode) -> str:
        """A name for a control node that no other has, short enough to be put before others."""
        label = node.name.strip("/")[-MAX_LABEL:]
        while not label or (label in self.labels and label != node.name):
            self.kinds[node.op_type] += 1
            label = f"{node.op_type[:MAX_LABEL]}_{self.kinds[node.op_type]}"
        self.labels.add(label)
        return label

    def _body(
        self, node: OnnxNode, label: str, body: OnnxGraph, around: _Scope, place: _Place
    ) -> tuple[tuple[str, ...], list[OnnxNode]]:
        """Names of what a body gives, and its nodes."""
        prefix = f"{label}/{place.path[-1]}/"
        room = len("/".join(place.path)) + len(prefix)
        self._spend(sum((cost(inner, room) for inner in body.nodes), Cost()))
        defined = [*body.tensors, *(name for name, _ in body.inputs)]
        self._spend(Cost(nodes=len(body.inputs), characters=sum(map(len, defined)) * 2))
        defined += [name for inner in body.nodes for name in inner.outputs if name]
        scope = _Scope({name: self._fresh(prefix, name) for name in defined if name}, around)
        for name, tensor in body.tensors.items():
            own = scope.own[name]
            self.tensors[own] = replace(tensor, name=own)
        for name, kind in (*body.types.items(), *body.inputs):
            if name in scope.own:
                self.types[scope.own[name]] = kind
        nodes = list(self._nodes(body.nodes, scope, place))
        outputs = tuple(scope[name] for name in body.outputs)
        inputs = tuple(name if name in scope.used else "" for name, _ in body.inputs)
        given = _given(node, tuple(scope.own.get(name, "") for name in inputs), self.opset)
        return outputs, [
            *(replace(made, name="/".join((*place.path, made.name))) for made in given),
            *nodes,
        ]

    def _fresh(self, prefix: str, name: str) -> str:
        """A name for what a body defines, in a graph where the plain one may mean another value."""
        fresh = prefix + name
        while fresh in self.taken:
            fresh = f"{prefix}{name}<{next(self.numbers)}>"
        self.taken.add(fresh)
        return fresh


def _path(node: OnnxNode) -> tuple[str, ...]:
    """The path that a node's name makes, as calls are named."""
    if node.scope:
        return (*node.scope, node.name)
    return tuple(filter(None, node.name.split("/"))) or (node.op_type,)


def _given(node: OnnxNode, names: tuple[str, ...], opset: int) -> Iterator[OnnxNode]:
    """Nodes for what `node` gives its body, as far as the body uses it (an unused one is "")."""
    known = node.domain == ""
    inputs = node.inputs
    if known and node.op_type == "Loop":
        for position, name in enumerate(names):
            kind = ("LoopCount", "LoopCondition")[position] if position < 2 else "LoopState"
            taken = inputs[position : position + 1] if position else ()
            yield from _node(kind, name, taken)
    elif known and node.op_type == "Scan":
        yield from _scanned(node, names, opset)
    elif known and node.op_type == "SequenceMap":
        for position, name in enumerate(names):
            yield from _node("SequenceElement", name, inputs[position : position + 1])
    elif any(names):
        yield OnnxNode(
            op_type="BodyInputs", name="inputs", domain=BODY, inputs=inputs, outputs=names
        )


def _scanned(node: OnnxNode, names: tuple[str, ...], opset: int) -> Iterator[OnnxNode]:
    """What a Scan gives: states as they are, and slices along an axis of what it runs over.

    Scan of opset 8 takes lengths first and keeps the batch, axis 0, out of its body.
    """
    inputs = node.inputs[1:] if opset == 8 else node.inputs
    batch = (0,) if opset == 8 else ()
    states = max(len(inputs) - node.integer("num_scan_inputs", 0), 0)
    axes = node.integers("scan_input_axes") or ()
    for position, name in enumerate(names):
        taken = inputs[position : position + 1]
        if position < states:
            yield from _node("ScanState", name, taken, batch)
        else:
            place = position - states
            axis = axes[place] if place < len(axes) and not batch else len(batch)
            yield from _node("ScanElement", name, taken, (*batch, axis))


def _node(
    kind: str, name: str, inputs: tuple[str, ...], removed: tuple[int, ...] = ()
) -> Iterator[OnnxNode]:
    if name:
        yield OnnxNode(
            op_type=kind,
            name=name.rpartition("/")[2],
            domain=BODY,
            inputs=inputs,
            outputs=(name,),
            attributes={"axes": removed} if removed else {},
        )
