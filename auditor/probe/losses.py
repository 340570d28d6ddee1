"""Which loss a probe differentiates: the declared one, the asked one, or one chosen by the head."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from auditor.errors import ProbeFailed, UsageError
from auditor.graph.compile_settings import LossSettings
from auditor.graph.heads import loss_of
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS, Op
from auditor.probe.settings import ProbeSettings

#: Between an activation and the model's output: values pass through unchanged.
PASSING_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.IDENTITY, Op.CAST}


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of the model.

    shape: with the samples first. activation: None for linear. axis: where the model has the
    samples. lossless: why no loss can be taken of it; empty if one can.
    """

    name: str
    shape: tuple[int, ...]
    activation: str | None
    axis: int = 0
    lossless: str = ""


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """The loss of one output.

    `position` is the output's place among the model's flattened outputs. `name` is the canonical
    snake_case Keras name; `custom` whether the function is not one of Keras' own.
    """

    position: int
    output: Output
    name: str
    loss: keras.losses.Loss
    weight: float = 1.0
    from_logits: bool = False
    custom: bool = False

    @property
    def fits_head(self) -> bool:
        """Whether a cross-entropy gets what it takes: logits, or probabilities from a head."""
        return self.from_logits != (self.output.activation in ("softmax", "sigmoid"))


