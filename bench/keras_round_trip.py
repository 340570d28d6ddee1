"""What an imported call is made of: the Keras layers that its ONNX nodes were exported from.

A layer may become several calls (its activation apart), and a call may hold several layers (a
padding before a convolution, an activation after it). What can be compared are the smallest sets
of calls and layers that were made of each other. Which they are is read off the nodes' names in
an export that puts the nodes of each layer in a scope of its own; the composition of the layers
is the piece of the original's functional graph between the tensors that enter and leave them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import networkx as nx
import numpy as np
import onnx
import torch

from auditor.graph.layer_graph import LayerGraph
from auditor.probe.recording import RecordedCall
from auditor.probe.taps import Taps

#: Nodes that compute nothing: the first cast of a layer is often taken with the call before it.
SILENT = frozenset({"Cast", "Identity"})
KERNEL = "kernel"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Ids of imported calls and of the original's calls that were made of each other."""

    calls: tuple[str, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same piece of both models, each as one call.

    title: the layers of the original it is made of; calls: ids of the imported ones.
    """

    title: str
    calls: tuple[str, ...]
    original: RecordedCall
    imported: RecordedCall

    def held(self, ours: Mapping[str, RecordedCall]) -> list[RecordedCall]:
        """The imported calls of it that hold a kernel."""
        return [ours[call] for call in self.calls if kernels(ours[call])]


def layers_of_nodes(
    export: Callable[[Any, torch.Tensor, Path], None],
    model: Any,
    x: torch.Tensor,
    path: Path,
    plain: Path,
) -> dict[str, str]:
    """By the name of each node of the `plain` export, the call of the original it belongs to.

    Exports once more, to `path`; raises `ValueError` where that gives other nodes.
    """

    def enter(call: str, *_: Any) -> None:
        state = torch._C._get_tracing_state()  # noqa: SLF001 as torch.nn.Module does it
        if state is not None:
            state.push_scope(torch._C._jit_onnx_create_full_scope_name("keras", call))  # noqa: SLF001

    def leave(_: str, __: Any, outputs: Any) -> Any:
        state = torch._C._get_tracing_state()  # noqa: SLF001
        if state is not None:
            state.pop_scope()
        return outputs

    with Taps(model, leave, on_inputs=enter):
        export(model, x, path)
    nodes, scoped = (onnx.load(file).graph.node for file in (plain, path))
    if [node.op_type for node in nodes] != [node.op_type for node in scoped]:
        raise ValueError(f"{plain}: scopes change what is exported")
    found = {}
    for node, named in zip(nodes, scoped, strict=True):
        *scope, _ = named.name.strip("/").split("/")
        if scope and node.op_type not in SILENT:
            found[node.name] = "/".join(scope)
    return found


def groups(graph: LayerGraph, layers: Mapping[str, str]) -> Iterator[Group]:
    """The smallest sets of calls and layers with all their nodes in common, in the calls' order."""
    shared: nx.Graph[tuple[str, str]] = nx.Graph()
    for call in graph.calls:
        for node in call.nodes:
            if node in layers:
                shared.add_edge(("call", call.id), ("layer", layers[node]))
    for found in nx.connected_components(shared):
        yield Group(
            calls=tuple(call.id for call in graph.calls if ("call", call.id) in found),
            layers=tuple(name for kind, name in found if kind == "layer"),
        )


def matched(
    original: Any,
    theirs: Mapping[str, RecordedCall],
    graph: LayerGraph,
    ours: Mapping[str, RecordedCall],
    layers: Mapping[str, str],
) -> tuple[list[Pair], dict[str, str]]:
    """All pairs that hold a kernel, and why a call or layer that holds one is in none.

    theirs, ours: the calls of the original and of the imported model; layers: `layers_of_nodes`.
    """
    pairs, without = [], {}
    for group in groups(graph, layers):
        order = [call for call in theirs if call in group.layers]
        wanted = sorted(kernel for layer in order for kernel in kernels(theirs[layer]))
        found = sorted(kernel for call in group.calls for kernel in kernels(ours[call]))
        if wanted and found == wanted:
            pairs.append(
                Pair(
                    title=" + ".join(order),
                    calls=group.calls,
                    original=composed(original, [theirs[layer] for layer in order]),
                    imported=chained(graph, [ours[call] for call in group.calls]),
                )
            )
        elif wanted or found:
            without[" + ".join(group.calls)] = f"has other kernels than {', '.join(order)}"
    known = {id(call.operation) for pair in pairs for call in pair.held(ours)}
    known |= {id(theirs[layer].operation) for pair in pairs for layer in pair.title.split(" + ")}
    for call in (*theirs.values(), *ours.values()):
        if id(call.operation) not in known and kernels(call):
            without.setdefault(call.id, "has a kernel, and nothing on the other side")
    return pairs, without


def kernels(call: RecordedCall) -> list[bytes]:
    """The values of each kernel a call holds, however they are laid out."""
    held = [w for w in getattr(call.operation, "weights", ()) if KERNEL in w.name]
    return [np.sort(keras.ops.convert_to_numpy(w), axis=None).tobytes() for w in held]


def composed(model: Any, calls: Sequence[RecordedCall]) -> RecordedCall:
    """Calls of a functional model as one, from the tensors that enter them to those that leave."""
    if len(calls) == 1:
        return calls[0]
    everywhere = _nodes(model)
    nodes = {}
    for call in calls:
        of_layer = [node for node in everywhere if node.operation is call.operation]
        _, _, number = call.id.partition("#")
        nodes[call.id] = of_layer[int(number or 1) - 1]
    made = {id(tensor) for node in nodes.values() for tensor in node.output_tensors}
    entering: dict[int, tuple[Any, Any]] = {}
    for call in calls:
        for symbolic, value in zip(nodes[call.id].input_tensors, call.inputs, strict=True):
            if id(symbolic) not in made:
                entering[id(symbolic)] = symbolic, value
    inside = {id(node) for node in nodes.values()}
    used = {
        id(tensor) for node in everywhere if id(node) not in inside for tensor in node.input_tensors
    } | {id(tensor) for tensor in model.outputs}
    leaving = [
        tensor for node in nodes.values() for tensor in node.output_tensors if id(tensor) in used
    ]
    symbols, values = zip(*entering.values(), strict=True)
    piece = keras.Model(list(symbols), leaving if len(leaving) > 1 else leaving[0])
    piece.eval()
    return _as_one(calls, piece, values)


def chained(graph: LayerGraph, calls: Sequence[RecordedCall]) -> RecordedCall:
    """Imported calls as one, each of which takes what the one before it gives and nothing besides.

    Raises `ValueError` where they are no such chain.
    """
    if len(calls) == 1:
        return calls[0]
    for before, after in itertools.pairwise(calls):
        followers = [call.id for call in graph.successors(before.id)]
        if followers != [after.id] or len(after.inputs) != 1 or len(before.outputs) != 1:
            raise ValueError(f"{after.id} does not follow on {before.id}")

    def run(*inputs: Any, training: bool = False) -> Any:
        del training
        for call in calls:
            inputs = call.floating_outputs(inputs)
        return inputs

    return _as_one(calls, run, calls[0].inputs)


def _as_one(calls: Sequence[RecordedCall], operation: Any, inputs: Sequence[Any]) -> RecordedCall:
    given: tuple[Any, ...] = tuple(inputs)
    if isinstance(operation, keras.Model) and len(given) > 1:
        given = (list(given),)
    one = replace(calls[0], operation=operation, args=given, kwargs={}, training=False)
    made = one.floating_outputs(one.inputs)
    outputs = tuple((tuple(t.shape), keras.backend.standardize_dtype(t.dtype)) for t in made)
    return replace(one, outputs=outputs)


def _nodes(model: Any) -> list[Any]:
    """All nodes of a functional model, in the order it runs them; there is no public way to it."""
    by_depth = model._nodes_by_depth  # noqa: SLF001
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
