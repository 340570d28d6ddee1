"""What one layer call does to a random signal and to the gradient: the dispatch of the laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from auditor.graph import kernel_laws, layer_laws
from auditor.graph.activations import ActivationMoments, activation_moments, curve
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, Op
from auditor.graph.scaling import scale_and_offset, scaling
from auditor.graph.signal import STANDARD, Backward, Drawn, Signal, Transfer, after_activation

#: What raw pixels are: uniform on 0 … 255.
PIXEL_MEAN, PIXEL_VARIANCE = 127.5, 255.0**2 / 12
#: An input that the model itself multiplies by less than this is taken to be pixels.
SMALL_SCALE = 0.05


def transfer(
    graph: LayerGraph, call: LayerCall, signals: tuple[Signal | None, ...], *, head: bool
) -> Transfer | None:
    """The call's action on the signals of its inputs; None where it is not covered.

    `head` says that no kernel follows: the gradient is then taken to start before the call's
    activation, because losses are made to cancel the slope of the heads they belong to.
    """
    known = tuple(signal for signal in signals if signal is not None)
    if call.op is Op.INPUT:
        return Transfer(signal=_input(graph, call), inputs=())
    law = LAWS.get(call.op)
    if call.op in SHAPE_OPS or call.op in PASSING:
        law = layer_laws.passing
    if law is None or not known or len(known) != len(signals):
        return None
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        made = law(graph, call, known)
        made = _activated(call, made, head=head) if made is not None else None
    return made if made is not None and made.signal.usable else None


Law = Callable[[LayerGraph, LayerCall, tuple[Signal, ...]], Transfer | None]


def _input(graph: LayerGraph, call: LayerCall) -> Signal:
    """Standardised features, or raw pixels where the model itself divides them."""
    rescaled = [scale_and_offset(graph, successor) for successor in graph.successors(call.id)]
    raw = bool(rescaled) and all(
        pair is not None and abs(pair[0].mean) <= SMALL_SCALE for pair in rescaled
    )
    if raw or call.dtype == "uint8":
        return Signal(mean=PIXEL_MEAN, between=0.0, within=PIXEL_VARIANCE)
    return STANDARD


def _activated(call: LayerCall, made: Transfer, *, head: bool) -> Transfer | None:
    """The transfer with the call's fused (or own) activation after it."""
    if call.activation is None:
        return made
    signal = made.signal
    if not signal.usable:
        return None
    if call.activation == "softmax" and head:
        width = call.out_shape[-1] if call.out_shape else None
        if not isinstance(width, int) or width < 1:
            return None
        return Transfer(signal=_softmax(width, signal), inputs=made.inputs)
    phi = curve(call.activation, activation_settings(call))
    if phi is None:
        return None
    drawn = Drawn(phi=phi, mean=signal.mean, between=signal.between, within=signal.within)
    moments = activation_moments(phi, signal.mean, signal.between, signal.within)
    if not math.isfinite(moments.second) or not math.isfinite(moments.slope_second):
        return None
    return Transfer(
        signal=after_activation(moments, drawn),
        inputs=made.inputs if head else tuple(m @ _slope(moments) for m in made.inputs),
    )


def activation_settings(call: LayerCall) -> Mapping[str, object]:
    """The configuration of the call's activation itself, empty for one given by name."""
    if call.op is Op.ACTIVATION:
        nested = call.config.get("activation")
        if isinstance(nested, str):
            return {}
        outer: Mapping[str, object] = call.config
        if not isinstance(nested, Mapping):
            return outer
    else:
        nested = call.config.get("activation")
    settings = nested.get("config") if isinstance(nested, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _slope(moments: ActivationMoments) -> Backward:
    """φ′ on the gradient: its fluctuation turns coherent gradient into random."""
    coherent = moments.slope**2
    return np.array(
        [[moments.slope_second, max(moments.slope_second - coherent, 0.0)], [0.0, coherent]]
    )


def _softmax(width: int, logits: Signal) -> Signal:
    """Moments of a softmax over `width` nearly Gaussian logits, by those of the log-normal."""
    mean = 1 / width
    second = min(math.exp(min(logits.variance, 50.0)) / width**2, 1 / width)
    share = logits.within / logits.variance if logits.variance else 1.0
    spread = second - mean**2
    return Signal(mean=mean, between=spread * (1 - share), within=spread * share)


#: Calls whose output is their input in distribution.
PASSING = frozenset(
    {Op.IDENTITY, Op.CAST, Op.ACTIVATION, Op.NOISE, Op.AUGMENTATION, Op.REGULARIZATION}
)
NORMALIZING = frozenset(
    {Op.BATCH_NORM, Op.LAYER_NORM, Op.GROUP_NORM, Op.INSTANCE_NORM, Op.RMS_NORM}
)
LAWS: Mapping[Op, Law] = {
    Op.DENSE: kernel_laws.kernel,
    Op.EINSUM_DENSE: kernel_laws.kernel,
    Op.CONV: kernel_laws.kernel,
    Op.DEPTHWISE_CONV: kernel_laws.kernel,
    Op.CONV_TRANSPOSE: kernel_laws.kernel,
    Op.SEPARABLE_CONV: kernel_laws.separable,
    Op.EMBEDDING: kernel_laws.embedding,
    Op.DROPOUT: layer_laws.dropout,
    Op.BATCH_NORM: layer_laws.batch_norm,
    Op.INSTANCE_NORM: layer_laws.batch_norm,
    Op.LAYER_NORM: layer_laws.layer_norm,
    Op.GROUP_NORM: layer_laws.layer_norm,
    Op.RMS_NORM: layer_laws.rms_norm,
    Op.SCALE: scaling,
    Op.AVERAGE_POOL: layer_laws.average_pool,
    Op.GLOBAL_AVERAGE_POOL: layer_laws.average_pool,
    Op.MAX_POOL: layer_laws.max_pool,
    Op.GLOBAL_MAX_POOL: layer_laws.max_pool,
    Op.ADD: layer_laws.total,
    Op.SUBTRACT: layer_laws.total,
    Op.AVERAGE: layer_laws.total,
    Op.MULTIPLY: layer_laws.product,
    Op.CONCATENATE: layer_laws.concatenation,
}
