"""What a layer of a Keras configuration is: its operator, its activation, and what is unclear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from auditor.formats.keras_activation import (
    ACTIVATION_LAYERS,
    LINEAR,
    Activation,
    activation_of,
    layer_activation,
)
from auditor.formats.keras_layers import LAYERS, OPAQUE_LAYERS, WRAPPERS
from auditor.formats.keras_model import LayerConfig, Node, sublayer
from auditor.formats.keras_operations import OPAQUE_OPERATIONS, TENSORFLOW_OPERATIONS, operation
from auditor.formats.untrusted import mapping, sequence, summary, text
from auditor.graph.operators import RECURRENT_OPS, Op


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Operator, canonical activation (None for linear) and a note of what is not understood."""

    op: Op
    activation: str | None = None
    note: str = ""


def identify(layer: LayerConfig, node: Node | None = None) -> Identity:
    """What a layer does when it is called as `node` records (None in a sequential model)."""
    if layer.operation:
        arguments = node.positional if node is not None else ()
        return _operation(layer.kind, arguments)
    if layer.listed_operation:
        return _tensorflow_operation(layer, node)
    if not layer.standard:
        where = f"{layer.module}.{layer.kind}" if layer.module else layer.kind
        return Identity(op=Op.OPAQUE, note=f"custom class {summary(where, 120)}")
    if layer.kind in OPAQUE_LAYERS:
        return Identity(op=Op.OPAQUE, note=OPAQUE_LAYERS[layer.kind])
    if layer.model is not None:
        return Identity(op=Op.OPAQUE, note="a whole model, whose layers are not shown here")
    if layer.kind in WRAPPERS:
        return _wrapped(layer)
    op = LAYERS.get(layer.kind)
    if op is None:
        return Identity(op=Op.OPAQUE, note=f"unknown class {summary(layer.kind, 120)}")
    if op is Op.ACTIVATION:
        activation = layer_activation(layer.kind, layer.config)
        if activation.name is None:
            return Identity(op=Op.IDENTITY)
        return _with(op, activation)
    return _with(op, _fused(layer.kind, op, layer.config))


def wrapped_layer(layer: LayerConfig) -> LayerConfig:
    """The innermost layer that wrappers stand for; a layer that wraps nothing stands for itself."""
    while layer.standard and layer.kind in WRAPPERS:
        inner = sublayer(layer.config, WRAPPERS[layer.kind])
        if inner is None:
            return layer
        layer = inner
    return layer


def compute_dtype(layer: LayerConfig, default: str) -> str:
    """The type a layer calculates in, from its dtype policy."""
    policy = layer.config.get("dtype")
    if isinstance(policy, dict):
        fields = mapping(policy.get("config"))
        inner = mapping(mapping(fields.get("default_policy")).get("config"))
        fields = inner if inner else fields
        policy = fields.get("name") or fields.get("source_name")
    name = text(policy)
    if "_from_" in name:
        name = name.rsplit("_from_", 1)[1]
    name = name.removeprefix("mixed_")
    return name or default


def _operation(kind: str, arguments: tuple[bool, ...]) -> Identity:
    op, activation = operation(kind, arguments)
    note = ""
    if op is Op.OPAQUE:
        reason = OPAQUE_OPERATIONS.get(kind)
        note = f"operation keras.ops {summary(kind)}" + (f": {reason}" if reason else "")
    return Identity(op=op, activation=activation, note=note)


def _tensorflow_operation(layer: LayerConfig, node: Node | None) -> Identity:
    function = text(layer.config.get("function"))
    kind = "GetItem" if layer.kind == "SlicingOpLambda" else TENSORFLOW_OPERATIONS.get(function)
    if kind is None:
        return Identity(
            op=Op.OPAQUE, note=f"TensorFlow operation {summary(function or layer.name)}"
        )
    return _operation(kind, node.positional if node is not None else ())


def _wrapped(layer: LayerConfig) -> Identity:
    inner = wrapped_layer(layer)
    if inner is layer or inner.kind in WRAPPERS:
        return Identity(op=Op.OPAQUE, note=f"{layer.kind} around nothing that is understood")
    if layer.kind == "RNN" or inner.kind == "StackedRNNCells":
        return _cell(inner)
    identity = identify(inner)
    if identity.op is Op.OPAQUE:
        return replace(identity, note=f"{layer.kind} around {identity.note}")
    return identity


def _cell(cell: LayerConfig) -> Identity:
    if cell.kind != "StackedRNNCells":
        identity = identify(cell)
        if identity.op in RECURRENT_OPS:
            return identity
        return Identity(op=Op.RECURRENT, note=f"recurrent cell {summary(cell.kind)}")
    cells = [
        inner
        for entry in sequence(cell.config.get("cells"))
        if (inner := sublayer({"cell": entry}, "cell")) is not None
    ]
    kinds = {identify(inner) for inner in cells}
    return (
        kinds.pop() if len(kinds) == 1 else Identity(op=Op.RECURRENT, note="cells of several kinds")
    )


def _fused(kind: str, op: Op, config: Mapping[str, Any]) -> Activation:
    if op in RECURRENT_OPS and "activation" not in config:
        return Activation(name="tanh")
    # RandomFlip and the like have no activation; nor have wrappers beside what they wrap.
    return activation_of(config.get("activation")) if kind not in ACTIVATION_LAYERS else LINEAR


def _with(op: Op, activation: Activation) -> Identity:
    return Identity(op=op, activation=activation.name, note=activation.note)