@dataclass(frozen=True, kw_only=True)
class LossChoice:
    """The losses of all outputs that have one, and what had to be assumed."""

    heads: tuple[HeadLoss, ...]
    assumptions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Names of the losses, each once."""
        return ", ".join(dict.fromkeys(head.name for head in self.heads))

    @property
    def sums_samples(self) -> bool:
        """Whether samples are summed and not averaged."""
        return all(head.loss.reduction == "sum" for head in self.heads)

    def samples_first(self, outputs: Sequence[Any]) -> list[Any]:
        """The model's flattened outputs with the samples first in those that have a loss."""
        axes = {head.position: head.output.axis for head in self.heads}
        return [
            keras.ops.moveaxis(output, axis, 0) if (axis := axes.get(position, 0)) else output
            for position, output in enumerate(outputs)
        ]

    def __call__(self, targets: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The weighted sum of the losses, as tensors; `targets` in the order of `heads`.

        `outputs` are all of the model's, flattened, samples first.
        """
        terms = [
            head.weight * keras.ops.cast(_loss(head, target, outputs[head.position]), "float32")
            for head, target in zip(self.heads, targets, strict=True)
        ]
        return sum(terms[1:], terms[0])


def _loss(head: HeadLoss, target: Any, output: Any) -> Any:
    # As `fit` does it: one number a sample goes with one unit.
    single = len(output.shape) == len(target.shape) + 1 and output.shape[-1] == 1
    if single and not head.custom and head.name != "sparse_categorical_crossentropy":
        target = keras.ops.expand_dims(target, -1)
    return head.loss(target, output)


class FunctionLoss(keras.losses.Loss):  # type: ignore[misc]
    """A loss function, averaged over samples as Keras' `compile` does it."""

    def __init__(self, function: Any, **arguments: Any) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self._function = function
        self.module: str = getattr(function, "__module__", None) or ""
        self.arguments: Mapping[str, Any] = arguments

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The function's value a sample."""
        return self._function(y_true, y_pred, **self.arguments)


def choose_losses(
    model: Any,
    graph: LayerGraph,
    settings: ProbeSettings,
    outputs: tuple[Output, ...],
    *,
    has_targets: bool,
) -> LossChoice:
    """The losses to differentiate.

    `settings.loss` wins; then the model's own `compile`; then the graph's compile settings; where
    none of them has a usable one, a loss by the head. A custom loss is used only when real
    targets were given (`has_targets`): what it expects of its targets is not known.

    Raises:
        UsageError: no Keras loss is called `settings.loss`.
        ProbeFailed: the declared losses do not fit the outputs.
    """
    assumptions: list[str] = []
    if settings.loss is not None:
        declared: list[Any] = [_by_name(settings.loss)] * len(outputs)
    else:
        declared = _declared(model, graph, outputs)
        if all(loss is None for loss in declared):
            declared = [None] * len(outputs)
            assumptions.append("the model declares no loss: one was chosen by each output's head")
            has_targets = False
    chosen_by_head = assumptions != []
    weights = _weights(graph, outputs)
    heads: list[HeadLoss] = []
    for position, (output, loss) in enumerate(zip(outputs, declared, strict=True)):
        if loss is None and not chosen_by_head:
            continue
        if output.lossless:
            assumptions.append(f"{output.name} has no loss: {output.lossless}")
            continue
        head = _by_head(position, output) if loss is None else _head(position, output, loss)
        if head.custom and not has_targets:
            assumptions.append(
                f"the custom loss {head.name!r} of {output.name} was replaced by one chosen by the "
                "head: its targets are not known (give --data)"
            )
            head = _by_head(position, output)
        if chosen_by_head:
            assumptions.append(
                f"{output.name} ends in {output.activation or 'a linear map'}: {head.name}"
            )
        heads.append(replace(head, weight=weights[position]))
    if not heads:
        reasons = "; ".join(f"{one.name}: {one.lossless}" for one in outputs if one.lossless)
        raise ProbeFailed(f"no output of the model has a loss{reasons and f' ({reasons})'}")
    return LossChoice(heads=tuple(heads), assumptions=tuple(assumptions))


def head_activation(graph: LayerGraph, output_call: str | None) -> str | None:
    """The activation an output ends in, seen through calls that only pass values on."""
    call: LayerCall | None = graph.by_id.get(output_call or "")
    while call is not None and call.activation is None and call.op in PASSING_OPS:
        before = graph.predecessors(call.id)
        call = before[0] if before else None
    return None if call is None else call.activation


def _declared(model: Any, graph: LayerGraph, outputs: tuple[Output, ...]) -> list[Any]:
    """For each output the loss that its model or file declares, or None."""
    own = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if own is not None:
        return _of_outputs(own, outputs)
    declared: list[Any] = [None] * len(outputs)
    for settings in graph.compile.losses if graph.compile else ():
        for position, output in enumerate(outputs):
            if settings.output in (None, output.name):
                declared[position] = _from_settings(settings)
    return declared


def _of_outputs(declared: Any, outputs: tuple[Output, ...]) -> list[Any]:
    """`compile`'s argument `loss`, spread over the outputs."""
    if isinstance(declared, Mapping):
        return [declared.get(output.name) for output in outputs]
    if isinstance(declared, (list, tuple)):
        if len(declared) == 1:
            return [*declared] * len(outputs)
        if len(declared) != len(outputs):
            raise ProbeFailed(
                f"the model is compiled with {len(declared)} losses for {len(outputs)} outputs"
            )
        return list(declared)
    return [declared] * len(outputs)


def _from_settings(settings: LossSettings) -> Any:
    """A Keras loss of compile settings as read from a file; a custom one is as good as none."""
    found = None if settings.custom else _keras_loss(settings.name)
    if found is None:
        return None
    if inspect.isfunction(found) and settings.from_logits:
        return FunctionLoss(found, from_logits=True)
    return found


def _weights(graph: LayerGraph, outputs: tuple[Output, ...]) -> list[float]:
    """`compile`'s argument `loss_weights`, spread over the outputs."""
    declared = graph.compile.raw.get("loss_weights") if graph.compile else None
    if isinstance(declared, Mapping):
        read = [loss_of(graph, place) for place in range(len(outputs))]
        # Outputs in a dictionary are named by its keys, which the graph knows and they do not.
        known = [1.0 if loss is None else loss.weight for loss in read]
        spread = [
            declared.get(output.name, weight) for output, weight in zip(outputs, known, strict=True)
        ]
    elif isinstance(declared, (list, tuple)) and len(declared) == len(outputs):
        spread = list(declared)
    else:
        spread = [declared] * len(outputs)
    return [float(weight) if isinstance(weight, (int, float)) else 1.0 for weight in spread]


def _by_name(name: str) -> Any:
    loss = _keras_loss(name)
    if loss is None:
        raise UsageError(f"no Keras loss is called {name!r}; try mse or categorical_crossentropy")
    return loss


def _keras_loss(name: str) -> Any:
    try:
        return keras.losses.get(name)
    except (ValueError, TypeError):
        return None


def _head(position: int, output: Output, declared: Any) -> HeadLoss:
    """A declared loss: a name, a function or a Loss."""
    if isinstance(declared, str):
        declared = _keras_loss(declared) or _unknown(declared, output)
    if isinstance(declared, keras.losses.Loss):
        loss = declared
    else:
        loss = FunctionLoss(declared)
    if isinstance(loss, FunctionLoss):
        name, module, arguments = loss.name, loss.module, loss.arguments
    else:
        name, module, arguments = _snake(type(loss).__name__), type(loss).__module__, _config(loss)
    return HeadLoss(
        position=position,
        output=output,
        name=name,
        loss=loss,
        from_logits=bool(arguments.get("from_logits", False)),
        custom=not module.startswith("keras."),
    )


def _unknown(name: str, output: Output) -> Any:
    raise ProbeFailed(f"output {output.name} declares the loss {name!r}, which Keras does not know")


def _config(loss: keras.losses.Loss) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = loss.get_config()
    except (NotImplementedError, TypeError, ValueError):  # a custom loss that cannot be saved
        return {}
    return config


def _by_head(position: int, output: Output) -> HeadLoss:
    """The loss that a head is made for."""
    if output.activation == "softmax" and output.shape[-1] > 1:
        name = "categorical_crossentropy"
    elif output.activation == "sigmoid":
        name = "binary_crossentropy"
    else:
        name = "mean_squared_error"
    return _head(position, output, name)


def _snake(name: str) -> str:
    """MeanSquaredError → mean_squared_error; CTC → ctc, KLDivergence → kl_divergence."""
    parted = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return parted.lower()
