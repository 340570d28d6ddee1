"""ONNX nodes that form one layer, found in a graph by the tables of `onnx_layers`.

A pattern matches only where nobody outside looks at a value inside. Nodes that no pattern takes are
groups of one. Then a layer takes in what stands beside it and belongs to it alone: the turned axes
around a recurrent operator, the splitting and merging of heads around attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from auditor.formats.onnx_layers import LAYERS, SURROUNDINGS
from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_pattern_around import settled
from auditor.formats.onnx_pattern_matcher import Match, Matcher
from auditor.formats.onnx_pattern_silent import attributed, without_silent
from auditor.formats.onnx_patterns import Layer, Near, Surroundings, ending_types, possible
from auditor.formats.onnx_values import Values

#: Nodes a layer takes in from around it: a bound on graphs that are made of nothing else.
MOST_AROUND = 64


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes that form one call, in topological order.

    `core` is those of them that make the layer, without what stands around it; `kernel` is the node
    whose attributes configure the call, None where no single one does. `data` names the values it
    takes that the input changes, `fixed` pairs of role and value of the others, for a layer that a
    pattern found. A group without a `layer` has one node for its core, which is its kernel, and
    leaves both to its operator: then `renamed` tells what the kernel's own inputs are behind the
    nodes around it.
    """

    nodes: tuple[OnnxNode, ...]
    core: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]
    layer: Layer | None = None
    kernel: OnnxNode | None = None
    data: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Growing:
    """A group while it takes in its surroundings: `nodes` by index, `place` of its core's end."""

    group: Group
    nodes: set[int]
    place: int
    around: Surroundings


def group_nodes(graph: OnnxGraph, values: Values, nodes: Sequence[int]) -> tuple[Group, ...]:
    """Groups of the nodes at these indices of an ordered graph, in topological order.

    Patterns are tried from the end of the graph, so that what ends a layer meets its longest form
    first; a node belongs to one group.
    """
    silence = without_silent(graph, values, frozenset(nodes))
    matcher = Matcher(silence.graph, values, frozenset(nodes) - silence.silent.keys())
    found = _matched(matcher)
    for index in sorted(matcher.wanted - matcher.taken, reverse=True):
        node = silence.graph.nodes[index]
        around = SURROUNDINGS.get(node.op_type) if not node.domain else None
        if around is not None:
            kernel = Group(nodes=(node,), core=(node,), outputs=node.outputs, kernel=node)
            matcher.taken.add(index)
            found.append(_Growing(kernel, {index}, index, around))
    for growing in found:
        _take_in_after(growing, matcher)
    for growing in found:
        _take_in_before(growing, matcher)
    groups = [(growing.place, _finished(growing, silence.graph, values)) for growing in found]
    groups.extend(
        (index, Group(nodes=(node,), core=(node,), outputs=node.outputs, kernel=node))
        for index in matcher.wanted - matcher.taken
        for node in [silence.graph.nodes[index]]
    )
    # Nothing inside a group is used elsewhere, so the place of its core's last node is the group's.
    ordered = [group for _, group in sorted(groups, key=lambda pair: pair[0])]
    given = {name: place for place, group in enumerate(ordered) for name in group.outputs if name}
    nodes_of = attributed(silence, [group.nodes for group in ordered], given)
    return tuple(
        replace(group, nodes=nodes) for group, nodes in zip(ordered, nodes_of, strict=True)
    )


def _matched(matcher: Matcher) -> list[_Growing]:
    found: list[_Growing] = []
    ending_in = _by_last_node(matcher)
    for index in sorted(matcher.wanted, reverse=True):
        node = matcher.graph.nodes[index]
        if index in matcher.taken or len(node.outputs) != 1:
            continue
        layers = ending_in.get(node.op_type, ()) if not node.domain else ()
        first = _first_match(matcher, layers, node)
        if first is not None:
            layer, match = first
            matcher.taken.update(match.nodes)
            group = _group(matcher.graph, layer, match, node)
            found.append(_Growing(group, set(match.nodes), index, layer.surroundings))
    return found


def _first_match(
    matcher: Matcher, layers: Sequence[Layer], node: OnnxNode
) -> tuple[Layer, Match] | None:
    for layer in layers:
        for match in matcher.matches(layer.pattern, node.outputs[0]):
            if not any(name in match.values for name in layer.data):
                continue
            nodes = [matcher.graph.nodes[index] for index in sorted(match.nodes)]
            if layer.test is None or layer.test(nodes, match.numbers, matcher.values):
                return layer, match
    return None


