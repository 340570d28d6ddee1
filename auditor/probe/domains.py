"""What values an input takes, read off what the model does with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import InputSpec, LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS, Op

Array = np.ndarray[Any, Any]

#: Calls an input goes through unchanged on its way to the call that says what it holds.
PASSING_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.CAST, Op.IDENTITY, Op.STACK, Op.CONCATENATE}
#: A Rescaling that shrinks by more than this takes bytes, one that does not takes what it is given.
BYTE_SCALE = 0.05


class Domain(Protocol):
    """A law that values of an input are drawn from."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        ...

    def describe(self) -> str:
        """The law in words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Normal values. `mean` and `deviation` are numbers or broadcast over the last axes."""

    mean: Any = 0.0
    deviation: Any = 1.0
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return np.asarray(self.mean + self.deviation * rng.standard_normal(shape))

    def describe(self) -> str:
        """The law in words."""
        return f"normal{self.because}" if self.because else "standard normal"


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Values evenly between `low` and `high`."""

    low: float
    high: float
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return rng.uniform(self.low, self.high, shape)

    def describe(self) -> str:
        """The law in words."""
        return f"uniform from {self.low:g} to {self.high:g}{self.because}"


@dataclass(frozen=True, kw_only=True)
class Ids:
    """Whole numbers from `low` up to, not including, `end`."""

    low: int
    end: int
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return rng.integers(self.low, max(self.end, self.low + 1), shape)

    def describe(self) -> str:
        """The law in words."""
        return f"whole numbers from {self.low} to {max(self.end, self.low + 1) - 1}{self.because}"


@dataclass(frozen=True, kw_only=True)
class Mask:
    """True for four in five, and always for the first of the last axis: no sample is all masked."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        drawn = rng.random(shape) < 0.8
        drawn[..., :1] = True
        return drawn

    def describe(self) -> str:
        """The law in words."""
        return "a mask, true for four in five"


def domain_of(graph: LayerGraph, spec: InputSpec) -> Domain:
    """The values an input takes.

    Raises `ProbeFailed` for inputs that numbers cannot be drawn for, such as text.
    """
    if spec.dtype == "string":
        raise ProbeFailed(
            f"input {spec.name!r} takes text, and a gradient needs numbers: probe the part of the "
            "model behind the text processing"
        )
    if spec.dtype == "bool":
        return Mask()
    rows = lookup_of(graph, spec)
    if rows is not None:
        return rows
    consumers = _consumers(graph, spec.call)
    if spec.dtype.startswith(("int", "uint")):
        return _whole_numbers(spec, consumers)
    for call in consumers:
        scaled = _scaled(call, spec)
        if scaled is not None:
            return scaled
    return Normal()


def lookup_of(graph: LayerGraph, spec: InputSpec) -> Ids | None:
    """The rows an input may look up, of the smallest table it goes to; None if it goes to none."""
    lookups = [ids for ids in map(_lookup, _consumers(graph, spec.call)) if ids is not None]
    return min(lookups, key=lambda ids: ids.end, default=None)


def _consumers(graph: LayerGraph, call_id: str) -> tuple[LayerCall, ...]:
    """The calls that take an input's values as they are, through calls that only pass them on."""
    found: dict[str, LayerCall] = {}
    pending = [call_id]
    seen: set[str] = set()
    while pending:
        current = pending.pop()
        if current in seen or current not in graph.by_id:
            continue
        seen.add(current)
        for successor in graph.successors(current):
            if successor.op in PASSING_OPS:
                pending.append(successor.id)
            else:
                found[successor.id] = successor
    return tuple(call for call in graph.calls if call.id in found)


def _lookup(call: LayerCall) -> Ids | None:
    """The numbers a lookup can take."""
    if call.op is Op.EMBEDDING:
        table = call.weight("embeddings")
        size = call.config.get("input_dim", table.shape[0] if table else None)
        if isinstance(size, int):
            padded = bool(call.config.get("mask_zero", False)) and size > 1
            words = " (0 is padding)" if padded else ""
            return Ids(low=int(padded), end=size, because=f": the rows of {call.id}{words}")
    if call.kind == "CategoryEncoding" and isinstance(call.config.get("num_tokens"), int):
        return Ids(low=0, end=call.config["num_tokens"], because=f": the tokens of {call.id}")
    return None


def _whole_numbers(spec: InputSpec, consumers: tuple[LayerCall, ...]) -> Domain:
    """Whole numbers for an integer input that no Embedding takes directly."""
    if spec.dtype == "uint8":
        return Ids(low=0, end=256, because=": bytes")
    tables = [
        weight.shape[0]
        for call in consumers
        if call.op is Op.OPAQUE
        for weight in call.weights
        if len(weight.shape) == 2
    ]
    if tables:
        return Ids(low=0, end=min(tables), because=": the smallest table behind it")
    return Ids(low=0, end=2, because=": nothing says how far they go")


def _scaled(call: LayerCall, spec: InputSpec) -> Domain | None:
    """What a Rescaling or Normalization brings to a usual range."""
    if call.op is not Op.SCALE:
        return None
    if call.kind == "Rescaling":
        scale = call.config.get("scale")
        largest = max(map(abs, scale)) if isinstance(scale, (list, tuple)) and scale else scale
        if isinstance(largest, (int, float)) and 0 < abs(largest) < BYTE_SCALE:
            return Uniform(low=0.0, high=255.0, because=f", as {call.id} expects")
    if call.kind == "Normalization":
        moments = _moments(call, spec)
        if moments is not None:
            return Normal(
                mean=moments[0], deviation=moments[1], because=f" with the moments of {call.id}"
            )
    return None


def _moments(call: LayerCall, spec: InputSpec) -> tuple[Any, Any] | None:
    """Mean and standard deviation a Normalization subtracts and divides by, if it can be told."""
    stored: dict[str, Any] = {
        name: value for name, value in _config_moments(call.config).items() if value is not None
    }
    for weight in call.weights:
        name = weight.name.rsplit("/", 1)[-1]
        if name in ("mean", "variance") and weight.read is not None:
            stored.setdefault(name, weight.read())
    if set(stored) != {"mean", "variance"} or call.config.get("invert"):
        return None
    try:
        mean = np.asarray(stored["mean"], np.float64)
        deviation = np.sqrt(np.asarray(stored["variance"], np.float64))
    except (TypeError, ValueError):  # a hand-made configuration
        return None
    finite = bool(np.all(np.isfinite(mean)) and np.all(np.isfinite(deviation)))
    features = spec.shape[-1] if spec.shape else None
    fits = all(moment.size in (1, features) for moment in (mean, deviation))
    return (mean.reshape(-1), deviation.reshape(-1)) if finite and fits else None


def _config_moments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in ("mean", "variance")}
