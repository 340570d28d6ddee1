"""What values an input takes, read off what the model does with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import InputSpec, LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS, Op
from auditor.probe.laws import Bins, Domain, Ids, Listed, Mask, Normal, Uniform, Whole

Array = np.ndarray[Any, Any]

#: Calls an input goes through unchanged on its way to the call that says what it holds.
PASSING_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.CAST, Op.IDENTITY, Op.STACK, Op.CONCATENATE}
#: A Rescaling that shrinks by more than this takes bytes, one that does not takes what it is given.
BYTE_SCALE = 0.05
#: A Rescaling that leaves less than this of the largest byte takes numbers beyond bytes.
BYTE_REST = 0.5
#: Largest numbers of sampled sound, which is signed; pixels and counts are not.
SOUND = (2**15, 2**31)
#: Numbers that are hashed are drawn from so many times as there are bins: each is hit.
HASHED = 8
#: The largest finite number of half precision.
HALF_LARGEST = 65504


@dataclass(frozen=True, kw_only=True)
class _Use:
    """A call that takes an input's values, and the slots it takes them at."""

    call: LayerCall
    slots: frozenset[int]


def domain_of(
    graph: LayerGraph, spec: InputSpec, vocabularies: Mapping[str, Sequence[int]] | None = None
) -> Domain:
    """The values an input takes.

    `vocabularies` are the whole numbers that the lookups of a model know, by layer name, for those
    that learned them: a graph has them only of those that were given them.

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
        return _within(rows, spec)
    uses = _uses(graph, spec.call)
    for use in uses:
        told = _told(use, spec, vocabularies or {})
        if told is not None:
            return _within(told, spec)
    if _is_whole(spec):
        return _whole_numbers(spec, [use.call for use in uses])
    return Normal()


def lookup_of(graph: LayerGraph, spec: InputSpec) -> Ids | None:
    """The rows an input may look up, of the smallest table it goes to; None if it goes to none."""
    lookups = [ids for ids in map(_lookup, _uses(graph, spec.call)) if ids is not None]
    return min(lookups, key=lambda ids: ids.end, default=None)


def _uses(graph: LayerGraph, call_id: str) -> tuple[_Use, ...]:
    """The calls that take an input's values as they are, through calls that only pass them on."""
    slots: dict[str, set[int]] = {}
    pending = [call_id]
    seen: set[str] = set()
    while pending:
        current = pending.pop()
        if current in seen or current not in graph.by_id:
            continue
        seen.add(current)
        for _, successor, edge in graph.digraph.out_edges(current, data=True):
            if graph.by_id[successor].op in PASSING_OPS:
                pending.append(successor)
            else:
                slots.setdefault(successor, set()).add(edge["target_slot"])
    return tuple(
        _Use(call=call, slots=frozenset(slots[call.id])) for call in graph.calls if call.id in slots
    )


def _lookup(use: _Use) -> Ids | None:
    """The numbers a lookup can take."""
    call = use.call
    if 0 not in use.slots:  # weights of tokens, say
        return None
    if call.op is Op.EMBEDDING:
        table = call.weight("embeddings")
        size = call.config.get("input_dim", table.shape[0] if table else None)
        if isinstance(size, int):
            padded = bool(call.config.get("mask_zero", False)) and size > 1
            words = " (0 is padding)" if padded else ""
            return Ids(low=int(padded), end=size, because=f": the rows of {call.id}{words}")
    tokens = {"CategoryEncoding": "num_tokens", "OneHot": "num_classes"}.get(call.kind, "")
    size = call.config.get(tokens)
    if isinstance(size, int):
        return Ids(low=0, end=size, because=f": the tokens of {call.id}")
    return None


def _told(use: _Use, spec: InputSpec, vocabularies: Mapping[str, Sequence[int]]) -> Domain | None:
    """What preprocessing says of the values it takes; None for any other call."""
    call = use.call
    if call.op is Op.SCALE:
        return _rescaled(call, spec) if call.kind == "Rescaling" else _normalized(call, spec)
    if call.kind == "CategoryEncoding" and 0 not in use.slots:
        return Uniform(low=0.0, high=1.0, because=f": the weights of {call.id}")
    if call.kind == "IntegerLookup":
        known = vocabularies.get(call.name) or call.config.get("vocabulary")
        if isinstance(known, Sequence) and known and all(isinstance(v, int) for v in known):
            return Listed(values=tuple(known), because=f": the vocabulary of {call.id}")
    if call.kind in ("Hashing", "HashedCrossing"):
        bins = call.config.get("num_bins")
        if isinstance(bins, int) and bins > 0:
            return Ids(low=0, end=HASHED * bins, because=f": {call.id} takes any")
    if call.kind == "Discretization":
        boundaries = _rising(call.config.get("bin_boundaries"))
        if boundaries:
            return Bins(boundaries=boundaries, because=f" of {call.id}")
    return None


