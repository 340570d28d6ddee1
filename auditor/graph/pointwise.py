"""Pointwise functions that are no activations: single operations, and several taken together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from auditor.graph.activations import Floats, Pointwise
from auditor.graph.dimensions import number
from auditor.graph.error_function import erf
from auditor.graph.layer_graph import LayerCall

Pair = tuple[Floats, Floats]


@dataclass(frozen=True)
class Operation:
    """An elementwise operation with its constants."""

    name: str
    parameters: tuple[float, ...] = ()

    def __call__(self, x: Floats) -> Pair:
        """φ(x) and φ′(x), elementwise."""
        return OPERATIONS[self.name](x, *self.parameters)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where φ or φ′ jumps, zero apart."""
        return tuple(point for point in self.parameters if math.isfinite(point))


@dataclass(frozen=True)
class Joint:
    """Several functions of one value, added with weights, multiplied, or the largest of them."""

    how: str
    parts: tuple[Pointwise, ...]
    weights: tuple[float, ...]

    def __call__(self, x: Floats) -> Pair:
        """φ(x) and φ′(x), elementwise."""
        values, slopes = zip(*(part(x) for part in self.parts), strict=True)
        value, slope = np.asarray(values), np.asarray(slopes)
        scale = np.reshape(np.array(self.weights), (-1,) + (1,) * x.ndim)
        value, slope = value * scale, slope * scale
        if self.how == "sum":
            return value.sum(axis=0), slope.sum(axis=0)
        if self.how == "product":
            others = [
                slope[place] * np.prod(np.delete(value, place, axis=0), axis=0)
                for place in range(len(value))
            ]
            return np.prod(value, axis=0), np.sum(others, axis=0)
        chosen = value.argmax(axis=0)[None]
        return (
            np.take_along_axis(value, chosen, axis=0)[0],
            np.take_along_axis(slope, chosen, axis=0)[0],
        )

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where φ or φ′ jumps, zero apart; not those where the largest changes."""
        return tuple(sorted({kink for part in self.parts for kink in part.kinks}))


@dataclass(frozen=True)
class After:
    """One function after another."""

    outer: Pointwise
    inner: Pointwise

    def __call__(self, x: Floats) -> Pair:
        """φ(x) and φ′(x), elementwise."""
        middle, inner = self.inner(x)
        value, outer = self.outer(middle)
        return value, outer * inner

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where the inner function's value or slope jumps, zero apart."""
        return self.inner.kinks


def operation(call: LayerCall) -> Operation | None:
    """The function an elementwise call applies, if it is smooth enough for a Gaussian's moments.

    Not so are those with a pole or an edge of their domain at zero: log, sqrt, 1/x.
    """
    name = NAMES.get(call.kind)
    if name is not None:
        return Operation(name)
    match call.kind:
        case "Clip":
            low = number(call.config.get("x_min", call.config.get("min")))
            high = number(call.config.get("x_max", call.config.get("max")))
            return Operation(
                "clip", (-math.inf if low is None else low, math.inf if high is None else high)
            )
        case "Maximum" | "Minimum":
            bound = _constant(call)
            if bound is None:
                return None
            limits = (bound, math.inf) if call.kind == "Maximum" else (-math.inf, bound)
            return Operation("clip", limits)
        case "Power" | "Pow" if _exponent(call) == 2.0:
            return Operation("square")
    return None


def _constant(call: LayerCall) -> float | None:
    arguments = call.config.get("arguments")
    if not isinstance(arguments, (list, tuple)):
        return None
    known = [found for argument in arguments[:2] if (found := number(_plain(argument))) is not None]
    return known[0] if len(known) == 1 else None


def _exponent(call: LayerCall) -> float | None:
    arguments = call.config.get("arguments")
    if isinstance(arguments, (list, tuple)) and len(arguments) == 2 and arguments[0] is None:
        return number(_plain(arguments[1]))
    return number(_plain(call.config.get("Y")))


def _plain(value: object) -> object:
    """The number of a stored scalar."""
    if isinstance(value, Mapping):
        settings = value.get("config")
        value = settings.get("value") if isinstance(settings, Mapping) else None
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return value


NAMES: Mapping[str, str] = {
    "Abs": "absolute",
    "Absolute": "absolute",
    "Fabs": "absolute",
    "Square": "square",
    "Sin": "sine",
    "Cos": "cosine",
    "Exp": "exponential",
    "Erf": "erf",
}


def _erf(x: Floats) -> Pair:
    return erf(x), 2 / math.sqrt(math.pi) * np.exp(-np.square(np.clip(x, -30, 30)))


def _exponential(x: Floats) -> Pair:
    value = np.exp(np.clip(x, -700.0, 700.0))
    return value, value


def _clip(x: Floats, low: float, high: float) -> Pair:
    return np.clip(x, low, high), ((x > low) & (x < high)).astype(float)


OPERATIONS: Mapping[str, Callable[..., Pair]] = {
    "absolute": lambda x: (np.abs(x), np.sign(x)),
    "square": lambda x: (x**2, 2 * x),
    "sine": lambda x: (np.sin(x), np.cos(x)),
    "cosine": lambda x: (np.cos(x), -np.sin(x)),
    "exponential": _exponential,
    "erf": _erf,
    "clip": _clip,
}
