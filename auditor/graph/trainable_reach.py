"""Reachability from trainable weights to outputs, along tensors that a gradient comes back on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from auditor.graph.dimensions import reversed_embedding
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    KERNEL_OPS,
    MERGE_OPS,
    NORMALIZATION_OPS,
    POOLING_OPS,
    SHAPE_OPS,
    TRAINING_ONLY_OPS,
    Op,
)
from auditor.graph.paths import reaching_outputs

#: No gradient passes: their values are indices, truths or labels.
STOPPING_OPS = frozenset({Op.COMPARE, Op.PREPROCESSING, Op.CONSTANT})
#: Kinds that are flat nearly everywhere, or stop the gradient on purpose.
STOPPING_KINDS = frozenset(
    {
        *("Argmax", "Argmin", "ArgMax", "ArgMin", "All", "Any", "CountNonzero"),
        *("Sign", "Floor", "Ceil", "Round", "Trunc", "FloorDivide", "Heaviside"),
        "StopGradient",
    }
)
#: Make no integer of a number: what they take does so, or nothing. In files of Keras 1 the type of
#: an embedding's indices stands with every layer behind it.
PASSING_OPS = (
    KERNEL_OPS
    | NORMALIZATION_OPS
    | POOLING_OPS
    | SHAPE_OPS
    | MERGE_OPS
    | TRAINING_ONLY_OPS
    | {Op.ACTIVATION, Op.IDENTITY}
)
INTEGRAL = re.compile(r"u?int\d*|bool|string")


@dataclass(frozen=True, kw_only=True)
class TrainableReach:
    """Which layers with trainable weights an output can teach, and which outputs can be taught.

    Layers stand for themselves by their first call, in order. trained: a gradient comes back from
    some output. blocked: outputs depend on the layer, but on every way a call lets no gradient
    pass; unused: no output depends on it. blocking: the calls that stop the gradients of what is
    blocked. fixed_outputs: outputs that no trainable weight has a part in.
    """

    trained: tuple[LayerCall, ...]
    blocked: tuple[LayerCall, ...]
    unused: tuple[LayerCall, ...]
    blocking: tuple[LayerCall, ...]
    fixed_outputs: tuple[LayerCall, ...]


def trainable_reach(graph: LayerGraph) -> TrainableReach:
    """Follow gradients from the outputs back, and weights from their layers on.

    Linear in calls and edges. A layer called several times is trained if one of its calls is. What
    opaque calls and quantizers do to a gradient is not known, and they are taken to let it pass:
    quantization-aware training does.
    """
    depended = reaching_outputs(graph)
    taught = _taught(graph)
    learned = learned_calls(graph)
    layers: dict[str, list[LayerCall]] = {}
    for call in graph.calls:
        if call.trainable_parameters:
            layers.setdefault(call.layer, []).append(call)
    trained, blocked, unused = [], [], []
    for calls in layers.values():
        if any(call.id in taught for call in calls):
            trained.append(calls[0])
        elif any(call.id in depended for call in calls):
            blocked.append(calls[0])
        else:
            unused.append(calls[0])
    return TrainableReach(
        trained=tuple(trained),
        blocked=tuple(blocked),
        unused=tuple(unused),
        blocking=_blocking(graph, blocked, depended),
        fixed_outputs=tuple(call for call in graph.output_calls if call.id not in learned),
    )


def stops_gradient(call: LayerCall) -> bool:
    """Whether no gradient comes back through the call, whatever it takes and gives."""
    if call.op in STOPPING_OPS or call.kind in STOPPING_KINDS:
        return True
    return call.op not in PASSING_OPS and INTEGRAL.fullmatch(call.dtype) is not None


def _taught(graph: LayerGraph) -> set[str]:
    """Calls whose output a gradient of some output comes back to."""
    taught = {call.id for call in graph.output_calls if not stops_gradient(call)}
    for call in reversed(graph.calls):
        if call.id in taught:
            taught.update(source.id for source in _differentiated(graph, call))
    return taught


def learned_calls(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls whose output changes, by a derivative, with some trainable weight.

    Only there is a gradient needed: what lies before the first trainable weight is fixed, and how
    a gradient would fare on its way through it says nothing of training.
    """
    learned: set[str] = set()
    for call in graph.calls:
        if stops_gradient(call):
            continue
        if call.trainable_parameters or any(
            source.id in learned for source in _differentiated(graph, call)
        ):
            learned.add(call.id)
    return frozenset(learned)


def _differentiated(graph: LayerGraph, call: LayerCall) -> tuple[LayerCall, ...]:
    """What the call takes and has a derivative by."""
    if _looks_up(call):
        return ()
    return tuple(source for source in graph.predecessors(call.id) if not stops_gradient(source))


def _looks_up(call: LayerCall) -> bool:
    """Whether the input only says which row of a table to take."""
    return call.op is Op.EMBEDDING and not reversed_embedding(call)


def _blocking(
    graph: LayerGraph, blocked: list[LayerCall], depended: frozenset[str]
) -> tuple[LayerCall, ...]:
    """The first calls, on the ways out of blocked layers, that let no gradient pass."""
    stopping: set[str] = set()
    layers = {call.layer for call in blocked}
    pending = [call for call in graph.calls if call.layer in layers and call.id in depended]
    seen = {call.id for call in pending}
    while pending:
        call = pending.pop()
        if stops_gradient(call):
            stopping.add(call.id)
            continue
        for following in graph.successors(call.id):
            if following.id not in depended:
                continue
            if _looks_up(following):
                stopping.add(following.id)
            elif following.id not in seen:
                seen.add(following.id)
                pending.append(following)
    return tuple(call for call in graph.calls if call.id in stopping)
