"""The loss of a model that was saved without one, by the head that each output ends in."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS, Op
from auditor.plan.advice import Advice
from auditor.plan.case import Case
from auditor.plan.settings import Setting

PASSING_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.IDENTITY, Op.CAST}


def loss_by_head(case: Case) -> Advice:
    """A loss for an uncompiled model with one output whose head says what it is; else a note."""
    if case.graph.compile is not None and case.graph.compile.losses:
        return Advice()
    if len(case.graph.output_calls) != 1:
        return Advice(notes=("loss: the model is saved without losses for its outputs",))
    activation = head_activation(case.graph, case.graph.outputs[0][0])
    shape = case.graph.output_calls[0].out_shape
    units = shape[-1] if shape else None
    if activation == "softmax" and units != 1:
        return _advise(
            "categorical_crossentropy",
            "softmax over classes; with integer labels, sparse_categorical_crossentropy",
        )
    if activation == "sigmoid":
        return _advise("binary_crossentropy", "sigmoid: each unit is a probability")
    if activation is None and units == 1:
        return _advise("mean_squared_error", "one linear unit: a number")
    return Advice(
        notes=(
            "loss: the head does not tell: for classes from logits a crossentropy with "
            "from_logits=True, for numbers mean_squared_error",
        )
    )


def head_activation(graph: LayerGraph, call_id: str) -> str | None:
    """The activation an output ends in, seen through calls that only pass values on."""
    call = graph.by_id[call_id]
    while call.activation is None and call.op in PASSING_OPS:
        before = graph.predecessors(call.id)
        if not before:
            break
        call = before[0]
    return call.activation


def _advise(name: str, reason: str) -> Advice:
    return Advice(
        settings=(
            Setting(
                name="loss",
                value=name,
                reason=f"the model is saved without a loss; {reason}",
                formula="by the activation of the head",
            ),
        )
    )
