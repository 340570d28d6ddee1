"""An ordered ONNX graph as a LayerGraph: drafts of calls get names, places and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from auditor.formats.onnx_drafts import Draft, draft_of, fuse_activations
from auditor.formats.onnx_grouping import group_nodes
from auditor.formats.onnx_model import OnnxGraph
from auditor.formats.onnx_names import call_paths, clean, unique_paths
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_values import Values
from auditor.formats.onnx_weights import KERNELS, make_weight
from auditor.graph.layer_graph import Edge, InputSpec, LayerCall, LayerGraph
from auditor.graph.operators import Op


def layer_graph(graph: OnnxGraph, values: Values, name: str, writer: str) -> LayerGraph:
    """The layer graph of an ordered ONNX graph; `name` and `writer` are the model's."""
    groups = group_nodes(graph, values, _worth_a_call(graph, values))
    drafts = [draft_of(group, values) for group in groups]
    groups, drafts = fuse_activations(graph, groups, drafts)
    inputs = [
        Draft(kind="Input", op=Op.INPUT, nodes=(), data=(), outputs=(name,))
        for name, _ in graph.inputs
    ]
    given = {output for draft in drafts for output in draft.outputs}
    given.update(name for name, _ in graph.inputs)
    constants = [
        _stored_output(name, values) for name in dict.fromkeys(graph.outputs) if name not in given
    ]
    ends = [(clean(draft.outputs[0]) or draft.kind,) for draft in (*inputs, *constants)]
    paths = unique_paths([*ends, *call_paths(groups)])
    return _assemble(graph, values, [*inputs, *constants, *drafts], paths, name, writer)


def _worth_a_call(graph: OnnxGraph, values: Values) -> list[int]:
    """Indices of nodes on the data's way, and of those a model output is computed by without it.

    What is left out is arithmetic on shapes and constants: its outcome is told where it is used.
    """
    wanted = {name for name in graph.outputs if name in values.fixed}
    chosen: list[int] = []
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        fixed = all(name in values.fixed for name in node.outputs if name)
        if not fixed:
            chosen.append(index)
        elif wanted.intersection(node.outputs):
            wanted.update(needs(node))
            if node.op_type != "Constant" or set(node.outputs) & set(graph.outputs):
                chosen.append(index)
    return chosen[::-1]


def _stored_output(name: str, values: Values) -> Draft:
    """A model output that is a stored tensor."""
    weight = make_weight(name, "other", values, Op.CONSTANT, None)
    return Draft(
        kind="Initializer",
        op=Op.CONSTANT,
        nodes=(),
        data=(),
        outputs=(name,),
        weights=(weight,) if weight else (),
    )


def _assemble(
    graph: OnnxGraph,
    values: Values,
    drafts: Sequence[Draft],
    paths: Sequence[tuple[str, ...]],
    name: str,
    writer: str,
) -> LayerGraph:
    calls: list[LayerCall] = []
    edges: list[Edge] = []
    source: dict[str, tuple[str, int]] = {}
    layers: dict[Hashable, str] = {}
    repeats: Counter[str] = Counter()
    for draft, path in zip(drafts, paths, strict=True):
        layer = call_id = "/".join(path)
        # Equal vectors prove nothing, as exporters store them once; one kernel is one layer.
        if any(weight.role in KERNELS for weight in draft.weights):
            stored = (weight.read or weight.name for weight in draft.weights)
            layer = layers.setdefault((draft.op, draft.activation or "", *stored), layer)
            if layer != call_id:
                repeats[layer] += 1
                call_id = f"{layer}#{repeats[layer] + 1}"
        data = [value for value in draft.data if value in source]
        for slot, value in enumerate(data):
            call, output = source[value]
            edges.append(Edge(source=call, target=call_id, source_slot=output, target_slot=slot))
        for output, value in enumerate(draft.outputs):
            if value:
                source[value] = (call_id, output)
        first = next((value for value in draft.outputs if value), "")
        calls.append(
            LayerCall(
                id=call_id,
                name=layer.rpartition("/")[2],
                layer=layer,
                kind=draft.kind,
                op=draft.op,
                activation=draft.activation,
                config=draft.config,
                in_shapes=tuple(values.shape(value) for value in data),
                out_shapes=tuple(values.shape(value) for value in draft.outputs),
                dtype=values.dtype(first),
                weights=draft.weights,
                nodes=tuple(node.name or node.outputs[0] for node in draft.nodes if node.outputs),
                note=draft.note,
            )
        )
    return LayerGraph(
        name=name,
        format="onnx",
        writer=writer,
        calls=tuple(calls),
        edges=tuple(edges),
        inputs=tuple(
            InputSpec(
                name=value,
                call=source[value][0],
                shape=kind.shape,
                dtype=kind.dtype,
            )
            for value, kind in graph.inputs
        ),
        outputs=tuple(source[value] for value in graph.outputs),
    )
