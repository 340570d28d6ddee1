"""Mean-field laws of the calls that take several tensors: sums, products, concatenation."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from auditor.graph.activations import Curve, activation_moments
from auditor.graph.dimensions import dimension
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.pointwise import Joint
from auditor.graph.signal import (
    THROUGH,
    TINY,
    Drawn,
    Signal,
    Transfer,
    after_activation,
    backward,
)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Inputs that are functions of one and the same value, taken together.

    correction: what the gradient's power at that value is, over the sum of what comes back through
    each of the inputs by itself.
    """

    slots: tuple[int, ...]
    signal: Signal
    correction: float


def total(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Sum, difference or mean.

    Branches are uncorrelated where a kernel of mean zero lies between them, as it does in residual
    blocks. Branches without one (x + x, x + relu(x), x + x·sigmoid(x)) are functions of the same
    Gaussian value, and their joint moments are taken by quadrature.
    """
    share = 1 / len(signals) if call.op is Op.AVERAGE else 1.0
    weights = [-share if call.op is Op.SUBTRACT and slot else share for slot in range(len(signals))]
    groups = _groups(graph, call, signals, "sum", weights)
    if groups is None:
        return None
    alone = len(groups) == 1
    corrections = {slot: group.correction for group in groups for slot in group.slots}
    return Transfer(
        signal=Signal(
            mean=sum(group.signal.mean for group in groups),
            between=sum(group.signal.between for group in groups),
            within=sum(group.signal.within for group in groups),
            shared=sum(group.signal.shared for group in groups),
            drawn=groups[0].signal.drawn if alone else None,
        ),
        inputs=tuple(
            THROUGH * weight**2 * corrections[slot] for slot, weight in enumerate(weights)
        ),
    )


def product(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Independent factors, as gates are; factors of one origin (x·sigmoid(x)) by quadrature."""
    groups = _groups(graph, call, signals, "product", [1.0] * len(signals))
    if groups is None:
        return None
    parts = [group.signal for group in groups]
    mean = math.prod(x.mean for x in parts)
    common = math.prod(x.mean**2 + x.between for x in parts)
    level = math.prod(x.mean**2 + x.between + x.shared for x in parts)
    second = math.prod(x.mean_square for x in parts)
    corrections = {slot: group.correction for group in groups for slot in group.slots}
    squares = _others([x.mean_square for x in signals])
    straights = _others([x.mean**2 for x in signals])
    levels = _others([x.mean**2 + x.between + x.shared for x in signals])
    inputs = [
        backward(square, straight, level_) * corrections[slot]
        for slot, (square, straight, level_) in enumerate(
            zip(squares, straights, levels, strict=True)
        )
    ]
    return Transfer(
        signal=Signal(
            mean=mean,
            between=max(common - mean**2, 0.0),
            within=max(second - common, 0.0),
            shared=max(level - common, 0.0),
            drawn=parts[0].drawn if len(groups) == 1 else None,
        ),
        inputs=tuple(inputs),
    )


def _groups(
    graph: LayerGraph,
    call: LayerCall,
    signals: tuple[Signal, ...],
    how: str,
    weights: Sequence[float],
) -> list[_Group] | None:
    sources = graph.predecessors(call.id)
    if len(sources) != len(signals):
        return None
    origins: dict[str, list[int]] = {}
    for slot, (source, signal) in enumerate(zip(sources, signals, strict=True)):
        drawn = signal.drawn
        origins.setdefault(drawn.origin if drawn and drawn.origin else source.id, []).append(slot)
    groups = [
        _group(
            [signals[slot] for slot in slots],
            tuple(slots),
            origin,
            how,
            [weights[slot] for slot in slots],
        )
        for origin, slots in origins.items()
    ]
    found = [group for group in groups if group is not None]
    return found if len(found) == len(groups) else None


def _group(
    signals: list[Signal], slots: tuple[int, ...], origin: str, how: str, weights: list[float]
) -> _Group | None:
    first = signals[0]
    if len(signals) == 1:
        (weight,) = weights
        square = weight**2
        return _Group(
            slots=slots,
            signal=Signal(
                mean=weight * first.mean,
                between=square * first.between,
                within=square * first.within,
                shared=square * first.shared,
                drawn=first.drawn if weight == 1.0 else None,
            ),
            correction=1.0,
        )
    # The value that all are functions of: what was drawn, or the common source itself.
    laws = [s.drawn for s in signals if s.drawn is not None and s.drawn.origin == origin]
    base = laws[0] if laws else None
    mean, between, within = (
        (base.mean, base.between, base.within)
        if base is not None
        else (first.mean, first.between, first.within)
    )
    curves = tuple(
        s.drawn.phi if s.drawn is not None and s.drawn.origin == origin else Curve("linear")
        for s in signals
    )
    joint = Joint(how, curves, tuple(weights))
    whole = activation_moments(joint, mean, between, within)
    singles = [activation_moments(curve, mean, between, within) for curve in curves]
    if how == "sum":
        passed = sum(
            weight**2 * moments.slope_second
            for weight, moments in zip(weights, singles, strict=True)
        )
    else:
        others = _others([moments.second for moments in singles])
        passed = sum(
            other * moments.slope_second for other, moments in zip(others, singles, strict=True)
        )
    if not math.isfinite(whole.second) or not math.isfinite(whole.slope_second):
        return None
    drawn = Drawn(phi=joint, mean=mean, between=between, within=within, origin=origin)
    return _Group(
        slots=slots,
        signal=after_activation(whole, drawn),
        correction=whole.slope_second / passed if passed > TINY else 1.0,
    )


def _others(factors: Sequence[float]) -> list[float]:
    """For each factor the product of all others, without dividing by what may be zero."""
    before = accumulate(factors[:-1], operator.mul, initial=1.0)
    after = accumulate(reversed(factors[1:]), operator.mul, initial=1.0)
    return [one * other for one, other in zip(before, reversed(list(after)), strict=True)]


def concatenation(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Side by side: each input has its share of the output, and of the gradient's power."""
    axis = call.config.get("axis", -1)
    axis = axis if isinstance(axis, int) and not isinstance(axis, bool) else -1
    if call.op is Op.STACK:
        widths = [1] * len(signals)
    else:
        known = [size for shape in call.in_shapes if (size := dimension(shape, axis))]
        widths = known if len(known) == len(signals) else [1] * len(signals)
    units = sum(widths)
    shares = [width / units for width in widths]
    mean = sum(share * x.mean for share, x in zip(shares, signals, strict=True))
    common = sum(share * (x.mean**2 + x.between) for share, x in zip(shares, signals, strict=True))
    within = sum(share * x.within for share, x in zip(shares, signals, strict=True))
    shared = sum(share * x.shared for share, x in zip(shares, signals, strict=True))
    return Transfer(
        signal=Signal(mean=mean, between=max(common - mean**2, 0.0), within=within, shared=shared),
        inputs=tuple(THROUGH * share for share in shares),
    )


def extreme(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """The larger (or smaller) of two independent Gaussian values (Clark 1961)."""
    sources = graph.predecessors(call.id)
    if len(signals) != 2 or len(sources) != 2 or sources[0].id == sources[1].id:
        return None
    one, other = signals
    sign = -1.0 if call.op is Op.MINIMUM else 1.0
    scale = math.sqrt(one.variance + other.variance)
    if scale <= TINY:
        return None
    apart = sign * (one.mean - other.mean) / scale
    ahead = (1 + math.erf(apart / math.sqrt(2))) / 2
    density = math.exp(-(apart**2) / 2) / math.sqrt(2 * math.pi)
    first, second = sign * one.mean, sign * other.mean
    mean = first * ahead + second * (1 - ahead) + scale * density
    square = (
        one.mean_square * ahead
        + other.mean_square * (1 - ahead)
        + (first + second) * scale * density
    )
    variance = max(square - mean**2, 0.0)
    share = (one.between + other.between) / (one.variance + other.variance)
    return Transfer(
        signal=Signal(mean=sign * mean, between=share * variance, within=(1 - share) * variance),
        inputs=(
            backward(ahead, ahead**2, ahead**2),
            backward(1 - ahead, (1 - ahead) ** 2, (1 - ahead) ** 2),
        ),
    )


def contraction(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """A product of two computed tensors: n products of independent factors are added up."""
    if len(signals) != 2 or call.kind not in ("Matmul", "MatMul", "Dot", "Vdot", "Tensordot"):
        return None
    count = _contracted(call)
    if count is None:
        return None
    one, other = signals
    straight = count * one.mean * other.mean
    pairs = count**2 - count

    def crossed(ones: float, others: float) -> float:
        """E of products of two different terms, each factor's own part in common given."""
        means = (one.mean * other.mean) ** 2
        return pairs * (one.mean**2 * others + ones * other.mean**2 - means)

    levels = [x.mean**2 + x.between + x.shared for x in signals]
    fixed = [x.mean**2 + x.between for x in signals]
    common = count * fixed[0] * fixed[1] + crossed(*fixed)
    second = count * one.mean_square * other.mean_square + crossed(*levels)
    level = count * levels[0] * levels[1] + crossed(*levels)
    return Transfer(
        signal=Signal(
            mean=straight,
            between=max(common - straight**2, 0.0),
            within=max(second - common, 0.0),
            shared=min(max(level - common, 0.0), max(second - common, 0.0)),
        ),
        inputs=tuple(
            np.diag([count * x.mean_square, count * x.mean**2, count * x.mean_square])
            + np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]) * count * x.variance
            for x in (other, one)
        ),
    )


def _contracted(call: LayerCall) -> int | None:
    """How many products each element is a sum of."""
    if len(call.in_shapes) != 2 or call.in_shapes[0] is None:
        return None
    axis: object = -1
    if call.kind == "Dot":
        axes = call.config.get("axes")
        axis = axes[0] if isinstance(axes, (list, tuple)) and axes else axes
    if not isinstance(axis, int) or isinstance(axis, bool) or call.config.get("normalize") is True:
        return None
    return dimension(call.in_shapes[0], axis)
