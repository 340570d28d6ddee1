"""Mean-field laws of the calls of one input without a kernel: normalization, pooling, dropout."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from auditor.graph.activations import Curve, activation_moments, largest_moments
from auditor.graph.dimensions import number, own_config, window
from auditor.graph.kernel_laws import WeightMoments, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, Op
from auditor.graph.signal import (
    THROUGH,
    TINY,
    Backward,
    Drawn,
    Signal,
    Transfer,
    after_activation,
    backward,
)

#: Operations along an axis that are a sum or a mean, in Keras and in ONNX.
MEANS = frozenset({"Mean", "ReduceMean", "Average", "GlobalAveragePool"})
SUMS = frozenset({"Sum", "ReduceSum"})
#: Sizes taken for axes that a model leaves open: of sequences, and of images and volumes along
#: each axis. The probe's synthetic batches have the same.
OPEN_SEQUENCE = 16
OPEN_SIZES = {4: 64, 5: 16}


def passing(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """What gives its one input on, in distribution."""
    if len(signals) != 1:
        return None
    (signal,) = signals
    drawn, shared = signal.drawn, signal.shared
    if call.op in SHAPE_OPS and drawn is not None:
        # Its values are no longer at the places they were drawn at.
        drawn = Drawn(phi=drawn.phi, mean=drawn.mean, between=drawn.between, within=drawn.within)
    if call.op is Op.REPEAT and _rank(call.out_shapes) > _rank(call.in_shapes):
        shared = signal.within
    made = Signal(
        mean=signal.mean,
        between=signal.between,
        within=signal.within,
        shared=shared,
        drawn=drawn,
    )
    return Transfer(signal=made, inputs=(THROUGH,))


def _rank(shapes: tuple[object, ...]) -> int:
    first = shapes[0] if shapes else None
    return len(first) if isinstance(first, tuple) else 0


def dropout(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Inverted dropout in training: a mask of mean 1 and variance p/(1−p)."""
    (signal,) = signals[:1]
    rate = number(call.config.get("rate", call.config.get("ratio")))
    if rate is None or not 0 <= rate < 1 or call.kind == "AlphaDropout":
        return Transfer(signal=signal, inputs=(THROUGH,))
    odds = rate / (1 - rate)
    return Transfer(
        signal=Signal(
            mean=signal.mean,
            between=signal.between,
            within=signal.within + odds * signal.mean_square,
            shared=signal.shared,
        ),
        inputs=(backward(1 + odds, 1.0, 1.0),),
    )


def batch_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each unit by its standard deviation over the batch (Yang et al. 2019)."""
    (signal,) = signals[:1]
    if signal.within <= TINY:
        return None
    unit = Signal(mean=0.0, between=0.0, within=1.0, shared=signal.shared / signal.within)
    return _normalized(graph, call, unit, signal.within)


def layer_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each sample by its standard deviation over units: what is coherent is removed."""
    (signal,) = signals[:1]
    variance = signal.variance
    if variance <= TINY:
        return None
    made = _normalized(graph, call, _divided(signal, variance, mean=0.0), variance)
    if made is None or call.op is not Op.LAYER_NORM:
        return made
    return Transfer(signal=made.signal, inputs=(made.inputs[0] * np.array([[1.0], [0.0], [1.0]]),))


def rms_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each sample by its root mean square (Zhang & Sennrich 2019)."""
    (signal,) = signals[:1]
    q = signal.mean_square
    if q <= TINY:
        return None
    return _normalized(graph, call, _divided(signal, q, mean=signal.mean), q)


def unit_norm(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each sample by its length √(n·q): an RMS normalization over the root of the width."""
    (signal,) = signals[:1]
    shape, q = call.in_shape, signal.mean_square
    width = shape[-1] if shape else None
    if call.kind not in ("UnitNormalization", "Normalize") or not isinstance(width, int):
        return None
    if width < 1 or q <= TINY:
        return None
    divisor = width * q
    return Transfer(
        signal=_divided(signal, divisor, mean=signal.mean),
        inputs=(THROUGH / divisor,),
    )


def _divided(signal: Signal, divisor: float, *, mean: float) -> Signal:
    return Signal(
        mean=mean / math.sqrt(divisor),
        between=signal.between / divisor,
        within=signal.within / divisor,
        shared=signal.shared / divisor,
    )


