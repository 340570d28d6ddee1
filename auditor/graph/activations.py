"""Pointwise activations, and their moments under Gaussian input by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.graph.error_function import erf

Floats = NDArray[np.float64]

#: Integration ends this many standard deviations from the mean: beyond it lies 1e-19 of the mass.
REACH = 9.0
#: Ends of the widest panels.
COARSE = np.linspace(-REACH, REACH, 10)
#: Where smooth activations bend, on both sides of zero: panels end there, so that a Gaussian much
#: wider than the bend is still resolved.
BENDS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
BOTH_SIDES = np.array(sorted({sign * bend for bend in BENDS for sign in (-1, 1)}))
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(8)


class Pointwise(Protocol):
    """A function of one value; compares and hashes by what it computes."""

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """φ(x) and φ′(x), elementwise."""
        ...

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where φ or φ′ jumps, zero apart."""
        ...

    def __hash__(self) -> int:
        """Of what it computes."""
        ...


@dataclass(frozen=True)
class Curve:
    """A pointwise activation with its parameters; compares and hashes by name and parameters."""

    name: str
    parameters: tuple[float, ...] = ()

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """φ(x) and φ′(x), elementwise."""
        return CURVES[self.name](x, *self.parameters)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where φ or φ′ jumps, zero apart."""
        if self.name == "relu":
            _, ceiling, threshold = self.parameters
            return tuple(point for point in (threshold, ceiling) if math.isfinite(point))
        return KINKS.get(self.name, ()) or tuple(k for p in self.parameters for k in (p, -p))


@dataclass(frozen=True, kw_only=True)
class ActivationMoments:
    """Moments of φ(x), x ~ N(mean, between + within).

    mean: E φ. second: E φ². common: E_M (E_z φ(M + √within z))², M ~ N(mean, between): what two
    samples share. slope: E φ′. slope_second: E φ′². slope_common: E_M (E_z φ′)².
    """

    mean: float
    second: float
    common: float
    slope: float
    slope_second: float
    slope_common: float


def curve(name: str | None, config: Mapping[str, Any]) -> Curve | None:
    """The curve of an activation with its layer's configuration; None if it is not pointwise.

    `name` None is the identity.
    """
    match name:
        case None:
            return Curve("linear")
        case "relu":
            slope = _first(config, ("negative_slope", "alpha"), 0.0)
            ceiling = _first(config, ("max_value",), math.inf)
            return Curve("relu", (slope, ceiling, _first(config, ("threshold", "theta"), 0.0)))
        case "leaky_relu":
            # The default of keras.activations.leaky_relu; layers write theirs.
            slope = _first(config, ("negative_slope", "alpha"), 0.2)
            return Curve("relu", (slope, math.inf, 0.0))
        case "relu6":
            return Curve("relu", (0.0, 6.0, 0.0))
        case "prelu":
            return Curve("relu", (0.0, math.inf, 0.0))
        case "elu" | "celu":
            return Curve(name, (_first(config, ("alpha",), 1.0) or 1.0,))
        case "hard_shrink" | "soft_shrink":
            return Curve(name, (_first(config, ("threshold", "lambd"), 0.5),))
        case "threshold":
            return Curve(
                name, (_first(config, ("threshold",), 0.0), _first(config, ("default_value",), 0.0))
            )
    return Curve(name) if name in CURVES else None


@lru_cache(maxsize=4096)
def activation_moments(
    phi: Pointwise, mean: float, between: float, within: float
) -> ActivationMoments:
    """Moments of `phi` under a Gaussian of this mean and variance `between + within`.

    Composite Gauss–Legendre with panels that end at the kinks: plain Gauss–Hermite converges only
    as 1/n for an activation with a kink.
    """
    x, weights = _gaussian(phi, mean, math.sqrt(between + within))
    value, slope = phi(x)
    common, slope_common = _common(phi, mean, math.sqrt(between), math.sqrt(within))
    return ActivationMoments(
        mean=_dot(weights, value),
        second=_dot(weights, value**2),
        common=common,
        slope=_dot(weights, slope),
        slope_second=_dot(weights, slope**2),
        slope_common=slope_common,
    )


@lru_cache(maxsize=1024)
def largest_moments(
    phi: Pointwise, mean: float, between: float, within: float, count: int
) -> ActivationMoments:
    """Moments of the largest of `count` values φ(M + √within z), M ~ N(mean, between) in common.

    φ is taken to be non-decreasing, so that the largest value is that of the largest z, whose
    density is count · pdf(z) · cdf(z)^(count − 1).
    """
    outer, outer_weights = _gaussian(phi, mean, math.sqrt(between))
    z, weights = _panels(np.linspace(-REACH, REACH, 73))
    below = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in z])
    weights = weights * _density(z)
    weights = count * weights * below ** (count - 1)
    value, slope = phi(outer[:, None] + math.sqrt(within) * z[None, :])
    of_unit = value @ weights
    slope_of_unit = slope @ weights
    return ActivationMoments(
        mean=_dot(outer_weights, of_unit),
        second=_dot(outer_weights, value**2 @ weights),
        common=_dot(outer_weights, of_unit**2),
        slope=_dot(outer_weights, slope_of_unit),
        slope_second=_dot(outer_weights, slope**2 @ weights),
        slope_common=_dot(outer_weights, slope_of_unit**2),
    )


def _common(phi: Pointwise, mean: float, between: float, within: float) -> tuple[float, float]:
    """E_M (E_z φ)² and E_M (E_z φ′)²."""
    outer, outer_weights = _gaussian(phi, mean, between)
    if within == 0:
        value, slope = phi(outer)
        return _dot(outer_weights, value**2), _dot(outer_weights, slope**2)
    inner, inner_weights = _standard()
    value, slope = phi(outer[:, None] + within * inner[None, :])
    return (
        _dot(outer_weights, (value @ inner_weights) ** 2),
        _dot(outer_weights, (slope @ inner_weights) ** 2),
    )


def _gaussian(phi: Pointwise, mean: float, sigma: float) -> tuple[Floats, Floats]:
    """Nodes x and weights for expectations under N(mean, sigma²)."""
    if sigma == 0:
        return np.array([mean]), np.ones(1)
    bends = np.concatenate([BOTH_SIDES, phi.kinks]) if phi.kinks else BOTH_SIDES
    inside = (bends - mean) / sigma
    ends = np.concatenate([COARSE, inside[np.abs(inside) < REACH]])
    ends.sort()  # two ends in one place make a panel of no width, which weighs nothing
    z, weights = _panels(ends)
    return mean + sigma * z, weights * _density(z)


@cache
def _standard() -> tuple[Floats, Floats]:
    """Nodes z and weights for expectations of smooth functions under N(0, 1)."""
    z, weights = _panels(np.linspace(-REACH, REACH, 19))
    return z, weights * _density(z)


def _density(z: Floats) -> Floats:
    return np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)


def _panels(ends: Floats) -> tuple[Floats, Floats]:
    half = np.diff(ends)[:, None] / 2
    centre = (ends[:-1] + ends[1:])[:, None] / 2
    return (centre + half * NODES).reshape(-1), (half * NODE_WEIGHTS).reshape(-1)


def _dot(weights: Floats, values: Floats) -> float:
    return float(weights @ values)


def _first(config: Mapping[str, Any], keys: tuple[str, ...], default: float) -> float:
    """The first numeric setting of these names."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
            return float(value)
    return default


