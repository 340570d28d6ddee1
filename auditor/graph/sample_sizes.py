"""How many elements the tensors of a model have, for one sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from auditor.graph.dimensions import dimension
from auditor.graph.layer_graph import LayerCall, LayerGraph, Shape
from auditor.graph.operators import Op

#: Give all elements they take, in another shape: where the new first axis is unknown, it follows.
KEEPING_OPS = frozenset({Op.RESHAPE, Op.FLATTEN, Op.PERMUTE})
#: Counted as RESHAPE, but overlapping windows of its input add up.
NOT_KEEPING_KINDS = frozenset({"Col2Im"})


class UnknownSize(ValueError):
    """A size that is not known; the message says which."""


def last_axis(shape: Shape | None) -> int:
    """Size of the last axis. Raises `UnknownSize`."""
    size = dimension(shape, -1)
    if size is None:
        raise UnknownSize("the size of the last axis of an input is not known")
    return size


def whole_quotient(elements: int, width: int) -> int:
    """How many times `width` goes into `elements`. Raises `UnknownSize` where it does not."""
    if width < 1 or elements % width:
        raise UnknownSize("its shapes do not agree with its weights")
    return elements // width


def unseen_steps(call: LayerCall) -> int:
    """Time steps of (batch, steps, …) that a recurrent call's output does not show, else 1.

    Raises `UnknownSize`.
    """
    if call.in_shape is None or call.out_shape is None:
        raise UnknownSize("the size of its output is not known")
    if len(call.out_shape) == len(call.in_shape):
        return 1
    steps = dimension(call.in_shape, 1)
    if steps is None:
        raise UnknownSize("the number of time steps is not known")
    return steps


@dataclass(frozen=True, kw_only=True)
class CallSizes:
    """Elements of a call's inputs and outputs for one sample, None where a size is not known.

    rows: what the first axis of its output stands for where its size is unknown: 1 as a rule, more
    where samples were cut into rows ((batch, 7, 64) reshaped to (7 · batch, 64)); None if unknown.
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    rows: int | None

    def input(self, slot: int) -> int:
        """Elements of an input. Raises `UnknownSize`."""
        found = self.inputs[slot] if slot < len(self.inputs) else None
        if found is None:
            raise UnknownSize("the size of an input is not known")
        return found

    def output(self, slot: int = 0) -> int:
        """Elements of an output. Raises `UnknownSize`."""
        found = self.outputs[slot] if slot < len(self.outputs) else None
        if found is None:
            raise UnknownSize("the size of its output is not known")
        return found


def sample_sizes(graph: LayerGraph) -> Mapping[str, CallSizes]:
    """Sizes for every call, by id. Linear in calls and edges.

    One sample is what one index of the batch stands for: the first axis of the model's inputs. An
    unknown first axis counts as 1, and so does the inputs' named one ("batch") wherever it stands;
    a batch of fixed size is divided out where it divides. Any other unknown axis leaves the size
    unknown.
    """
    symbol, batch = _batch(graph)
    known: dict[str, CallSizes] = {}
    for call in graph.calls:
        sources = [known[source.id] for source in graph.predecessors(call.id)]
        before = [source.rows for source in sources]
        inputs = tuple(
            _elements(shape, symbol, batch, before[slot] if slot < len(before) else 1)
            for slot, shape in enumerate(call.in_shapes)
        )
        rows = _rows(call, symbol, inputs, before)
        outputs = tuple(_elements(shape, symbol, batch, rows) for shape in call.out_shapes)
        if _keeps(call) and inputs and inputs[0] is not None and outputs == (None,):
            outputs = inputs[:1]
        known[call.id] = CallSizes(inputs=inputs, outputs=outputs, rows=rows)
    return known


def _batch(graph: LayerGraph) -> tuple[str | None, int]:
    """The name of the batch axis, if it has one, and its size where it is fixed, else 1."""
    first = {spec.shape[0] for spec in graph.inputs if spec.shape}
    if len(first) != 1:
        return None, 1
    (size,) = first
    if isinstance(size, str):
        return size, 1
    return None, size if isinstance(size, int) and size > 0 else 1


def _rows(
    call: LayerCall, symbol: str | None, inputs: tuple[int | None, ...], before: list[int | None]
) -> int | None:
    if None in before:
        return None
    if not _keeps(call) or not call.out_shape or not _open(call.out_shape, symbol):
        return max((rows for rows in before if rows is not None), default=1)
    rest = _product(call.out_shape[1:], symbol)
    given = inputs[0] if inputs else None
    if rest is None or given is None or rest == 0 or given % rest:
        return None
    return given // rest


def _keeps(call: LayerCall) -> bool:
    return call.op in KEEPING_OPS and call.kind not in NOT_KEEPING_KINDS


def _open(shape: Shape, symbol: str | None) -> bool:
    """Whether the first axis is of unknown size, and not by name the batch."""
    return not isinstance(shape[0], int) and (symbol is None or shape[0] != symbol)


def _elements(shape: Shape | None, symbol: str | None, batch: int, rows: int | None) -> int | None:
    if shape is None:
        return None
    if not shape:
        return 1
    if not isinstance(shape[0], int):
        rest = _product(shape[1:], symbol)
        first = 1 if shape[0] == symbol and symbol is not None else rows
        return None if rest is None or first is None else first * rest
    whole = _product(shape, symbol)
    return None if whole is None else whole // batch if whole % batch == 0 else whole


def _product(axes: Shape, symbol: str | None) -> int | None:
    sizes = [1 if size == symbol and symbol is not None else size for size in axes]
    known = [size for size in sizes if isinstance(size, int) and size >= 0]
    return math.prod(known) if len(known) == len(sizes) else None
