"""Factors that bring every kernel's output to unit variance on one batch, found in one pass.

Layer-sequential unit variance, Mishkin & Matas 2016, "All you need is a good init", without its
orthogonal start: it tells the scale of the kernels from everything else that keeps a model from
learning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import AFFINE_OPS
from auditor.probe.backends import Backend, Tensor
from auditor.probe.model_io import ModelInputs, in_mode
from auditor.probe.state import untrained_state
from auditor.probe.taps import Taps

#: The variable that is scaled, by the name of its attribute.
KERNELS = ("pointwise_kernel", "kernel")
#: Deviations at or below this, and those that are not finite, are left as they are.
NOTHING = 1e-30


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """Factors for kernels and biases; `factors` by id of the variable, `kernels` each kernel's."""

    factors: Mapping[int, float]
    kernels: tuple[float, ...]

    @property
    def decades(self) -> float:
        """log₁₀ of all that the signal is multiplied by."""
        return math.fsum(math.log10(factor) for factor in self.kernels)

    def apply(self, variables: Sequence[Any]) -> None:
        """Multiply those of the variables that have a factor."""
        for variable in variables:
            factor = self.factors.get(id(variable))
            if factor is not None:
                variable.assign(variable * factor)


def unit_variance(
    model: Any, graph: LayerGraph, inputs: ModelInputs, x: Sequence[Any], *, backend: Backend
) -> Rescaling:
    """The factors for one batch, each kernel's after those before it are applied.

    Heads are left out, and so are layers whose weights are frozen or not Keras' own.
    """
    found: list[tuple[Any, Tensor]] = []

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        # A compiled pass may be traced more than once.
        found[:] = _pass(
            model, graph, lambda: model(inputs.pack(tensors), **in_mode(model, training=True))
        )
        return [factor for _, factor in found]

    variables = (*model.trainable_variables, *untrained_state(model))
    values = backend.once(run, variables)([keras.ops.convert_to_tensor(array) for array in x])
    numbers = [float(keras.ops.convert_to_numpy(value)) for value in values]
    factors = {
        id(variable): number
        for (layer, _), number in zip(found, numbers, strict=True)
        for variable in (_kernel(layer), getattr(layer, "bias", None))
        if variable is not None
    }
    return Rescaling(factors=factors, kernels=tuple(numbers))


def _pass(model: Any, graph: LayerGraph, call_model: Callable[[], Any]) -> list[tuple[Any, Tensor]]:
    """Layers and their factors, by a pass that goes on with what each gives once it is rescaled."""
    calls = graph.by_id
    heads = {call_id for call_id, _ in graph.outputs}
    factors: dict[int, tuple[Any, Tensor]] = {}
    activations: list[tuple[Any, Any]] = []

    def scaled(call_id: str, layer: Any) -> bool:
        call = calls.get(call_id)
        affine = call is not None and call.op in AFFINE_OPS and call_id not in heads
        return affine and _kernel(layer) is not None and _plain_activation(layer)

    def on_inputs(call_id: str, layer: Any, _args: Any, _kwargs: Any) -> None:
        if scaled(call_id, layer):
            activations.append((layer, layer.activation))
            layer.activation = keras.activations.linear

    def on_output(call_id: str, layer: Any, outputs: Any) -> Any:
        if not scaled(call_id, layer):
            return outputs
        _, activation = activations.pop()
        layer.activation = activation
        _, factor = factors.setdefault(id(layer), (layer, _factor(outputs)))
        return activation(outputs * keras.ops.cast(factor, outputs.dtype))

    try:
        with Taps(model, on_output, on_inputs=on_inputs):
            call_model()
    finally:
        for layer, activation in activations:
            layer.activation = activation
    return list(factors.values())


def _factor(outputs: Tensor) -> Tensor:
    """1 over the standard deviation, by a largest value of 1 that no square overflows."""
    values = keras.ops.cast(outputs, "float32")
    largest = keras.ops.max(keras.ops.abs(values))
    usable = keras.ops.logical_and(keras.ops.isfinite(largest), largest > NOTHING)
    largest = keras.ops.where(usable, largest, keras.ops.ones_like(largest))
    deviation = largest * keras.ops.std(values / largest)
    usable = keras.ops.logical_and(keras.ops.isfinite(deviation), deviation > NOTHING)
    return keras.ops.where(usable, 1.0 / deviation, keras.ops.ones_like(deviation))


def _kernel(layer: Any) -> Any:
    """The trainable variable that the output is proportional to; None where there is none."""
    if not type(layer).__module__.startswith("keras.src.layers."):
        return None
    for name in KERNELS:
        kernel = getattr(layer, name, None)
        if isinstance(kernel, keras.Variable):
            return kernel if kernel.trainable else None
    return None


def _plain_activation(layer: Any) -> bool:
    """Whether the layer's activation is a function; one that is a layer is part of its state."""
    activation = getattr(layer, "activation", None)
    return callable(activation) and not isinstance(activation, keras.layers.Layer)