Pair = tuple[Floats, Floats]


def _clip(x: Floats) -> Floats:
    """Keeps exp finite; beyond ±700 every curve below has reached its asymptote."""
    return np.clip(x, -700.0, 700.0)


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-_clip(x)))


def _relu(x: Floats, slope: float, ceiling: float, threshold: float) -> Pair:
    above = x >= threshold
    value = np.where(above, np.minimum(x, ceiling), slope * (x - threshold))
    return value, np.where(above, (x < ceiling).astype(float), slope)


def _elu(x: Floats, alpha: float) -> Pair:
    low = alpha * np.expm1(np.minimum(x, 0))
    return np.where(x > 0, x, low), np.where(x > 0, 1.0, low + alpha)


def _celu(x: Floats, alpha: float) -> Pair:
    low = alpha * np.expm1(np.minimum(x / alpha, 0))
    return np.where(x > 0, x, low), np.where(x > 0, 1.0, low / alpha + 1)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _selu(x: Floats) -> Pair:
    value, slope = _elu(x, SELU_ALPHA)
    return SELU_SCALE * value, SELU_SCALE * slope


def _gelu(x: Floats) -> Pair:
    share = (1 + erf(x / math.sqrt(2))) / 2
    return x * share, share + x * _density(np.clip(x, -40, 40))


