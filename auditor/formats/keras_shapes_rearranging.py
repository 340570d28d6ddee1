"""Output shapes of operations that move, take, repeat and join elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from auditor.formats.keras_operands import Operands
from auditor.formats.shape_arithmetic import (
    HIGHEST_RANK,
    UNKNOWN,
    Shapes,
    broadcast,
    elements,
    reshaped,
)
from auditor.formats.untrusted import integer, integers, mapping, sequence, text
from auditor.graph.layer_graph import Shape

#: Shapes of all outputs from what a node was called with.
OperandRule = Callable[[Operands], Shapes]
Size = int | str | None


def place_of(axis: int | None, rank: int) -> int | None:
    """An axis counted from the front; None where there is no such axis."""
    return axis % rank if axis is not None and -rank <= axis < rank else None


def _times(size: Size, factor: int) -> int | None:
    return size * factor if isinstance(size, int) else None


def with_size(given: Shape, place: int, size: Size) -> Shape:
    """A shape with another size at one place."""
    return (*given[:place], size, *given[place + 1 :])


def _on_axis(key: str, change: Callable[[Operands, Size], Size]) -> OperandRule:
    """A rule that changes the size of one axis and leaves the others."""

    def rule(call: Operands) -> Shapes:
        place = place_of(call.integer(key), len(call.first))
        if place is None:
            return UNKNOWN
        return (with_size(call.first, place, change(call, call.first[place])),)

    return rule


def _reshape(call: Operands) -> Shapes:
    target = call.integers("newshape", 1)
    return UNKNOWN if target is None else (reshaped(call.first, target),)


def _broadcast_to(call: Operands) -> Shapes:
    return (call.integers("shape", 1),)


def _expand_dims(call: Operands) -> Shapes:
    axes = call.integers("axis", 1)
    if axes is None:
        return UNKNOWN
    rank = len(call.first) + len(axes)
    if not all(-rank <= axis < rank for axis in axes):
        return UNKNOWN
    places, rest = {axis % rank for axis in axes}, iter(call.first)
    return (tuple(1 if place in places else next(rest, 1) for place in range(rank)),)


def _squeeze(call: Operands) -> Shapes:
    given, axis = call.first, call.setting("axis", 1)
    if axis is None:
        return (tuple(size for size in given if size != 1),)
    axes = integers(axis)
    if axes is None or not all(-len(given) <= place < len(given) for place in axes):
        return UNKNOWN
    places = {place % len(given) for place in axes}
    return (tuple(size for place, size in enumerate(given) if place not in places),)


def _transpose(call: Operands) -> Shapes:
    given, axes = call.first, call.integers("axes", 1)
    if axes is None:
        return (given[::-1],)
    if len(axes) != len(given) or not all(-len(given) <= axis < len(given) for axis in axes):
        return UNKNOWN
    return (tuple(given[axis] for axis in axes),)


def _swapped(given: Shape, first: int | None, second: int | None) -> Shapes:
    left, right = place_of(first, len(given)), place_of(second, len(given))
    if left is None or right is None:
        return UNKNOWN
    return (with_size(with_size(given, left, given[right]), right, given[left]),)


def _swapaxes(call: Operands) -> Shapes:
    return _swapped(call.first, call.integer("axis1", 1), call.integer("axis2", 2))


def _rot90(call: Operands) -> Shapes:
    axes, turns = call.integers("axes") or (0, 1), call.integer("k")
    if turns is not None and turns % 2 == 0:
        return (call.first,)
    return _swapped(call.first, axes[0], axes[-1])


def _moveaxis(call: Operands) -> Shapes:
    given, rank = call.first, len(call.first)
    sources, targets = call.integers("source", 1), call.integers("destination", 2)
    if sources is None or targets is None or len(sources) != len(targets):
        return UNKNOWN
    if not all(-rank <= axis < rank for axis in (*sources, *targets)):
        return UNKNOWN
    moved = {target % rank: source % rank for source, target in zip(sources, targets, strict=True)}
    rest = iter([axis for axis in range(rank) if axis not in moved.values()])
    order = [moved[place] if place in moved else next(rest, 0) for place in range(rank)]
    return (tuple(given[axis] for axis in order),)


def _rearrange(call: Operands) -> Shapes:
    """A pattern as of einops, "b i j -> b (j i)", where no side splits an axis."""
    left, _, right = text(call.setting("pattern", 1)).partition("->")
    names = left.split()
    if len(names) != len(call.first) or not set("()").isdisjoint(left) or "..." in left + right:
        return UNKNOWN
    sizes = dict(zip(names, call.first, strict=True))
    result: list[Size] = []
    group: list[Size] | None = None
    for mark in right.replace("(", " ( ").replace(")", " ) ").split():
        if mark == "(":
            group = []
        elif mark == ")":
            result.append(elements(tuple(group or ())))
            group = None
        elif mark not in sizes and mark != "1":
            return UNKNOWN
        else:
            (result if group is None else group).append(sizes.get(mark, 1))
    return (tuple(result),)


def _get_item(call: Operands) -> Shapes:
    """The shape of x[index]: whole numbers, slices, None for a new axis, one ellipsis."""
    if len(call.inputs) != 1 or len(call.arguments) < 2:
        return UNKNOWN
    given, index = call.first, call.arguments[1]
    entries = index if isinstance(index, list) else [index]
    kinds = [mapping(entry).get("class_name") for entry in entries]
    taken = sum(1 for entry in entries if entry is not None) - kinds.count("__ellipsis__")
    if kinds.count("__ellipsis__") > 1 or taken > len(given):
        return UNKNOWN
    result: list[Size] = []
    place = 0
    for entry, kind in zip(entries, kinds, strict=True):
        if entry is None:
            result.append(1)
        elif kind == "__ellipsis__":
            skipped = len(given) - taken
            result.extend(given[place : place + skipped])
            place += skipped
        elif kind == "__slice__":
            result.append(_sliced(given[place], mapping(entry.get("config"))))
            place += 1
        elif integer(entry) is not None:
            place += 1
        else:
            return UNKNOWN
    return ((*result, *given[place:]),)


def _sliced(size: Size, bounds: Mapping[str, Any]) -> int | None:
    start, stop, step = (bounds.get(key) for key in ("start", "stop", "step"))
    if not isinstance(size, int) or step == 0:
        return None
    if any(bound is not None and integer(bound) is None for bound in (start, stop, step)):
        return None
    return len(range(*slice(integer(start), integer(stop), integer(step)).indices(size)))


def _tile(call: Operands) -> Shapes:
    given, repeats = call.first, call.integers("repeats", 1)
    if repeats is None:
        return UNKNOWN
    rank = max(len(given), len(repeats))
    sizes = (*(1,) * (rank - len(given)), *given)
    factors = (*(1,) * (rank - len(repeats)), *repeats)
    return (tuple(_times(size, factor) for size, factor in zip(sizes, factors, strict=True)),)


def _repeat(call: Operands) -> Shapes:
    count, axis = call.setting("repeats", 1), call.setting("axis")
    given = (elements(call.first),) if axis is None else call.first
    place = place_of(-1 if axis is None else integer(axis), len(given))
    if place is None:
        return UNKNOWN
    many = integers(count)
    if integer(count) is None and many is not None and len(many) > 1:
        return (with_size(given, place, sum(many)),)
    return (with_size(given, place, None if not many else _times(given[place], many[0])),)


def _pad(call: Operands) -> Shapes:
    width = call.setting("pad_width", 1)
    entries = sequence(width)
    single = integers(width, 2)
    if single is not None:
        entries = [list(single)] * len(call.first)
    pairs = [pair for entry in entries if (pair := integers(entry, 2)) is not None]
    if len(pairs) == 1:
        pairs *= len(call.first)
    if len(pairs) != len(call.first):
        return UNKNOWN
    return (
        tuple(
            size + sum(pair) if isinstance(size, int) else None
            for size, pair in zip(call.first, pairs, strict=True)
        ),
    )


def _take(call: Operands) -> Shapes:
    indices = call.shapes[1] if len(call.shapes) > 1 else None
    axis = call.setting("axis")
    given = (elements(call.first),) if axis is None else call.first
    place = place_of(0 if axis is None else integer(axis), len(given))
    if indices is None or place is None:
        return UNKNOWN
    return ((*given[:place], *indices, *given[place + 1 :]),)


def _take_along_axis(call: Operands) -> Shapes:
    given, indices = call.first, call.shapes[1] if len(call.shapes) > 1 else None
    if indices is None or call.setting("axis") is None:
        return (indices,)
    place = place_of(call.integer("axis"), len(given))
    if place is None or len(indices) != len(given):
        return UNKNOWN
    whole = broadcast((with_size(given, place, 1), with_size(indices, place, 1)))
    return UNKNOWN if whole is None else (with_size(whole, place, indices[place]),)


def _top_k(call: Operands) -> Shapes:
    if not call.first:
        return UNKNOWN
    return ((*call.first[:-1], call.integer("k", 1)),) * 2


def _axes(call: Operands) -> tuple[Shape, tuple[Size, Size]] | None:
    """What is left of a tensor without its two axes of a matrix, and their sizes."""
    given = call.first
    first, second = call.integer("axis1"), call.integer("axis2")
    left = place_of(0 if first is None else first, len(given))
    right = place_of(1 if second is None else second, len(given))
    if left is None or right is None or left == right:
        return None
    rest = tuple(size for place, size in enumerate(given) if place not in (left, right))
    return rest, (given[left], given[right])


def _diagonal(call: Operands) -> Shapes:
    found, offset = _axes(call), call.integer("offset") or 0
    if found is None:
        return UNKNOWN
    rest, (rows, columns) = found
    if not isinstance(rows, int) or not isinstance(columns, int):
        return ((*rest, None),)
    length = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    return ((*rest, max(length, 0)),)


def _trace(call: Operands) -> Shapes:
    found = _axes(call)
    return UNKNOWN if found is None else (found[0],)


def _diag(call: Operands) -> Shapes:
    given, offset = call.first, call.integer("k") or 0
    if call.kind == "Diagflat":
        given = (elements(given),)
    if len(given) == 1:
        size = given[0] + abs(offset) if isinstance(given[0], int) else None
        return ((size, size),)
    square = Operands(kind="Diagonal", inputs=(given,), settings={"offset": offset})
    return _diagonal(square) if len(given) == 2 else UNKNOWN


def _meshgrid(call: Operands) -> Shapes:
    sizes = [None if given is None else elements(given) for given in call.shapes]
    if len(sizes) > HIGHEST_RANK:
        return UNKNOWN
    if text(call.settings.get("indexing"), "xy") == "xy" and len(sizes) > 1:
        sizes[:2] = sizes[1::-1]
    return (tuple(sizes),) * len(sizes)


def _nonzero(call: Operands) -> Shapes:
    return ((None,),) * max(len(call.first), 1)


def _spaced(call: Operands) -> Shapes:
    whole, axis = broadcast(call.shapes[:2]), call.integer("axis") or 0
    if whole is None or not -len(whole) - 1 <= axis <= len(whole):
        return UNKNOWN
    place = axis % (len(whole) + 1)
    return ((*whole[:place], call.integer("num", 2), *whole[place:]),)


def _encoded(call: Operands) -> Shapes:
    """One-hot puts an axis of classes in; multi-hot puts it in the place of the last one."""
    given, axis, classes = call.first, call.integer("axis"), call.integer("num_classes", 1)
    if axis is None or axis not in range(-len(given) - 1, len(given) + 1):
        return UNKNOWN
    if call.kind == "MultiHot":
        return ((*given[:-1], classes),) if axis == -1 and given else UNKNOWN
    place = axis % (len(given) + 1)
    return ((*given[:place], classes, *given[place:]),)


def _counted(call: Operands) -> Shapes:
    return ((*call.first[:-1], None),)


def _histogram(call: Operands) -> Shapes:
    bins = call.integer("bins", 1)
    return ((bins,), (None if bins is None else bins + 1,))


def _unravelled(call: Operands) -> Shapes:
    shape = call.integers("shape", 1)
    return UNKNOWN if shape is None else (call.first,) * len(shape)


def _sizes(key: str) -> OperandRule:
    return lambda call: (call.integers(key, 1),)


def _entries() -> Iterator[tuple[str, OperandRule]]:
    yield "Reshape", _reshape
    yield "Ravel", lambda call: ((elements(call.first),),)
    yield "BroadcastTo", _broadcast_to
    yield "ExpandDims", _expand_dims
    yield "Squeeze", _squeeze
    yield "Transpose", _transpose
    yield "Swapaxes", _swapaxes
    yield "Rot90", _rot90
    yield "Moveaxis", _moveaxis
    yield "Rearrange", _rearrange
    yield "GetItem", _get_item
    yield "Slice", _sizes("shape")
    yield "Scatter", _sizes("shape")
    yield "Tile", _tile
    yield "Repeat", _repeat
    yield "Pad", _pad
    yield "Take", _take
    yield "TakeAlongAxis", _take_along_axis
    yield "TopK", _top_k
    yield "Diagonal", _diagonal
    yield "Trace", _trace
    yield "Diag", _diag
    yield "Diagflat", _diag
    yield "Meshgrid", _meshgrid
    yield "Nonzero", _nonzero
    yield "Unique", lambda _: ((None,),)
    yield "Linspace", _spaced
    yield "Logspace", _spaced
    yield "Geomspace", _spaced
    yield "OneHot", _encoded
    yield "MultiHot", _encoded
    yield "Bincount", _counted
    yield "Histogram", _histogram
    yield "UnravelIndex", _unravelled
    yield "Ndim", lambda call: ((len(call.first),),)
    yield "Glu", _on_axis("axis", lambda _, size: size // 2 if isinstance(size, int) else None)
    yield (
        "Diff",
        _on_axis(
            "axis",
            lambda call, size: (
                max(size - (call.integer("n") or 1), 0) if isinstance(size, int) else None
            ),
        ),
    )


REARRANGING: Mapping[str, OperandRule] = dict(_entries())
