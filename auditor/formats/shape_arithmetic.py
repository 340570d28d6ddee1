"""Arithmetic on shapes of which some dimensions are not known."""

from __future__ import annotations

import math

from auditor.graph.layer_graph import Shape

#: Shapes of all inputs, or all outputs, of a call.
Shapes = tuple[Shape | None, ...]
#: The shapes of a call of which nothing is known.
UNKNOWN: Shapes = (None,)
#: Shapes of more axes than this (numpy's bound) are not calculated with.
HIGHEST_RANK = 64


def broadcast(inputs: Shapes) -> Shape | None:
    """The shape that shapes broadcast to; None where they do not, or one is unknown."""
    known = [given for given in inputs if given is not None]
    if len(known) != len(inputs) or not known:
        return None
    rank = max(len(given) for given in known)
    result: list[int | str | None] = []
    for axis in range(-rank, 0):
        sizes = {given[axis] for given in known if -axis <= len(given)} - {1}
        if len(sizes - {None}) > 1:
            return None
        certain = sizes - {None}
        result.append(1 if not sizes else (certain.pop() if certain else None))
    return tuple(result)


def concatenated(inputs: Shapes, axis: int) -> Shape | None:
    """The shape of inputs put together along an axis."""
    known = [given for given in inputs if given is not None]
    if not known or len(known) != len(inputs) or len({len(given) for given in known}) != 1:
        return None
    rank = len(known[0])
    if not -rank <= axis < rank:
        return None
    result: list[int | str | None] = []
    for place in range(rank):
        sizes = [given[place] for given in known]
        numbers = [size for size in sizes if isinstance(size, int)]
        if place == axis % rank:
            result.append(sum(numbers) if len(numbers) == len(sizes) else None)
        else:
            result.append(numbers[0] if numbers else None)
    return tuple(result)


def reshaped(given: Shape, target: tuple[int, ...]) -> Shape:
    """`target` with its -1 settled from the number of elements, where that is known."""
    if -1 not in target or len(target) > HIGHEST_RANK:
        return target
    total, rest = elements(given), math.prod(size for size in target if size != -1)
    free = total // rest if isinstance(total, int) and rest and total % rest == 0 else None
    return tuple(free if size == -1 else size for size in target)


def elements(sizes: Shape) -> int | None:
    """The number of elements of a shape; None where a dimension is not known."""
    if len(sizes) > HIGHEST_RANK or not all(isinstance(size, int) for size in sizes):
        return None
    return math.prod(size for size in sizes if isinstance(size, int))