def _silu(x: Floats) -> Pair:
    s = _logistic(x)
    return x * s, s * (1 + x * (1 - s))


def _mish(x: Floats) -> Pair:
    t, s = np.tanh(np.logaddexp(0, x)), _logistic(x)
    return x * t, t + x * s * (1 - t**2)


def _tanh(x: Floats) -> Pair:
    t = np.tanh(x)
    return t, 1 - t**2


def _tanh_shrink(x: Floats) -> Pair:
    t = np.tanh(x)
    return x - t, t**2


def _sigmoid(x: Floats) -> Pair:
    s = _logistic(x)
    return s, s * (1 - s)


def _log_sigmoid(x: Floats) -> Pair:
    return -np.logaddexp(0, -x), _logistic(-x)


def _softplus(x: Floats) -> Pair:
    return np.logaddexp(0, x), _logistic(x)


def _softsign(x: Floats) -> Pair:
    size = 1 + np.abs(x)
    return x / size, 1 / size**2


def _exponential(x: Floats) -> Pair:
    value = np.exp(_clip(x))
    return value, value


def _squareplus(x: Floats) -> Pair:
    root = np.hypot(x, 2.0)
    return (x + root) / 2, (1 + x / root) / 2


def _ramp(low: float, high: float, bottom: float, top: float) -> Callable[[Floats], Pair]:
    """From `bottom` at `low` straight to `top` at `high`, flat outside."""
    slope = (top - bottom) / (high - low)

    def phi(x: Floats) -> Pair:
        value = np.clip(bottom + slope * (x - low), bottom, top)
        return value, np.where((x > low) & (x < high), slope, 0.0)

    return phi


def _hard_silu(x: Floats) -> Pair:
    gate = np.clip(x / 6 + 0.5, 0, 1)
    return x * gate, gate + x * np.where(np.abs(x) < 3, 1 / 6, 0.0)


def _hard_shrink(x: Floats, threshold: float) -> Pair:
    outside = np.abs(x) > threshold
    return np.where(outside, x, 0.0), outside.astype(float)


def _soft_shrink(x: Floats, threshold: float) -> Pair:
    outside = np.abs(x) > threshold
    return np.where(outside, x - np.sign(x) * threshold, 0.0), outside.astype(float)


def _threshold(x: Floats, threshold: float, default: float) -> Pair:
    above = x > threshold
    return np.where(above, x, default), above.astype(float)


def _sparse_plus(x: Floats) -> Pair:
    inner = np.square(np.clip(x, -1, 1) + 1) / 4
    return np.where(x < 1, inner, x), np.where(x < 1, (np.clip(x, -1, 1) + 1) / 2, 1.0)


#: φ and φ′ of every pointwise curve, as keras.activations defines them.
CURVES: Mapping[str, Callable[..., Pair]] = {
    "linear": lambda x: (x, np.ones_like(x)),
    "relu": _relu,
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "tanh": _tanh,
    "tanh_shrink": _tanh_shrink,
    "hard_tanh": _ramp(-1, 1, -1, 1),
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "threshold": _threshold,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _ramp(-3, 3, 0, 1),
    "hard_silu": _hard_silu,
    "log_sigmoid": _log_sigmoid,
    "sparse_sigmoid": _ramp(-1, 1, 0, 1),
    "sparse_plus": _sparse_plus,
    "squareplus": _squareplus,
    "softplus": _softplus,
    "softsign": _softsign,
    "exponential": _exponential,
}
KINKS: Mapping[str, tuple[float, ...]] = {
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_silu": (-3.0, 3.0),
    "sparse_sigmoid": (-1.0, 1.0),
    "sparse_plus": (-1.0, 1.0),
}
