"""Output shapes of `keras.ops` nodes that stand last in a model, where no file records them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auditor.formats.keras_layers import SAME_SHAPE_OPS
from auditor.formats.keras_model import LayerConfig, Node
from auditor.formats.shape_arithmetic import (
    UNKNOWN,
    Shapes,
    broadcast,
    concatenated,
    reshaped,
)
from auditor.formats.untrusted import flag, integer, integers, mapping
from auditor.graph.layer_graph import Shape
from auditor.graph.operators import Op

_BROADCASTING = frozenset(
    {Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.DIVIDE, Op.MAXIMUM, Op.MINIMUM, Op.WHERE}
)


def infer_operation(layer: LayerConfig, op: Op, inputs: Shapes, node: Node | None) -> Shapes:
    """Shapes of a node's outputs; `(None,)` where they are not known."""
    given = inputs[0]
    arguments = () if node is None else node.arguments
    settings: dict[str, Any] = {**layer.config, **({} if node is None else node.keywords)}
    if given is None:
        return UNKNOWN
    if op in SAME_SHAPE_OPS and len(inputs) == 1 and _scalars(arguments, node):
        return (given,)
    if op in _BROADCASTING and len(inputs) > 1:
        return (broadcast(inputs),)
    if op is Op.CONCATENATE and layer.kind == "Concatenate":
        axis = integer(settings.get("axis"))
        return (concatenated(inputs, -1 if axis is None else axis),)
    if op is Op.REDUCE:
        return (_reduced(given, settings),)
    if layer.kind == "Reshape":
        target = integers(settings.get("newshape"))
        if target is None and len(arguments) > 1:
            target = integers(arguments[1])
        return UNKNOWN if target is None else (reshaped(given, target),)
    if layer.kind == "ExpandDims":
        return (_inserted(given, settings.get("axis"), 1),)
    if layer.kind == "Transpose":
        axes = integers(settings.get("axes"))
        if axes is None:
            return (given[::-1],)
        return (tuple(given[a] for a in axes),) if _valid(axes, len(given)) else UNKNOWN
    if layer.kind == "GetItem" and len(inputs) == 1 and len(arguments) > 1:
        return (_indexed(given, arguments[1]),)
    if layer.kind == "Squeeze":
        return (_squeezed(given, settings.get("axis")),)
    if layer.kind == "Stack":
        whole = broadcast(inputs)
        return UNKNOWN if whole is None else (_inserted(whole, settings.get("axis"), len(inputs)),)
    if layer.kind == "Split":
        return _split(given, settings)
    if layer.kind == "Matmul" and len(inputs) == 2 and inputs[1] is not None:
        return (_product(given, inputs[1]),)
    return UNKNOWN


def _scalars(arguments: tuple[Any, ...], node: Node | None) -> bool:
    """Whether all that is given beside the tensor is a number or a setting, so cannot broadcast."""
    extras = [*arguments, *(() if node is None else node.keywords.values())]
    return not any(isinstance(mapping(extra).get("config"), dict) for extra in extras)


def _valid(axes: tuple[int, ...], rank: int) -> bool:
    return all(-rank <= axis < rank for axis in axes)


def _reduced(given: Shape, settings: dict[str, Any]) -> Shape | None:
    keep = flag(settings.get("keepdims"), False)
    axis = settings.get("axis")
    axes = tuple(range(len(given))) if axis is None else integers(axis)
    if axes is None or not _valid(axes, len(given)):
        return None
    places = {place % len(given) for place in axes} if given else set()
    kept = [(1 if p in places else size) for p, size in enumerate(given) if keep or p not in places]
    return tuple(kept)


def _inserted(given: Shape, axis: object, size: int) -> Shape | None:
    axes = integers(axis)
    if axes is None or len(axes) != 1:
        return None
    place = axes[0] if axes[0] >= 0 else len(given) + 1 + axes[0]
    return (*given[:place], size, *given[place:]) if 0 <= place <= len(given) else None


def _squeezed(given: Shape, axis: object) -> Shape | None:
    if axis is None:
        return tuple(size for size in given if size != 1)
    axes = integers(axis)
    if axes is None or not _valid(axes, len(given)):
        return None
    places = {place % len(given) for place in axes}
    return tuple(size for place, size in enumerate(given) if place not in places)


def _indexed(given: Shape, index: object) -> Shape | None:
    """The shape of x[index]: whole numbers, slices, None for a new axis, one ellipsis."""
    entries = index if isinstance(index, list) else [index]
    kinds = [mapping(entry).get("class_name") for entry in entries]
    taken = sum(1 for entry in entries if entry is not None) - kinds.count("__ellipsis__")
    if kinds.count("__ellipsis__") > 1 or taken > len(given):
        return None
    result: list[int | str | None] = []
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
            return None
    return (*result, *given[place:])


def _split(given: Shape, settings: dict[str, Any]) -> Shapes:
    count, axis = integer(settings.get("indices_or_sections")), integer(settings.get("axis"))
    if count is None or axis is None or not _valid((axis,), len(given)) or not 0 < count < 1000:
        return UNKNOWN
    size = given[axis]
    part = size // count if isinstance(size, int) else None
    place = axis % len(given)
    return ((*given[:place], part, *given[place + 1 :]),) * count


def _sliced(size: int | str | None, bounds: Mapping[str, Any]) -> int | None:
    start, stop, step = (bounds.get(key) for key in ("start", "stop", "step"))
    if not isinstance(size, int) or step == 0:
        return None
    if any(bound is not None and integer(bound) is None for bound in (start, stop, step)):
        return None
    return len(range(*slice(integer(start), integer(stop), integer(step)).indices(size)))


def _product(left: Shape, right: Shape) -> Shape | None:
    if len(left) < 2 or len(right) < 2:
        return None
    batch = broadcast((left[:-2], right[:-2])) if left[:-2] or right[:-2] else ()
    return None if batch is None else (*batch, left[-2], right[-1])
