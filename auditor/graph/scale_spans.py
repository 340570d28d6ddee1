"""Spans of plain layers between normalizations, and what their weights' scale does over them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from auditor.graph.activations import activation_moments, curve
from auditor.graph.forecast import Forecast
from auditor.graph.freshness import law_of, laws
from auditor.graph.kernel_laws import connections, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    AFFINE_OPS,
    KERNEL_OPS,
    NORMALIZATION_OPS,
    SATURATING_ACTIVATIONS,
    Op,
)
from auditor.graph.paths import before_kernels, plain_chains
from auditor.graph.trainable_reach import learned_calls
from auditor.graph.transfer import activation_settings


@dataclass(frozen=True, kw_only=True)
class ScaledLayer:
    """One affine call of a span.

    excess: factor by which its weights' standard deviation exceeds what the following activation
    needs, fan-in · σ² · E φ′² = 1. gain: predicted factor on the gradient's norm, from the call
    after it in the span (or the span's end) to its input.
    """

    call: LayerCall
    activation: str | None
    excess: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class ScaleSpan:
    """Affine calls in a row, without normalization, branch or merge, all covered by the forecast.

    gradient: predicted factor on the gradient's norm from the last call's output to the first's.
    forward: predicted factor on the signal's root mean square from before the first call to the
    end. normalized: whether a normalization follows, which takes the scale out again. untouched:
    whether every weight can still be the draw its initializer made; None where that is unknown.
    frozen: whether the span lies before the first trainable weight, so that only its signal counts.
    """

    layers: tuple[ScaledLayer, ...]
    calls: tuple[LayerCall, ...]
    gradient: float
    forward: float
    normalized: bool
    untouched: bool | None
    frozen: bool = False

    @property
    def change(self) -> float:
        """The worse of what happens to the gradient and, without normalization, to the signal."""
        if self.frozen:
            return 1.0 if self.normalized else self.forward
        if self.normalized or abs(math.log(self.gradient)) >= abs(math.log(self.forward)):
            return self.gradient
        return self.forward

    @property
    def excess(self) -> float:
        """The product of the layers' excesses."""
        return _bounded(sum(math.log(layer.excess) for layer in self.layers))

    @property
    def caused(self) -> bool:
        """Whether the weights' scale accounts for half of the change (in logarithms) or more."""
        change = math.log(self.change)
        return math.log(self.excess) * math.copysign(1, change) >= 0.5 * abs(change)


def scale_spans(graph: LayerGraph, predicted: Forecast | None) -> tuple[ScaleSpan, ...]:
    """The spans of a graph, parted where the frozen ones end and what is trained begins.

    A head scaled down on purpose does not count as a loss of scale.
    """
    if predicted is None:
        return ()
    followed = before_kernels(graph)
    learned = learned_calls(graph)
    spans: list[ScaleSpan] = []
    for chain in plain_chains(graph):
        run: list[LayerCall] = []
        for call in (*chain, None):
            continues = call is not None and _continues(graph, call, predicted)
            if call is not None and continues and not _thaws(run, call, learned):
                run.append(call)
                continue
            normalized = call is not None and call.op in NORMALIZATION_OPS
            normalized = normalized or (call is None and _leads_to_normalization(graph, chain[-1]))
            span = _span(graph, run, predicted, followed, normalized=normalized)
            if span is not None:
                spans.append(replace(span, frozen=run[-1].id not in learned))
            run = [call] if call is not None and continues else []
    return tuple(spans)


def _continues(graph: LayerGraph, call: LayerCall, predicted: Forecast) -> bool:
    if call.op in NORMALIZATION_OPS or call.id not in predicted.calls:
        return False
    if call.op not in KERNEL_OPS:
        return call.op is not Op.INPUT
    # A kernel of zeros has no scale; whether it is a fault is another question.
    return call.op in AFFINE_OPS and _deviation(graph, call) > 0


def _thaws(run: list[LayerCall], call: LayerCall, learned: frozenset[str]) -> bool:
    """Whether what is trained begins with this call, behind a run that is not."""
    return bool(run) and call.id in learned and run[-1].id not in learned


def _leads_to_normalization(graph: LayerGraph, call: LayerCall) -> bool:
    successors = graph.successors(call.id)
    return bool(successors) and all(step.op in NORMALIZATION_OPS for step in successors)


def _span(
    graph: LayerGraph,
    run: list[LayerCall],
    predicted: Forecast,
    followed: frozenset[str],
    *,
    normalized: bool,
) -> ScaleSpan | None:
    affine = [index for index, call in enumerate(run) if call.op in AFFINE_OPS]
    if not affine:
        return None
    layers: list[ScaledLayer] = []
    ends = [*affine[1:], len(run)]
    to_output = run[-1].id not in followed
    for start, end in zip(affine, ends, strict=True):
        block = run[start:end]
        gain = _bounded(sum(_log(predicted.calls[call.id].gain) for call in block))
        activation = next((c for c in block if c.activation is not None), None)
        # The head's activation belongs to the loss, and a small head is a way to start at zero.
        is_head = end == len(run) and to_output
        excess = _excess(graph, run[start], None if is_head else activation)
        layers.append(
            ScaledLayer(
                call=run[start],
                activation=activation.activation if activation is not None else None,
                excess=max(excess, 1.0) if is_head else excess,
                gain=max(gain, 1.0) if is_head else gain,
            )
        )
    forward = _forward(graph, run, affine, predicted, to_output=to_output)
    return ScaleSpan(
        layers=tuple(layers),
        calls=tuple(run[affine[0] :]),
        gradient=_bounded(sum(_log(layer.gain) for layer in layers[1:])),
        forward=forward,
        normalized=normalized,
        untouched=_untouched(graph, [layer.call for layer in layers]),
    )


def _forward(
    graph: LayerGraph,
    run: list[LayerCall],
    affine: list[int],
    predicted: Forecast,
    *,
    to_output: bool,
) -> float:
    sources = graph.predecessors(run[affine[0]].id)
    before = [predicted.calls[s.id].variance for s in sources if s.id in predicted.calls]
    last = run[affine[-1]]
    if to_output:
        # A head's own activation bounds what comes out, and a small head is no loss of signal.
        last = run[affine[-1] - 1] if len(affine) > 1 else run[affine[-1]]
        if len(affine) == 1:
            return 1.0
    after = predicted.calls[last.id].variance
    if not before or before[0] <= 0 or after <= 0:
        return 1.0
    return _bounded((math.log(after) - math.log(before[0])) / 2)


def _excess(graph: LayerGraph, call: LayerCall, activation: LayerCall | None) -> float:
    """√(fan-in · mean square weight / what the activation needs).

    Weights whose mean is not zero scale the vector of ones by √(fan-in · units) times that mean,
    which counts where it is more.
    """
    total = 1.0
    for role in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        moments, fan = weight_moments(graph, call, role), connections(call, role)
        if moments is not None and fan is not None:
            total *= max(fan[0] * moments.mean_square, math.prod(fan) * moments.mean**2)
    return math.sqrt(total / needed_variance(activation)) if total > 0 else 1.0


def needed_variance(activation: LayerCall | None) -> float:
    """fan-in · σ² that keeps the gradient's norm, by the activation that follows: 1/E φ′².

    Glorot & Bengio 2010 and LeCun et al. 1998 ask 1 for saturating activations, which is taken as
    it stands: what a sigmoid's slope loses is not the weights' fault.
    """
    if activation is None or activation.activation in SATURATING_ACTIVATIONS:
        return 1.0
    phi = curve(activation.activation, activation_settings(activation))
    if phi is None:
        return 1.0
    slope = activation_moments(phi, 0.0, 0.0, 1.0).slope_second
    return 1 / slope if slope > 1e-6 else 1.0


def _deviation(graph: LayerGraph, call: LayerCall) -> float:
    found = [
        moments.mean_square
        for role in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if (moments := weight_moments(graph, call, role)) is not None
    ]
    return min(found, default=0.0)


def _untouched(graph: LayerGraph, calls: list[LayerCall]) -> bool | None:
    """Whether all weights of the calls are explained by their initializers' laws."""
    known = True
    for call in calls:
        for index, weight in enumerate(call.weights):
            if not laws(weight):
                known = False
                continue
            if law_of(weight, graph.weight_statistics.get((call.layer, index))) is None:
                return False
    return True if known else None


def _log(factor: float) -> float:
    return math.log(factor) if factor > 0 else -700.0


def _bounded(log: float) -> float:
    return math.exp(max(-700.0, min(log, 700.0)))
