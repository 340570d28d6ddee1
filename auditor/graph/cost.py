"""What a model costs to run: multiply-adds, element operations and activation memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auditor.graph.element_operations import element_operations
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.multiply_adds import multiply_adds
from auditor.graph.sample_sizes import CallSizes, UnknownSize, sample_sizes

#: Bits of an element, by dtype.
BITS: Mapping[str, int] = {
    **dict.fromkeys(("bool", "int8", "uint8"), 8),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 8),
    **dict.fromkeys(("float8_e4m3", "float8_e8m0fnu", "float8"), 8),
    **dict.fromkeys(("int2", "uint2"), 2),
    **dict.fromkeys(("int4", "uint4", "float4_e2m1fn", "float4e2m1"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
    **dict.fromkeys(("float32", "int32", "uint32"), 32),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
    "complex128": 128,
}


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """One call, for one sample, as at inference. A field is None where it cannot be told.

    multiply_adds: products added to a sum (`multiply_adds`). element_operations: the rest
    (`element_operations`), in another unit that the first must not be added to. activation_bytes:
    memory of all its outputs. reason: why multiply-adds are not known; empty where they are.
    """

    multiply_adds: int | None
    element_operations: int | None
    activation_bytes: int | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """All calls of a model, and their sums for one sample.

    The sums are over the calls that are known; `uncounted` and `unsized` name the others, without
    multiply-adds or without activation bytes. A layer that is called several times costs each
    time. activation_bytes is the memory of every call's output together: what training keeps when
    no output is recomputed or overwritten in place.
    """

    calls: Mapping[str, CallCost]
    multiply_adds: int
    element_operations: int
    activation_bytes: int
    uncounted: tuple[str, ...]
    unsized: tuple[str, ...]


def model_cost(graph: LayerGraph) -> ModelCost:
    """The cost of a model, from shapes, configuration and the shapes of weights; no value is read.

    Linear in calls and edges.
    """
    known = sample_sizes(graph)
    calls = {call.id: _call_cost(call, known[call.id]) for call in graph.calls}
    return ModelCost(
        calls=calls,
        multiply_adds=sum(cost.multiply_adds or 0 for cost in calls.values()),
        element_operations=sum(cost.element_operations or 0 for cost in calls.values()),
        activation_bytes=sum(cost.activation_bytes or 0 for cost in calls.values()),
        uncounted=tuple(i for i, cost in calls.items() if cost.multiply_adds is None),
        unsized=tuple(i for i, cost in calls.items() if cost.activation_bytes is None),
    )


def _call_cost(call: LayerCall, sizes: CallSizes) -> CallCost:
    products, reason = _counted(multiply_adds, call, sizes)
    elements, _ = _counted(element_operations, call, sizes)
    return CallCost(
        multiply_adds=products,
        element_operations=elements,
        activation_bytes=_activation_bytes(call, sizes),
        reason=reason,
    )


def _counted(
    count: Callable[[LayerCall, CallSizes], int], call: LayerCall, sizes: CallSizes
) -> tuple[int | None, str]:
    try:
        return count(call, sizes), ""
    except UnknownSize as unknown:
        return None, str(unknown)


def _activation_bytes(call: LayerCall, sizes: CallSizes) -> int | None:
    bits = BITS.get(call.dtype)
    outputs = [elements for elements in sizes.outputs if elements is not None]
    if bits is None or not outputs or len(outputs) < len(sizes.outputs):
        return None
    return sum(-(-elements * bits // 8) for elements in outputs)
