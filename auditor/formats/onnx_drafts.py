"""Groups of ONNX nodes as drafts of calls: operator, weights, settings; no names or edges yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from auditor.formats.onnx_grouping import Group
from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_operators import BODY
from auditor.formats.onnx_roles import Reading, read_node
from auditor.formats.onnx_settings import MAX_SETTING, settings
from auditor.formats.onnx_values import Values
from auditor.formats.onnx_weights import make_weight
from auditor.graph.operators import AFFINE_OPS, Op
from auditor.graph.weight import Weight

#: Names of the activations that a recurrent node lists.
RECURRENT_ACTIVATIONS: Mapping[str, str | None] = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "affine": None,
    "leakyrelu": "leaky_relu",
    "thresholdedrelu": "threshold",
    "scaledtanh": "tanh",
    "hardsigmoid": "hard_sigmoid",
    "elu": "elu",
    "softsign": "softsign",
    "softplus": "softplus",
}
#: Where a recurrent node's list has the activation of its state's candidate, by operator.
CANDIDATE: Mapping[Op, int] = {Op.LSTM: 1, Op.GRU: 1, Op.SIMPLE_RNN: 0}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A call before it has its name and its place: what it takes and gives by value names."""

    kind: str
    op: Op
    nodes: tuple[OnnxNode, ...]
    data: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[Weight, ...] = ()
    activation: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def draft_of(group: Group, values: Values) -> Draft:
    """A group as a draft."""
    if group.layer is None:
        kernel = group.kernel or group.nodes[0]
        draft = _single(kernel, values)
        data = tuple(group.renamed.get(name, name) for name in draft.data)
        return replace(draft, nodes=group.nodes, data=data, outputs=group.outputs)
    weights, notes = [], []
    for role, name in group.fixed:
        weight = make_weight(name, role, values, group.layer.op, group.kernel)
        if weight is not None:
            weights.append(weight)
            notes.extend(_computed(weight, name, values))
    config = dict(group.numbers)
    if group.kernel is not None:
        held = {name for _, name in group.fixed}
        as_weight = {i for i, name in enumerate(group.kernel.inputs) if name in held}
        config = {**settings(group.kernel, values, as_weight), **config, **group.layer.config}
    op = group.layer.op
    if op is Op.CONV and group.kernel is not None:
        op = read_node(group.kernel, values).op
        if op is Op.DEPTHWISE_CONV:
            weights = [
                replace(w, role="depthwise_kernel") if w.role == "kernel" else w for w in weights
            ]
    return Draft(
        kind=group.layer.kind,
        op=op,
        nodes=group.nodes,
        data=group.data,
        outputs=group.outputs,
        weights=_in_order(weights),
        activation=group.layer.activation,
        config=config,
        note="; ".join(notes),
    )


ROLE_ORDER = ("kernel", "depthwise_kernel", "recurrent_kernel", "bias", "gamma", "beta")


def _in_order(weights: list[Weight]) -> tuple[Weight, ...]:
    order = {role: place for place, role in enumerate(ROLE_ORDER)}
    return tuple(sorted(weights, key=lambda weight: order.get(weight.role, len(order))))


def _single(node: OnnxNode, values: Values) -> Draft:
    reading = read_node(node, values)
    weights: list[Weight] = []
    notes = [reading.note] if reading.note else []
    as_weight: set[int] = set()
    for position, name in enumerate(node.inputs):
        # What is only handed on into a body is a weight of the node the body belongs to.
        if name not in values.fixed or node.domain == BODY:
            continue
        role = reading.roles.get(position) or _incidental_role(name, values)
        if role is None or (role in ("gamma", "beta") and _is_setting(reading, name, values)):
            continue
        weight = make_weight(name, role, values, reading.op, node)
        if weight is not None:
            as_weight.add(position)
            weights.append(weight)
            notes.extend(_computed(weight, name, values))
    return Draft(
        kind=node.op_type,
        op=reading.op,
        nodes=(node,),
        data=_data(node, values),
        outputs=node.outputs,
        weights=tuple(weights),
        activation=_recurrent_activation(node, reading),
        config=settings(node, values, as_weight),
        note="; ".join(notes),
    )


def _data(node: OnnxNode, values: Values) -> tuple[str, ...]:
    """Values that come to a node by edges: those the input changes.

    A node that itself gives nothing the input changes is a call only because a model output is
    computed so; then all it takes comes by edges.
    """
    settled = all(name in values.fixed for name in node.outputs if name)
    stored = values.constants if settled else values.fixed
    return tuple(name for name in node.inputs if name and name not in stored)


def _incidental_role(name: str, values: Values) -> str | None:
    """The role of a constant its operator gives none: "other", or None for a setting."""
    constant = values.constants.get(name)
    if constant is None or constant.tensor.dtype == "string":
        return None
    tensor = constant.tensor
    small = tensor.size <= MAX_SETTING and name in values.known
    if small and (tensor.dtype.startswith(("int", "uint", "bool")) or constant.literal):
        return None
    return None if tensor.size <= 1 else "other"


def _is_setting(reading: Reading, name: str, values: Values) -> bool:
    """Whether the constant of a SCALE is one number of the graph's, and no parameter."""
    constant = values.constants.get(name)
    if constant is None:
        return True
    single = constant.tensor.size == 1
    return reading.op is Op.SCALE and single and (constant.literal or not constant.tensor.shape)


def _computed(weight: Weight, name: str, values: Values) -> list[str]:
    constant = values.constants.get(name)
    if constant is None:
        return [f"its {weight.role} is computed from stored tensors, so its values are not read"]
    return [f"its {weight.role}: {constant.tensor.why}"] if constant.tensor.why else []


def _recurrent_activation(node: OnnxNode, reading: Reading) -> str | None:
    place = CANDIDATE.get(reading.op)
    if place is None:
        return reading.activation
    listed = node.attributes.get("activations")
    if isinstance(listed, tuple) and len(listed) > place:
        return RECURRENT_ACTIVATIONS.get(str(listed[place]).lower())
    return "tanh"


def fuse_activations(
    graph: OnnxGraph, groups: Sequence[Group], drafts: Sequence[Draft]
) -> tuple[tuple[Group, ...], list[Draft]]:
    """With an activation that alone follows an affine layer made part of it, as in Keras."""
    uses = Counter(name for draft in drafts for name in set(draft.data))
    uses.update(graph.outputs)
    giver = {draft.outputs[0]: place for place, draft in enumerate(drafts) if draft.outputs}
    merged = list(drafts)
    merged_groups = list(groups)
    gone: set[int] = set()
    for place, draft in enumerate(drafts):
        if draft.op is not Op.ACTIVATION or draft.weights or len(set(draft.data)) != 1:
            continue
        source = giver.get(draft.data[0])
        if source is None or uses[draft.data[0]] != 1:
            continue
        layer = merged[source]
        if layer.op not in AFFINE_OPS or layer.activation is not None or not draft.activation:
            continue
        config = dict(layer.config)
        if draft.config:
            config["activation_config"] = dict(draft.config)
        merged[place] = replace(
            layer,
            nodes=(*layer.nodes, *draft.nodes),
            outputs=draft.outputs,
            activation=draft.activation,
            config=config,
        )
        merged_groups[place] = groups[source]  # the layer's nodes alone give the call its name
        gone.add(source)
    kept = [place for place in range(len(drafts)) if place not in gone]
    return tuple(merged_groups[place] for place in kept), [merged[place] for place in kept]
