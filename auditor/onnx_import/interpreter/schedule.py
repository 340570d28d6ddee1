"""The order in which a graph's nodes run, and which of them run together as one layer call."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.formats.onnx_model import OnnxNode
from auditor.onnx_import.interpreter.convex import uses, without_circles
from auditor.onnx_import.interpreter.weight_arithmetic import behind, weight_arithmetic
from auditor.onnx_import.refused import NotImportable

#: Operators with outputs of which exporters name more than the graph uses, and to which the number
#: of outputs means something else than their places: BatchNormalization trains by it.
OPTIONAL_OUTPUTS = frozenset(
    {"Attention", "BatchNormalization", "Dropout", "GRU", "LSTM", "LayerNormalization", "MaxPool"}
    | {"RNN", "Unique"}
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Nodes that run one after the other: one alone, or those of the layer call `call`.

    inputs: what they use from outside, graphs within them included. outputs: what is used of
    them outside.
    """

    nodes: tuple[OnnxNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    call: str = ""


def schedule(
    nodes: Sequence[OnnxNode],
    outputs: Sequence[str],
    calls: Mapping[int, str],
    source: str,
    *,
    stored: Container[str] = (),
) -> tuple[Step, ...]:
    """Steps in which every value comes before its use; nodes nothing depends on are left out.

    `calls` names the layer call of a node by the `id` of the node. A layer whose nodes cannot run
    together, because something outside comes between them, runs as single nodes. What is computed
    of `stored` tensors alone is part of each call that uses it. Raises
    `NotImportable` for a value that is defined twice, and for nodes that wait for each other.
    """
    needed = _needed(nodes, outputs, source)
    names: dict[str, list[int]] = {}
    for index in needed:
        call = calls.get(id(nodes[index]), "")
        if call:
            names.setdefault(call, []).append(index)
    whole = without_circles(nodes, needed, names)
    order = _order(nodes, needed, whole)
    if order is None:
        raise NotImportable(
            f"{source}: damaged ONNX model: nodes depend on each other in a circle",
            reason="nodes depend on each other in a circle",
        )
    return _steps(nodes, order, outputs, weight_arithmetic(nodes, needed, whole, stored))


def _needed(nodes: Sequence[OnnxNode], outputs: Sequence[str], source: str) -> list[int]:
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in producer:
                raise NotImportable(
                    f"{source}: damaged ONNX model: the value {name!r} is defined twice",
                    reason="a value is defined twice",
                )
            producer[name] = index
    found: set[int] = set()
    waiting = [producer[name] for name in outputs if name in producer]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [producer[name] for name in uses(nodes[index]) if name in producer]
    return sorted(found)


def _order(
    nodes: Sequence[OnnxNode], needed: Sequence[int], whole: Mapping[str, Sequence[int]]
) -> list[tuple[str, list[int]]] | None:
    """Units (call, its nodes) in topological order; None where there is a circle."""
    units: list[tuple[str, list[int]]] = [(call, list(found)) for call, found in whole.items()]
    grouped = {index for _, found in units for index in found}
    units += [("", [index]) for index in needed if index not in grouped]
    units.sort(key=lambda unit: unit[1][-1])
    producer = {
        name: place
        for place, (_, found) in enumerate(units)
        for index in found
        for name in nodes[index].outputs
        if name
    }
    following: list[set[int]] = [set() for _ in units]
    awaited = [0] * len(units)
    for place, (_, found) in enumerate(units):
        before = {producer[name] for i in found for name in uses(nodes[i]) if name in producer}
        if len(found) == 1 and place in before:
            return None
        for other in before - {place}:
            following[other].add(place)
            awaited[place] += 1
    ready = [place for place, count in enumerate(awaited) if not count]
    order: list[tuple[str, list[int]]] = []
    while ready:
        place = heapq.heappop(ready)
        order.append(units[place])
        for after in following[place]:
            awaited[after] -= 1
            if not awaited[after]:
                heapq.heappush(ready, after)
    return order if len(order) == len(units) else None


def _steps(
    nodes: Sequence[OnnxNode],
    order: Sequence[tuple[str, list[int]]],
    outputs: Sequence[str],
    of_weights: Mapping[str, int],
) -> tuple[Step, ...]:
    arithmetic = set(of_weights.values())
    # Of it, what is used by nodes of no call as well.
    others = [i for call, found in order if not call for i in found if i not in arithmetic]
    wanted = [*outputs, *(name for index in others for name in uses(nodes[index]))]
    alone = set(behind(wanted, nodes, of_weights))
    order = [
        (call, found) for call, found in order if call or {*found} - arithmetic or {*found} & alone
    ]
    users: dict[str, set[int]] = {name: {-1} for name in outputs}
    for place, (_, found) in enumerate(order):
        for index in found:
            for name in uses(nodes[index]):
                users.setdefault(name, set()).add(place)
    steps = []
    for place, (call, found) in enumerate(order):
        own = [name for index in found for name in uses(nodes[index])] if call else []
        before = behind(own, nodes, of_weights)
        inner = _inner_order([_used(nodes[index], users) for index in (*before, *found)])
        given = {name for node in inner for name in node.outputs if name}
        taken = dict.fromkeys(name for node in inner for name in uses(node) if name not in given)
        steps.append(
            Step(
                nodes=inner,
                inputs=tuple(taken),
                outputs=tuple(
                    name
                    for node in inner
                    for name in node.outputs
                    if name
                    and users.get(name, set()) - {place}
                    and not (call and name in of_weights)
                ),
                call=call,
            )
        )
    return tuple(steps)


def _used(node: OnnxNode, users: Mapping[str, object]) -> OnnxNode:
    """The node without names of optional outputs that nothing uses."""
    if node.domain or node.op_type not in OPTIONAL_OUTPUTS:
        return node
    return replace(node, outputs=tuple(name if name in users else "" for name in node.outputs))


def _inner_order(nodes: list[OnnxNode]) -> tuple[OnnxNode, ...]:
    """Nodes of one step, each after those it takes from; in the file's order otherwise."""
    if len(nodes) == 1:
        return tuple(nodes)
    left, ordered = list(nodes), []
    given = {name for node in nodes for name in node.outputs if name}
    while left:
        ready = next((n for n in left if not given.intersection(uses(n))), left[0])
        left.remove(ready)
        given.difference_update(ready.outputs)
        ordered.append(ready)
    return tuple(ordered)
