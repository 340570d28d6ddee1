"""Which calls give no negative value, by what they do alone."""

from __future__ import annotations

from auditor.graph.activations import curve
from auditor.graph.dimensions import number
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import NONNEGATIVE_ACTIVATIONS, POOLING_OPS, SHAPE_OPS, Op
from auditor.graph.transfer import activation_settings

#: Give a value without sign change if all that comes in is non-negative.
KEEPING_OPS = (
    (SHAPE_OPS - {Op.UPSAMPLE})
    | POOLING_OPS
    | {
        Op.IDENTITY,
        Op.CAST,
        Op.DROPOUT,
        Op.REGULARIZATION,
        Op.ADD,
        Op.MULTIPLY,
        Op.AVERAGE,
        Op.MAXIMUM,
        Op.MINIMUM,
        Op.CONCATENATE,
        Op.STACK,
    }
)
#: Dropout layers that shift or scale by signed noise instead of masking.
SIGNED_DROPOUT = frozenset({"AlphaDropout", "GaussianDropout"})
#: Activations that leave every non-negative value as it is.
IDENTITY_ABOVE_ZERO = frozenset({"relu", "leaky_relu", "prelu", "elu", "celu"})


def nonnegative(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls whose outputs cannot be negative, whatever the model's inputs."""
    found: set[str] = set()
    for call in graph.calls:
        sources = graph.predecessors(call.id)
        if call.activation is not None:
            inherits = call.op is Op.ACTIVATION and call.activation in IDENTITY_ABOVE_ZERO
            inherited = inherits and all(source.id in found for source in sources)
            if gives_nonnegative(call) or (bool(sources) and inherited):
                found.add(call.id)
        elif sources and _keeps(call) and all(source.id in found for source in sources):
            found.add(call.id)
    return frozenset(found)


def gives_nonnegative(call: LayerCall) -> bool:
    """Whether the call's own activation has no negative value."""
    if call.activation == "relu":
        phi = curve("relu", activation_settings(call))
        return phi is not None and phi.parameters[0] == 0
    return call.activation in NONNEGATIVE_ACTIVATIONS


def changes_nothing_above_zero(call: LayerCall) -> bool:
    """Whether the call is an activation that is the identity on what is not negative."""
    if call.op is not Op.ACTIVATION or call.activation not in IDENTITY_ABOVE_ZERO:
        return False
    if call.activation == "relu":
        phi = curve("relu", activation_settings(call))
        return phi is not None and phi.parameters[1:] == (float("inf"), 0.0)
    return True


def _keeps(call: LayerCall) -> bool:
    if call.op is Op.ACTIVATION:
        return True
    if call.op is Op.DROPOUT:
        return call.kind not in SIGNED_DROPOUT
    if call.op is Op.UPSAMPLE:
        return call.config.get("interpolation", "nearest") in ("nearest", "bilinear")
    if call.op is Op.PAD:
        value = number(call.config.get("value", call.config.get("constant", 0.0)))
        return value is not None and value >= 0
    return call.op in KEEPING_OPS
