"""Intervals of what is computed value by value: activations, operations, constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from auditor.graph.activations import curve
from auditor.graph.dimensions import number
from auditor.graph.interval import EVERYTHING, Interval, hull
from auditor.graph.interval_kernels import weight_range
from auditor.graph.layer_graph import LayerCall, LayerGraph

UNIT = Interval(low=0.0, high=1.0)
SIGNED_UNIT = Interval(low=-1.0, high=1.0)
POSITIVE = Interval(low=0.0, high=math.inf)
#: Stands for infinity where a curve is evaluated: all have reached their asymptote, or grow.
FAR = 1e6
#: Of a curve's value, for what is computed in single precision.
ROUNDING = 1e-6
#: Activations that never fall.
RISING = frozenset(
    {
        "relu6",
        "elu",
        "celu",
        "selu",
        "tanh",
        "tanh_shrink",
        "hard_tanh",
        "hard_shrink",
        "soft_shrink",
        "sigmoid",
        "hard_sigmoid",
        "log_sigmoid",
        "sparse_sigmoid",
        "sparse_plus",
        "squareplus",
        "softplus",
        "softsign",
        "exponential",
    }
)
#: Activations that fall to one lowest value and rise from there: where it is, and below what.
DIPPING: Mapping[str, tuple[float, float]] = {
    "gelu": (-0.7518, -0.17006),
    "silu": (-1.27847, -0.278466),
    "mish": (-1.19245, -0.30886),
    "hard_silu": (-1.5, -0.375),
}
#: What an activation gives over all numbers, where an end is not its curve's far value.
WHOLE: Mapping[str, Interval] = {
    "relu6": Interval(low=0.0, high=6.0),
    "tanh": SIGNED_UNIT,
    "hard_tanh": SIGNED_UNIT,
    "softsign": SIGNED_UNIT,
    "sigmoid": UNIT,
    "hard_sigmoid": UNIT,
    "sparse_sigmoid": UNIT,
}


def activated(name: str, settings: Mapping[str, Any], source: Interval | None) -> Interval | None:
    """What the activation gives on the interval; on all numbers where there is none."""
    source = source or EVERYTHING
    if name == "softmax":
        return UNIT
    if name == "log_softmax":
        return Interval(low=-math.inf, high=0.0)
    if name == "linear":
        return source
    phi = curve(name, settings)
    if phi is None:
        return None
    if name in ("relu", "leaky_relu"):
        slope, ceiling, threshold = phi.parameters
        if slope < 0 or ceiling < threshold or (threshold < 0 and slope):
            return None
        if threshold > 0 and slope:
            return None  # it jumps, up or down
    elif name in DIPPING:
        return _dipping(name, phi, source)
    elif name == "prelu":
        return source if source.low >= 0 else None
    elif name not in RISING:
        return None
    whole = WHOLE.get(name, EVERYTHING)
    made = Interval(low=_at(phi, source.low), high=_at(phi, source.high))
    return Interval(low=max(made.low, whole.low), high=min(made.high, whole.high))


Phi = Callable[[Any], tuple[Any, Any]]


def _at(phi: Phi, end: float) -> float:
    """φ at an end of an interval; at infinity its limit, finite where it flattens out."""
    if math.isfinite(end):
        return float(phi(np.array([end]))[0][0])
    far, farther = (float(phi(np.array([math.copysign(x, end)]))[0][0]) for x in (FAR, 2 * FAR))
    if abs(farther - far) <= ROUNDING * max(abs(far), 1.0):
        return round(far, 3) if abs(far - round(far, 3)) < 1e-5 else far
    return math.inf if far > 0 else -math.inf


def _dipping(name: str, phi: Phi, source: Interval) -> Interval:
    place, lowest = DIPPING[name]
    ends = [0.0 if end == -math.inf else _at(phi, end) for end in (source.low, source.high)]
    slack = 1e-3  # the tanh form of GELU lies that far off
    low = min([lowest] if source.holds(place) else ends) - slack
    return Interval(low=low if source.low < 0 else max(low, 0.0), high=max(ends) + slack)


def scaled(graph: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    """Multiplication and shift by constants."""
    if call.kind == "Normalization":
        return EVERYTHING
    if not sources or sources[0] is None:
        return None
    source = sources[0]
    if call.kind == "Rescaling":
        factor = constants_of(call.config.get("scale"))
        offset = constants_of(call.config.get("offset", 0.0))
        return source * factor + offset if factor is not None and offset is not None else None
    if call.kind == "Negative":
        return source.scaled(-1.0)
    found = constant_operand(call)
    if found is None:
        gamma, beta = (weight_range(graph, call, role) for role in ("gamma", "beta"))
        if call.kind in ("Add", "Mul", "Scale") and (gamma is not None or beta is not None):
            made = source * gamma if gamma is not None else source
            return made + beta if beta is not None else made
        return None
    constant, first = found
    match call.kind:
        case "Add":
            return source + constant
        case "Subtract" | "Sub":
            return source - constant if first else constant - source
        case "Multiply" | "Mul":
            return source * constant
        case "Divide" | "TrueDivide" | "Div" if first:
            return source / constant
    return None


def constant_operand(call: LayerCall) -> tuple[Interval, bool] | None:
    """The range of the constant among two operands, and whether the tensor is the first."""
    arguments = call.config.get("arguments")
    if isinstance(arguments, (list, tuple)) and len(arguments) >= 2:
        operands = [constants_of(argument) for argument in arguments[:2]]
    elif call.nodes and ("A" in call.config or "B" in call.config):
        operands = [constants_of(call.config.get(name)) for name in ("A", "B")]
    else:
        return None
    known = [operand for operand in operands if operand is not None]
    return (known[0], operands[0] is None) if len(known) == 1 else None


def constants_of(value: object) -> Interval | None:
    """From the smallest to the largest of a number, a list of numbers, or a stored tensor."""
    if isinstance(value, Mapping):
        settings = value.get("config")
        value = settings.get("value") if isinstance(settings, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        return None
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if numbers.size == 0 or np.isnan(numbers).any():
        return None
    return Interval(low=float(numbers.min()), high=float(numbers.max()))


def elementwise(_: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    """An operation on one tensor, constants included; outside its domain nothing is claimed."""
    if call.kind in BOUNDED:
        return BOUNDED[call.kind]
    source = sources[0] if sources and sources[0] is not None else EVERYTHING
    known = bool(sources) and sources[0] is not None
    if call.kind in ("Abs", "Absolute", "Fabs"):
        return _absolute(source)
    if call.kind == "Square":
        return _absolute(source) * _absolute(source)
    if call.kind in ("Exp", "Exp2"):
        base = math.e if call.kind == "Exp" else 2.0
        return Interval(low=_power(base, source.low), high=_power(base, source.high))
    if call.kind in ("Power", "Pow"):
        return _raised(call, source if known else None)
    if call.kind == "Clip":
        return _clipped(call, source)
    if call.kind in ("Maximum", "Minimum"):
        found = constant_operand(call)
        if found is None:
            return None
        constant = found[0]
        pick = max if call.kind == "Maximum" else min
        return Interval(low=pick(source.low, constant.low), high=pick(source.high, constant.high))
    if not known:
        return None
    if call.kind in ("TrueDivide", "Divide", "Div"):
        found = constant_operand(call)
        if found is None or found[1] or source.holds(0.0):
            return None
        return found[0] / source
    rising = MONOTONE.get(call.kind)
    if rising is None:
        return None
    function, least = rising
    if source.low < least or (source.low == least and call.kind in OPEN):
        return None
    return Interval(low=function(source.low), high=function(source.high))


def _absolute(source: Interval) -> Interval:
    ends = abs(source.low), abs(source.high)
    return Interval(low=0.0 if source.holds(0.0) else min(ends), high=max(ends))


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def exponent_of(call: LayerCall) -> float | None:
    """The constant that a tensor is raised to."""
    found = constant_operand(call)
    if found is not None and found[1] and found[0].low == found[0].high:
        return found[0].low
    return number(call.config.get("Y"))


def _raised(call: LayerCall, source: Interval | None) -> Interval | None:
    exponent = exponent_of(call)
    if exponent is None:
        return None
    if exponent > 0 and exponent % 2 == 0:
        size = _absolute(source or EVERYTHING)
        return Interval(low=_power(size.low, exponent), high=_power(size.high, exponent))
    if source is None or source.low < 0 or (source.low == 0 and exponent <= 0):
        return None
    ends = _power(source.low, exponent), _power(source.high, exponent)
    return Interval(low=min(ends), high=max(ends))


def _clipped(call: LayerCall, source: Interval) -> Interval | None:
    bounds = []
    for names in (("x_min", "min"), ("x_max", "max")):
        stated = next((call.config[name] for name in names if name in call.config), None)
        bound = number(stated)
        if stated is not None and bound is None:
            return None
        bounds.append(bound)
    low, high = bounds
    if low is None and high is None:
        return None
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return Interval(low=min(max(source.low, low), high), high=min(max(source.high, low), high))


BOUNDED: Mapping[str, Interval] = {
    "Sin": SIGNED_UNIT,
    "Cos": SIGNED_UNIT,
    "Erf": SIGNED_UNIT,
    "Sign": SIGNED_UNIT,
    "Heaviside": UNIT,
}


def _guarded(function: Callable[[float], float]) -> Callable[[float], float]:
    def applied(x: float) -> float:
        try:
            return function(x)
        except (OverflowError, ValueError):
            return math.inf if x > 0 else -math.inf

    return applied


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: float(function(x)) if math.isfinite(x) else x


#: Rising functions, and the least value of their domain.
MONOTONE: Mapping[str, tuple[Callable[[float], float], float]] = {
    "Sqrt": (_guarded(math.sqrt), 0.0),
    "Log": (_guarded(math.log), 0.0),
    "Log2": (_guarded(math.log2), 0.0),
    "Log10": (_guarded(math.log10), 0.0),
    "Log1p": (_guarded(math.log1p), -1.0),
    "Expm1": (_guarded(math.expm1), -math.inf),
    "Sinh": (_guarded(math.sinh), -math.inf),
    "Arcsinh": (_guarded(math.asinh), -math.inf),
    "Arctan": (math.atan, -math.inf),
    "Floor": (_whole(math.floor), -math.inf),
    "Ceil": (_whole(math.ceil), -math.inf),
    "Round": (_whole(round), -math.inf),
    "Trunc": (_whole(math.trunc), -math.inf),
}
#: Those that have no value at the least point.
OPEN = frozenset({"Log", "Log2", "Log10", "Log1p"})


def hull_of(sources: list[Interval | None]) -> Interval | None:
    """The hull of all inputs, where all are known."""
    known = [source for source in sources if source is not None]
    return hull(known) if known and len(known) == len(sources) else None