def _by_last_node(matcher: Matcher) -> Mapping[str, tuple[Layer, ...]]:
    """Layers that a graph can have, by the operator types they can end in, in the table's order."""
    present = frozenset(matcher.graph.nodes[index].op_type for index in matcher.wanted)
    by_type: dict[str, list[Layer]] = {}
    for layer in LAYERS:
        pattern = possible(layer.pattern, present)
        if pattern is not None:
            left = replace(layer, pattern=pattern)
            for kind in ending_types(pattern):
                by_type.setdefault(kind, []).append(left)
    return {kind: tuple(layers) for kind, layers in by_type.items()}


def _group(graph: OnnxGraph, layer: Layer, match: Match, last: OnnxNode) -> Group:
    nodes = tuple(graph.nodes[index] for index in sorted(match.nodes))
    comes_in = (match.values[name] for name in layer.data if name in match.values)
    return Group(
        nodes=nodes,
        core=nodes,
        outputs=last.outputs,
        layer=layer,
        kernel=next((node for node in nodes if node.op_type == layer.kind), None),
        data=tuple(dict.fromkeys(comes_in)),
        fixed=tuple(pair for pair in match.values.items() if pair[0] not in layer.data),
        numbers=match.numbers,
    )


def _take_in_after(growing: _Growing, matcher: Matcher) -> None:
    """Follows each output through free nodes that take nothing else and alone use it."""
    outputs = []
    for output in growing.group.outputs:
        name = output
        for _ in range(MOST_AROUND):
            users = matcher.users.get(name, frozenset())
            index = next(iter(users), -1)
            if len(users) != 1 or not _may_take(index, growing.around.after, matcher):
                break
            node = matcher.graph.nodes[index]
            if len(node.outputs) != 1 or _data(node, matcher.values) != [name]:
                break
            growing.nodes.add(index)
            matcher.taken.add(index)
            name = node.outputs[0]
        outputs.append(name)
    growing.group = replace(growing.group, outputs=tuple(outputs))


def _take_in_before(growing: _Growing, matcher: Matcher) -> None:
    """Goes back from what comes in through free nodes whose every value the group alone uses."""
    group = growing.group
    names = group.data if group.layer or not group.kernel else _data(group.kernel, matcher.values)
    comes_in = {name: name for name in names}
    for _ in range(MOST_AROUND):
        step = _one_before(frozenset(comes_in.values()), growing, matcher)
        if step is None:
            break
        index, source = step
        growing.nodes.add(index)
        matcher.taken.add(index)
        given = matcher.graph.nodes[index].outputs
        comes_in = {first: source if now in given else now for first, now in comes_in.items()}
    growing.group = replace(
        group,
        data=tuple(dict.fromkeys(comes_in[name] for name in group.data)),
        renamed={first: now for first, now in comes_in.items() if first != now},
    )


def _one_before(
    comes_in: frozenset[str], growing: _Growing, matcher: Matcher
) -> tuple[int, str] | None:
    """A node that may be taken in, and the value it takes.

    A node of several outputs, such as a Split, may be once all that is used of it comes in.
    """
    for name in sorted(comes_in):
        index, _ = matcher.producer.get(name, (-1, 0))
        if not _may_take(index, growing.around.before, matcher):
            continue
        node = matcher.graph.nodes[index]
        data = _data(node, matcher.values)
        used = [one for one in node.outputs if matcher.users.get(one)]
        alone = all(one in comes_in and matcher.users[one] <= growing.nodes for one in used)
        if len(data) == 1 and alone:
            return index, data[0]
    return None


def _may_take(index: int, nears: Sequence[Near], matcher: Matcher) -> bool:
    if index not in matcher.wanted or index in matcher.taken:
        return False
    node = matcher.graph.nodes[index]
    return not node.domain and any(
        node.op_type in beside.op_types
        and (beside.test is None or beside.test(node, matcher.values))
        for beside in nears
    )


def _data(node: OnnxNode, values: Values) -> list[str]:
    """What comes to a node that the input changes, each once."""
    return list(dict.fromkeys(name for name in needs(node) if name not in values.fixed))


def _finished(growing: _Growing, graph: OnnxGraph, values: Values) -> Group:
    group, nodes = growing.group, tuple(graph.nodes[index] for index in sorted(growing.nodes))
    return replace(group, nodes=nodes, kernel=settled(group.kernel, nodes, values))
