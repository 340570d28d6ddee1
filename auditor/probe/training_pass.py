"""One training pass under taps: forward, loss, backward, reduced to statistics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from auditor.errors import GebAuditError, ProbeFailed
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.probe.backends import ForwardPass, Tensor, Watch
from auditor.probe.losses import LossChoice
from auditor.probe.model_io import ModelInputs, in_mode
from auditor.probe.residual_profile import profiled_calls
from auditor.probe.state import untrained_state
from auditor.probe.statistics import PassReduction, PassSlots, TappedCall, logits_of, tap, watched
from auditor.probe.taps import Taps

#: What lines that say nothing of an error begin with.
UNTELLING = ("Exception encountered", "Graph execution error", "Detected at node", 'File "')
#: Bold type, as Keras sets a message in.
TERMINAL_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class _Traced(ForwardPass):
    tapped: tuple[TappedCall, ...]
    loss: Tensor


class TrainingPass:
    """The program a probe compiles: values of the loss, of every call and of every gradient.

    `loss` is that of the targets alone, `objective` with the penalties that layers and
    regularizers add, as training minimizes it. Besides these two the values are those of
    `PassReduction`, `variable_gradient_norms`, and `output_norms` `(batch,)`: ‖y‖₂ of each
    sample, over all outputs with a loss.
    """

    def __init__(
        self,
        *,
        model: Any,
        graph: LayerGraph,
        inputs: ModelInputs,
        losses: LossChoice,
        batch: int,
    ) -> None:
        self._model = model
        self._calls = graph.by_id
        self._unit_axes = unit_axes(graph)
        self._profiled = profiled_calls(graph)
        self._inputs = inputs
        self._losses = losses
        self._batch = batch
        self.variables: Sequence[Any] = tuple(model.trainable_variables)
        self.state: Sequence[Any] = untrained_state(model)
        self._slots: PassSlots | None = None

    @property
    def slots(self) -> PassSlots:
        """The layout of the values, once the pass has been traced."""
        if self._slots is None:
            raise LookupError("the pass has not been traced yet")
        return self._slots

    def forward(self, x: Sequence[Tensor], y: Sequence[Tensor], watch: Watch) -> ForwardPass:
        """Run the model in training mode, and its loss."""
        tapped: list[TappedCall] = []

        def on_output(call_id: str, operation: Any, outputs: Any) -> Any:
            outputs = watched(outputs, watch)
            call = tap(call_id, operation, outputs)
            if call.logits is not None:
                watch(call.logits)
            tapped.append(call)
            return outputs

        taps = Taps(self._model, on_output)
        try:
            with taps:
                outputs = self._model(self._inputs.pack(x), **in_mode(self._model, training=True))
        except Exception as error:
            if taps.failed_in is None or isinstance(error, GebAuditError):
                raise
            raise ProbeFailed(
                f"{taps.failed_in} raised {type(error).__name__}: {first_line(error)}",
                detail=str(error),
            ) from error
        flat = self._losses.samples_first(keras.tree.flatten(outputs))
        try:
            loss = self._losses(y, flat)
        except Exception as error:
            shapes = ", ".join(str(tuple(target.shape)) for target in y)
            raise ProbeFailed(
                f"the loss {self._losses.name} cannot take targets of shape {shapes} for outputs "
                f"of shape {', '.join(str(tuple(o.shape)) for o in flat)}: {first_line(error)}",
                detail=str(error),
            ) from error
        penalties = [keras.ops.sum(keras.ops.cast(p, "float32")) for p in self._model.losses]
        return _Traced(
            objective=sum(penalties, loss),
            loss=loss,
            outputs=tuple(logits_of(flat[head.position]) for head in self._losses.heads),
            tapped=tuple(tapped),
            watched=tuple(tensor for call in tapped for tensor in _tensors(call)),
        )

    def reduce(
        self,
        forward: ForwardPass,
        gradients: Sequence[Tensor | None],
        variable_gradients: Sequence[Tensor | None],
        sample_norms: Callable[[Tensor], Tensor],
    ) -> Mapping[str, Tensor]:
        """The small tensors that leave the device."""
        if not isinstance(forward, _Traced):
            raise TypeError("not a forward pass of this program")
        found = {
            id(tensor): gradient
            for tensor, gradient in zip(forward.watched, gradients, strict=True)
            if gradient is not None
        }
        fixed = any(spec.shape is not None and spec.shape[0] for spec in self._inputs.specs)
        reduction = PassReduction(
            self._calls, self._unit_axes, self._batch, fixed, sample_norms, self._profiled
        )
        values, self._slots = reduction.reduce(forward.tapped, found)
        return {
            **values,
            "variable_gradient_norms": reduction.variable_norms(variable_gradients),
            "output_norms": reduction.output_norms(forward.outputs),
            "loss": forward.loss,
            "objective": forward.objective,
        }


def unit_axes(graph: LayerGraph) -> dict[str, int]:
    """The axis of the units of each call's output, where it is not the last."""
    axes: dict[str, int] = {}
    for call in graph.calls:
        sources = graph.predecessors(call.id)
        if call.config.get("data_format") == "channels_first":
            axes[call.id] = 1
        elif "data_format" not in call.config and sources and _same_rank(call, sources[0]):
            axes[call.id] = axes.get(sources[0].id, -1)
    return {call_id: axis for call_id, axis in axes.items() if axis != -1}


def first_line(error: BaseException) -> str:
    """The first line of a message that says something.

    Keras puts one that does not in front, TensorFlow also where in Python an operation was made.
    """
    lines = [TERMINAL_STYLE.sub("", line).strip() for line in str(error).splitlines()]
    telling = (line for line in lines if line and not line.startswith(UNTELLING))
    return next(telling, type(error).__name__)


def _tensors(call: TappedCall) -> tuple[Tensor, ...]:
    return call.tensors if call.logits is None else (*call.tensors, call.logits)


def _same_rank(call: LayerCall, source: LayerCall) -> bool:
    ranks = {None if shape is None else len(shape) for shape in (call.out_shape, source.out_shape)}
    return len(ranks) == 1 and None not in ranks
