"""How each output of a model is formed: the last call that computes it, and what comes after."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.graph.compile_settings import LossSettings
from auditor.graph.layer_graph import LayerCall, LayerGraph, Shape
from auditor.graph.operators import (
    KERNEL_OPS,
    NORMALIZATION_OPS,
    POOLING_OPS,
    SHAPE_OPS,
    TRAINING_ONLY_OPS,
    Op,
)

#: One tensor in, one out, nothing learned that could form a prediction.
FOLLOWING_OPS = (
    SHAPE_OPS
    | TRAINING_ONLY_OPS
    | NORMALIZATION_OPS
    | POOLING_OPS
    | {Op.ACTIVATION, Op.IDENTITY, Op.CAST, Op.SCALE, Op.ELEMENTWISE}
)
#: Among them those that keep every value within the range of what comes in.
RANGE_KEEPING_OPS = (
    (SHAPE_OPS - {Op.PAD}) | {Op.DROPOUT, Op.REGULARIZATION, Op.IDENTITY, Op.CAST} | POOLING_OPS
)


@dataclass(frozen=True, kw_only=True)
class Head:
    """One output of a model.

    output: the call that gives it. former: the call that forms the prediction, going back from
    the output: a call with a kernel, a merge, an input, one not understood. after: the calls
    between, in order of execution; the output itself is among them unless it is the former.
    activation: the last activation, own or fused; None for a linear head. known: whether the range
    of the output is that of `activation`, and the former has a kernel.
    """

    output: LayerCall
    former: LayerCall
    after: tuple[LayerCall, ...]
    activation: str | None
    known: bool
    activated: LayerCall | None

    @property
    def shape(self) -> Shape | None:
        """Shape of the output."""
        return self.output.out_shape

    @property
    def width(self) -> int | None:
        """Size of the output's last axis, if it is known."""
        size = self.shape[-1] if self.shape else None
        return size if isinstance(size, int) else None

    @property
    def learned(self) -> bool:
        """Whether a call with a kernel forms the prediction."""
        return self.former.op in KERNEL_OPS


def heads(graph: LayerGraph) -> tuple[Head, ...]:
    """One head for each output, in order."""
    return tuple(_head(graph, graph.by_id[call_id]) for call_id, _ in graph.outputs)


def loss_of(graph: LayerGraph, index: int) -> LossSettings | None:
    """The loss of the output with this index; None where none is set or it cannot be told."""
    losses = graph.compile.losses if graph.compile is not None else ()
    if len(losses) == 1 and losses[0].output is None:
        return losses[0]
    call = graph.by_id[graph.outputs[index][0]]
    for loss in losses:
        if loss.output is not None and loss.output in (
            call.name,
            call.id,
            call.layer,
            call.path[0],  # Keras names an output of a nested model by that model
        ):
            return loss
    unnamed = all(loss.output is None for loss in losses)
    return losses[index] if unnamed and len(losses) == len(graph.outputs) else None


def trained_by_loss(graph: LayerGraph, index: int) -> bool:
    """Whether the output with this index has a loss that counts: of a weight other than zero."""
    loss = loss_of(graph, index)
    return loss is not None and loss.weight != 0


def _head(graph: LayerGraph, output: LayerCall) -> Head:
    after: list[LayerCall] = []
    call = output
    while call.op in FOLLOWING_OPS:
        sources = graph.predecessors(call.id)
        if len(sources) != 1:
            break
        after.append(call)
        call = sources[0]
    activated: LayerCall | None = call if call.activation is not None else None
    known = call.op in KERNEL_OPS
    for index, step in enumerate(after):
        if step.op is Op.ACTIVATION and step.activation is not None:
            activated = step
            known = all(later.op in RANGE_KEEPING_OPS for later in after[:index])
            break
        if step.op not in RANGE_KEEPING_OPS and step.op is not Op.ACTIVATION:
            known = False
    return Head(
        output=output,
        former=call,
        after=tuple(reversed(after)),
        activation=activated.activation if activated is not None else None,
        known=known,
        activated=activated,
    )
