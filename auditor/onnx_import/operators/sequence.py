"""Sequences and optionals: lists, and values that may be None."""

from __future__ import annotations

import numpy as np
from keras import ops

from auditor.onnx_import.operators.table import Node, Unsupported, Value, is_known, known, operator


@operator("SequenceConstruct")
def sequence_construct(node: Node, *elements: Value) -> Value:
    """A sequence of the inputs."""
    return (list(elements),)


@operator("SequenceAt", note="the position is known before the model runs")
def sequence_at(node: Node, sequence: Value, position: Value) -> Value:
    """The element at a position; negative ones count from the end."""
    elements = _elements(sequence)
    return elements[_place(position, len(elements), len(elements) - 1)]


@operator("SequenceInsert", note="the position is known before the model runs")
def sequence_insert(node: Node, sequence: Value, element: Value, position: Value = None) -> Value:
    """The sequence with another element before a position, or at its end."""
    kept = _elements(sequence)
    place = len(kept) if position is None else _place(position, len(kept), len(kept))
    return ([*kept[:place], element, *kept[place:]],)


@operator("SequenceErase", note="the position is known before the model runs")
def sequence_erase(node: Node, sequence: Value, position: Value = None) -> Value:
    """The sequence without the element at a position, or its last."""
    kept = _elements(sequence)
    place = len(kept) - 1 if position is None else _place(position, len(kept), len(kept) - 1)
    return ([*kept[:place], *kept[place + 1 :]],)


@operator("SequenceLength", differentiable=False)
def sequence_length(node: Node, sequence: Value) -> Value:
    """How many elements there are."""
    return np.asarray(len(_elements(sequence)), np.int64)


@operator("ConcatFromSequence")
def concat_from_sequence(node: Node, sequence: Value) -> Value:
    """The elements joined along an axis, which `new_axis` makes first."""
    axis = int(node.get("axis", 0))
    elements = [_tensor(element) for element in _elements(sequence)]
    joined = ops.stack if node.get("new_axis", 0) else ops.concatenate
    return joined(elements, axis=axis)


@operator("SplitToSequence", note="the sizes are known before the model runs")
def split_to_sequence(node: Node, value: Value, split: Value = None) -> Value:
    """Parts along an axis: of the sizes in `split`, of one size, or single slices."""
    value = _tensor(value)
    axis = int(node.get("axis", 0)) % max(len(value.shape), 1)
    length = value.shape[axis]
    if length is None:
        raise Unsupported("how long the split axis is depends on the model's input")
    if split is None:
        parts = [1] * length
    else:
        asked = known(split, "the split")
        if asked.ndim:
            parts = [int(size) for size in asked]
        else:
            size = int(asked)
            if size < 1:
                raise Unsupported(f"parts of {size}")
            parts = [min(size, length - start) for start in range(0, length, size)]
    if sum(parts) != length or min(parts, default=0) < 0:
        raise Unsupported(f"parts of {parts[:8]} of an axis of {length}")
    ends = np.cumsum(parts)[:-1].tolist()
    pieces = list(ops.split(value, ends, axis=axis)) if len(parts) > 1 else [value] * len(parts)
    if split is None and not node.get("keepdims", 1):
        pieces = [ops.squeeze(piece, axis) for piece in pieces]
    return (pieces,)


@operator("Optional")
def optional(node: Node, value: Value = None) -> Value:
    """The value, or None where there is none."""
    return (value,)


@operator("OptionalGetElement")
def optional_get_element(node: Node, value: Value) -> Value:
    """What an optional holds."""
    if value is None:
        raise Unsupported("the optional is empty")
    return (value,)


@operator("OptionalHasElement", differentiable=False)
def optional_has_element(node: Node, value: Value = None) -> Value:
    """Whether an optional holds anything."""
    return np.asarray(value is not None)


def _elements(sequence: Value) -> list[Value]:
    if not isinstance(sequence, (list, tuple)):
        raise Unsupported("what should be a sequence is none")
    return list(sequence)


def _place(position: Value, length: int, last: int) -> int:
    """A position as an index from 0 to `last`; negative ones count back from the length."""
    place = int(known(position, "the position").reshape(()))
    counted = place + length if place < 0 else place
    if not 0 <= counted <= last:
        raise Unsupported(f"position {place} of a sequence of {length}")
    return counted


def _tensor(value: Value) -> Value:
    return ops.convert_to_tensor(value) if is_known(value) else value