def _normalized(
    graph: LayerGraph, call: LayerCall, unit: Signal, divisor: float
) -> Transfer | None:
    """γ·x/√divisor + β, `unit` being the signal before γ and β."""
    if divisor <= TINY:
        return None
    epsilon = number(call.config.get("epsilon")) or 0.0
    shrink = divisor / (divisor + max(epsilon, 0.0))
    gamma = weight_moments(graph, call, "gamma") or WeightMoments(mean=1.0, variance=0.0)
    beta = weight_moments(graph, call, "beta") or WeightMoments(mean=0.0, variance=0.0)
    scale = gamma.mean_square * shrink
    return Transfer(
        signal=Signal(
            mean=gamma.mean * math.sqrt(shrink) * unit.mean + beta.mean,
            between=scale * unit.between + gamma.variance * shrink * unit.mean**2 + beta.variance,
            within=scale * unit.within,
            shared=scale * unit.shared,
        ),
        inputs=(backward(scale, gamma.mean**2 * shrink, scale) / divisor,),
    )


def average_pool(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """The mean over a window; positions differ as samples do, but for what they share."""
    (signal,) = signals[:1]
    positions = taps(call)
    if positions is None:
        return None
    return _averaged(signal, positions, whole=call.op is Op.GLOBAL_AVERAGE_POOL)


def _averaged(signal: Signal, positions: float, *, whole: bool) -> Transfer:
    left = signal.shared + signal.positional / positions
    return Transfer(
        signal=Signal(
            mean=signal.mean,
            between=signal.between,
            within=left,
            shared=left if whole else signal.shared,
        ),
        inputs=((_to_all() if whole else THROUGH) / positions,),
    )


def _to_all() -> Backward:
    """One gradient handed to all positions of a sample alike."""
    return np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])


def reduction(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Sums and means along axes of positions, the batch and the units apart."""
    (signal,) = signals[:1]
    if call.kind not in MEANS | SUMS or call.in_shape is None:
        return None
    axes = reduced_axes(call)
    rank = len(call.in_shape)
    units = 1 if call.nodes and rank > 3 else rank - 1
    if axes is None or not axes or units in axes or 0 in axes:
        return None
    counts = [_open_size(call.in_shape[axis], rank) for axis in axes]
    positions = float(math.prod(counts))
    made = _averaged(signal, positions, whole=len(axes) == rank - 2)
    if call.kind in MEANS:
        return made
    total = positions**2
    sums = Signal(
        mean=positions * made.signal.mean,
        between=total * made.signal.between,
        within=total * made.signal.within,
        shared=total * made.signal.shared,
    )
    return Transfer(signal=sums, inputs=tuple(matrix * total for matrix in made.inputs))


def reduced_axes(call: LayerCall) -> tuple[int, ...] | None:
    """The axes, none negative, that a reduction goes over; None where they are not known."""
    if call.in_shape is None:
        return None
    rank = len(call.in_shape)
    axes = call.config.get("axis", call.config.get("axes"))
    axes = (axes,) if isinstance(axes, int) and not isinstance(axes, bool) else axes
    if not isinstance(axes, (list, tuple)):
        return None
    found = tuple(axis % rank for axis in axes if isinstance(axis, int) and -rank <= axis < rank)
    return found if len(found) == len(axes) else None


def taps(call: LayerCall) -> float | None:
    """Positions a pooling call reduces to one, open axes taken as the probe's batches have them."""
    known = window(call)
    shape = call.in_shape
    if known is not None or call.op not in (Op.GLOBAL_AVERAGE_POOL, Op.GLOBAL_MAX_POOL):
        return known
    if shape is None or len(shape) < 3:
        return None
    first = own_config(call).get("data_format") == "channels_first" or bool(call.nodes)
    return float(
        math.prod(_open_size(s, len(shape)) for s in (shape[2:] if first else shape[1:-1]))
    )


def _open_size(size: object, rank: int) -> int:
    if isinstance(size, int) and size > 0:
        return size
    return OPEN_SIZES.get(rank, OPEN_SEQUENCE)


def max_pool(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """The largest of a window whose positions are taken to differ as samples do.

    Each gradient goes to one input, where the activation before it is steeper than elsewhere: the
    largest of four values behind a ReLU is positive 15 times in 16.
    """
    (signal,) = signals[:1]
    positions = taps(call)
    if positions is None or signal.within <= 0:
        return None
    linear = Drawn(
        phi=Curve("linear"), mean=signal.mean, between=signal.between, within=signal.within
    )
    drawn = signal.drawn or linear
    law = (drawn.phi, drawn.mean, drawn.between, drawn.within)
    usual, largest = activation_moments(*law), largest_moments(*law, round(positions))
    if usual.slope_second <= 0:
        return None
    steeper = largest.slope_second / usual.slope_second
    straight = (largest.slope / usual.slope) ** 2 if usual.slope else steeper
    made = after_activation(largest, None)
    if call.op is Op.GLOBAL_MAX_POOL:
        made = replace(made, shared=made.within)
    return Transfer(
        signal=made,
        # What is left of a window is one of its positions: nothing stays in common.
        inputs=(np.array([[steeper, 0.0, steeper], [0.0, straight, 0.0], [0.0, 0.0, 0.0]]),),
    )
