"""Output shapes of operations that split a tensor, and of those that join several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from auditor.formats.keras_operands import Operands
from auditor.formats.keras_shapes_rearranging import OperandRule, place_of, with_size
from auditor.formats.shape_arithmetic import UNKNOWN, Shapes, broadcast, concatenated, elements
from auditor.formats.untrusted import integer, integers

#: More parts of one tensor than this are not believed.
MOST_PARTS = 10_000


def _split(call: Operands, axis: int | None) -> Shapes:
    """Equal parts, as even as they come where the size is no multiple, or parts between cuts."""
    given, parts = call.first, call.setting("indices_or_sections", 1)
    place = place_of(axis, len(given))
    if place is None:
        return UNKNOWN
    size, count = given[place], integer(parts)
    if count is not None:
        if not 0 < count <= MOST_PARTS:
            return UNKNOWN
        if not isinstance(size, int):
            return (with_size(given, place, None),) * count
        even, left = divmod(size, count)
        return tuple(with_size(given, place, even + (part < left)) for part in range(count))
    cuts = integers(parts)
    if cuts is None or len(cuts) > MOST_PARTS:
        return UNKNOWN
    if not isinstance(size, int):
        return (with_size(given, place, None),) * (len(cuts) + 1)
    edges = [0, *(len(range(size)[:cut]) for cut in cuts), size]
    return tuple(with_size(given, place, max(end - start, 0)) for start, end in pairwise(edges))


def _unstack(call: Operands) -> Shapes:
    place = place_of(call.integer("axis"), len(call.first))
    if place is None:
        return UNKNOWN
    count = call.first[place] if call.integer("num") is None else call.integer("num")
    if not isinstance(count, int) or not 0 <= count <= MOST_PARTS:
        return UNKNOWN
    return ((*call.first[:place], *call.first[place + 1 :]),) * count


def _stack(call: Operands) -> Shapes:
    whole, axis = broadcast(call.shapes), call.integer("axis")
    if whole is None or axis is None or not -len(whole) - 1 <= axis <= len(whole):
        return UNKNOWN
    place = axis % (len(whole) + 1)
    return ((*whole[:place], len(call.shapes), *whole[place:]),)


def _concatenate(call: Operands) -> Shapes:
    axis = call.integer("axis")
    return (concatenated(call.shapes, -1 if axis is None else axis),)


def _along(axis: int, least: int) -> OperandRule:
    """Concatenation along an axis of tensors that have at least so many."""

    def rule(call: Operands) -> Shapes:
        if any(given is None or len(given) < least for given in call.shapes):
            return UNKNOWN
        return (concatenated(call.shapes, axis),)

    return rule


def _append(call: Operands) -> Shapes:
    if call.setting("axis") is not None:
        return _concatenate(call)
    sizes = [None if given is None else elements(given) for given in call.shapes[:2]]
    known = [size for size in sizes if size is not None]
    return ((sum(known) if len(known) == len(sizes) else None,),)


def _entries() -> Iterator[tuple[str, OperandRule]]:
    yield "Split", lambda call: _split(call, call.integer("axis"))
    yield "ArraySplit", lambda call: _split(call, call.integer("axis"))
    yield "Vsplit", lambda call: _split(call, 0)
    yield "Hsplit", lambda call: _split(call, 0 if len(call.first) == 1 else 1)
    yield "Dsplit", lambda call: _split(call, 2)
    yield "Unstack", _unstack
    yield "Stack", _stack
    yield "Concatenate", _concatenate
    yield "Hstack", _along(1, 2)
    yield "Vstack", _along(0, 2)
    yield "Dstack", _along(2, 3)
    yield "Append", _append


PARTS: Mapping[str, OperandRule] = dict(_entries())
