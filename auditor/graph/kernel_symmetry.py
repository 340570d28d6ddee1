"""Kernels whose units are all alike or all zero, as their values or initializers say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.graph.activations import curve
from auditor.graph.initializers import weight_law
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    NORMALIZATION_OPS,
    POOLING_OPS,
    SHAPE_OPS,
    Op,
)
from auditor.graph.paths import only_successor
from auditor.graph.transfer import activation_settings
from auditor.graph.weight import Weight

#: Calls whose units see the same inputs, so that equal weights make equal units.
SYMMETRIC_OPS = frozenset(
    {
        Op.DENSE,
        Op.CONV,
        Op.CONV_TRANSPOSE,
        Op.SEPARABLE_CONV,
        Op.SIMPLE_RNN,
        Op.LSTM,
        Op.GRU,
    }
)
RECURRENT_OPS = frozenset({Op.SIMPLE_RNN, Op.LSTM, Op.GRU})
#: Treat all units alike, so that a symmetry passes through. Dropout in training does not.
EVEN_OPS = (
    SHAPE_OPS
    | POOLING_OPS
    | NORMALIZATION_OPS
    | {Op.ACTIVATION, Op.IDENTITY, Op.CAST, Op.SCALE, Op.REGULARIZATION}
)


@dataclass(frozen=True, kw_only=True)
class KernelSymmetry:
    """What is degenerate about a call's kernel and bias.

    zero: all kernel values are zero. alike: all units (two or more) have the same incoming weights
    and the same bias. level: every unit gives all of its inputs one and the same weight, so that
    it cannot tell them apart. bias: largest bias, 0 where there is none.
    """

    zero: bool
    alike: bool
    level: bool
    bias: float


def kernel_symmetry(graph: LayerGraph, call: LayerCall) -> KernelSymmetry | None:
    """The symmetry of the call's kernel.

    None where values and initializer are both unknown, or where the kernel is not one whose units
    see the same inputs.
    """
    if call.op not in SYMMETRIC_OPS or call.config.get("groups", 1) not in (1, None):
        return None
    role = "pointwise_kernel" if call.op is Op.SEPARABLE_CONV else "kernel"
    kernel = _degeneracy(graph, call, role)
    if kernel is None:
        return None
    zero, alike, level = kernel
    if call.op in RECURRENT_OPS:
        recurrent = _degeneracy(graph, call, "recurrent_kernel")
        # A recurrent kernel that tells units apart breaks the symmetry of the other.
        alike = alike and recurrent is not None and recurrent[1] and recurrent[2]
    bias, even = _bias(graph, call)
    return KernelSymmetry(zero=zero, alike=alike and even, level=level, bias=bias)


def _degeneracy(graph: LayerGraph, call: LayerCall, role: str) -> tuple[bool, bool, bool] | None:
    """(zero, all units alike, every unit level) of the weight of this role."""
    found = _weight(call, role)
    if found is None:
        return None
    index, weight = found
    units = 1
    for axis in weight.unit_axes:
        if not -len(weight.shape) <= axis < len(weight.shape):
            return None
        units *= weight.shape[axis]
    seen = graph.weight_statistics.get((call.layer, index))
    if seen is not None:
        return seen.zero, seen.identical_units, seen.constant_units or seen.low == seen.high
    law = weight_law(weight.initializer, weight.shape) if weight.initializer is not None else None
    if law is None:
        return None
    flat = law.low == law.high
    return flat and law.low == 0, flat and units > 1, flat


def _bias(graph: LayerGraph, call: LayerCall) -> tuple[float, bool]:
    """(largest bias, whether all are equal)."""
    found = _weight(call, "bias")
    if found is None:
        return 0.0, True
    index, weight = found
    seen = graph.weight_statistics.get((call.layer, index))
    if seen is not None:
        return seen.high, seen.low == seen.high
    law = weight_law(weight.initializer, weight.shape) if weight.initializer is not None else None
    return (law.high, law.low == law.high) if law is not None else (0.0, True)


def _weight(call: LayerCall, role: str) -> tuple[int, Weight] | None:
    return next(
        ((index, weight) for index, weight in enumerate(call.weights) if weight.role == role), None
    )


def readers(
    graph: LayerGraph, call: LayerCall, *, masked: bool = False
) -> tuple[LayerCall, ...] | None:
    """The next calls with kernels, where all between treats this call's units alike.

    None when something else comes between, or the call's output leaves the model. `masked` lets
    dropout between them pass, which keeps zeros zero but tells units apart.
    """
    outputs = {call_id for call_id, _ in graph.outputs}
    even = EVEN_OPS | {Op.DROPOUT} if masked else EVEN_OPS
    found: dict[str, LayerCall] = {}
    pending = [call]
    while pending:
        step = pending.pop()
        if step.id in outputs:
            return None
        for successor in graph.successors(step.id):
            if successor.op in SYMMETRIC_OPS:
                found[successor.id] = successor
            elif successor.op in even:
                pending.append(successor)
            else:
                return None
    return tuple(found.values())


def dead_at_start(graph: LayerGraph, call: LayerCall, bias: float) -> bool:
    """Whether a kernel of zeros leaves the activation that follows flat, so no gradient returns.

    `bias` is the call's largest: with a kernel of zeros, the largest value the activation sees.
    """
    step: LayerCall | None = call
    while step is not None and step.activation is None:
        step = only_successor(graph, step)
        if step is not None and step.op not in EVEN_OPS | {Op.DROPOUT}:
            return False
        if step is not None and step.op in NORMALIZATION_OPS:
            bias = 0.0  # what is constant is normalized to zero
    if step is None or step.op in RECURRENT_OPS:
        return False
    phi = curve(step.activation, activation_settings(step))
    if phi is None:
        return False
    # At its very kink ReLU has no slope in the frameworks: just below it, then.
    _, slope = phi(np.array([bias - 1e-9]))
    return bool(slope[0] == 0)