def _rising(boundaries: object) -> tuple[float, ...]:
    """Boundaries of bins as a configuration has them; none where they are not numbers that rise."""
    if not isinstance(boundaries, (list, tuple)):
        return ()
    if not all(isinstance(edge, (int, float)) and math.isfinite(edge) for edge in boundaries):
        return ()
    rising = all(low < high for low, high in pairwise(boundaries))
    return tuple(map(float, boundaries)) if rising else ()


def _whole_numbers(spec: InputSpec, consumers: Sequence[LayerCall]) -> Domain:
    """Whole numbers for an integer input that nothing says the range of."""
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
        return _within(Ids(low=0, end=min(tables), because=": the smallest table behind it"), spec)
    return Ids(low=0, end=2, because=": nothing says how far they go")


def _rescaled(call: LayerCall, spec: InputSpec) -> Domain | None:
    """What a Rescaling brings to a usual range: bytes, sound, or numbers up to its reciprocal."""
    scale, offset = _largest(call.config.get("scale")), call.config.get("offset")
    if scale is None or not 0 < scale < BYTE_SCALE:
        return None
    because = f", as {call.id} expects"
    if spec.dtype == "int8":
        return Uniform(low=-128.0, high=127.0, because=because)
    if 255 * scale >= BYTE_REST:
        return Uniform(low=0.0, high=255.0, because=because)
    if isinstance(offset, (int, float)) and offset < -BYTE_REST:
        return Uniform(low=0.0, high=round(2 / scale), because=because)
    for reach in SOUND:
        if abs(1 / scale - reach) <= 1:
            return Uniform(low=-float(reach), high=reach - 1.0, because=because)
    return Uniform(low=0.0, high=round(1 / scale), because=because)


def _largest(scale: object) -> float | None:
    scales = scale if isinstance(scale, (list, tuple)) else (scale,)
    if not scales or not all(isinstance(one, (int, float)) for one in scales):
        return None
    return float(max(map(abs, scales)))


def _normalized(call: LayerCall, spec: InputSpec) -> Domain | None:
    """What a Normalization brings to mean 0 and variance 1."""
    moments = _moments(call, spec) if call.kind == "Normalization" else None
    if moments is None:
        return None
    mean, deviation = moments
    return Normal(mean=mean, deviation=deviation, because=f" with the moments of {call.id}")


def _moments(call: LayerCall, spec: InputSpec) -> tuple[Array, Array] | None:
    """Mean and standard deviation a Normalization takes away, as they broadcast over a sample.

    None where they cannot be told.
    """
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
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(deviation))):
        return None
    placed = [_over_a_sample(moment, call, spec) for moment in (mean, deviation)]
    return None if placed[0] is None or placed[1] is None else (placed[0], placed[1])


def _over_a_sample(moment: Array, call: LayerCall, spec: InputSpec) -> Array | None:
    """A moment of each place along the call's axes, with axes of 1 for those it is the same along.

    None where it does not fit the input, or a batch of it.
    """
    if moment.size == 1:
        return moment.reshape(())
    shape = spec.shape or ()
    axis = call.config.get("axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    rank = len(call.in_shape or shape)
    if not all(isinstance(one, int) and -rank <= one < rank for one in axes):
        return None
    # Counted from the end, an axis stays what it is where a call on the way adds one in front.
    kept = {(one if one < 0 else one - rank) + len(shape) for one in axes}
    if len(shape) != rank and kept != {len(shape) - 1}:
        return None
    placed = [size if place in kept else 1 for place, size in enumerate(shape)]
    if placed[:1] != [1] or math.prod(size for size in placed if isinstance(size, int)) != (
        moment.size
    ):
        return None
    return moment.reshape([-1 if not isinstance(size, int) else size for size in placed[1:]])


def _config_moments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in ("mean", "variance")}


def _is_whole(spec: InputSpec) -> bool:
    return spec.dtype.startswith(("int", "uint"))


def _within(law: Domain, spec: InputSpec) -> Domain:
    """The law, kept to numbers that the input's dtype has."""
    if isinstance(law, Ids):
        return _rows_within(law, spec)
    if _is_whole(spec):
        limits = np.iinfo(spec.dtype)
        if isinstance(law, Listed):
            held = tuple(v for v in law.values if limits.min <= v <= limits.max)
            return Listed(values=held or (0,), because=law.because)
        return Whole(law=law, least=int(limits.min), most=int(limits.max))
    if spec.dtype == "float16" and isinstance(law, Uniform):
        low, high = max(law.low, -HALF_LARGEST), min(law.high, HALF_LARGEST)
        return Uniform(low=low, high=high, because=law.because)
    return law


def _rows_within(rows: Ids, spec: InputSpec) -> Ids:
    if not _is_whole(spec):
        return rows
    return Ids(low=rows.low, end=min(rows.end, np.iinfo(spec.dtype).max + 1), because=rows.because)
