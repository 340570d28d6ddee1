"""How much an attention call attends to: positions, pairs of them, and widths of the heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.graph.dimensions import dimension, sizes
from auditor.graph.layer_graph import LayerCall, Shape
from auditor.graph.operators import Op
from auditor.graph.sample_sizes import CallSizes, UnknownSize, last_axis, whole_quotient
from auditor.graph.weight import Weight


@dataclass(frozen=True, kw_only=True)
class AttentionSizes:
    """Sizes for one sample.

    queries, keys, values: positions of each. pairs: of a query and a key that meet, over all
    heads. width, value_width: of one head.
    """

    queries: int
    keys: int
    values: int
    pairs: int
    width: int
    value_width: int

    @property
    def multiply_adds(self) -> int:
        """Scores and weighted values: pairs × (d + d_v) (Vaswani et al. 2017, equation 1)."""
        return self.pairs * (self.width + self.value_width)


def attention_sizes(call: LayerCall, call_sizes: CallSizes) -> AttentionSizes:
    """Sizes of a call of operator ATTENTION or DOT_ATTENTION. Raises `UnknownSize`."""
    if call.op is Op.ATTENTION:
        return _projected(call, call_sizes)
    if call.kind in ("LinearAttention", "FlexAttention") or len(call.in_shapes) > 4:
        raise UnknownSize(f"this form of {call.kind} is not counted")
    return _given(call, call_sizes)


def projection(call: LayerCall, part: str) -> Weight:
    """The kernel (width, heads, width of a head) that makes `part`; of the output the other way."""
    kernel = call.weight(f"{part}_kernel")
    if kernel is None or len(kernel.shape) != 3:
        raise UnknownSize("the shapes of its projections are not known")
    return kernel


def _projected(call: LayerCall, call_sizes: CallSizes) -> AttentionSizes:
    kernels = {part: projection(call, part) for part in ("query", "key", "value")}
    slots = {"query": 0, "key": min(len(call.in_shapes) - 1, 1)}
    slots["value"] = slots["key"]
    # A third input is the keys; or a mask, which has no features.
    if len(call.in_shapes) > 2 and last_axis(call.in_shapes[2]) == kernels["key"].shape[0]:
        slots["key"] = 2
    queries, keys, values = (
        whole_quotient(call_sizes.input(slots[part]), kernel.shape[0])
        for part, kernel in kernels.items()
    )
    _, heads, width = kernels["query"].shape
    pairs = queries * keys
    axes = call.config.get("attention_axes")
    if isinstance(axes, (list, tuple)):
        # Along the axes not named it is done for each index by itself.
        along, behind = (_product(call.in_shapes[slots[part]], axes) for part in ("query", "key"))
        pairs = whole_quotient(queries, along) * along * behind
    return AttentionSizes(
        queries=queries,
        keys=keys,
        values=values,
        pairs=heads * pairs,
        width=width,
        value_width=kernels["value"].shape[2],
    )


def _given(call: LayerCall, call_sizes: CallSizes) -> AttentionSizes:
    """Attention of given tensors: (…, positions, width) as a rule.

    Keras' layers take value before key, everything else key before value. The Keras operation has
    (batch, positions, heads, width); of rank 3, ONNX has the heads side by side in the last axis.
    """
    shapes = [shape for shape in call.in_shapes[:3] if shape is not None and len(shape) > 2]
    if len(shapes) < 2 or len(shapes) < min(len(call.in_shapes), 3):
        raise UnknownSize("the shapes of its inputs are not known")
    layer = call.kind in ("Attention", "AdditiveAttention") and not call.nodes
    query, key, value = shapes[0], shapes[1], shapes[-1]
    if layer:
        key, value = value, key
    behind = dimension(key, 1 if call.kind == "DotProductAttention" else -2)
    if behind is None:
        raise UnknownSize("how many positions it attends to is not known")
    width, value_width = last_axis(query), last_axis(value)
    heads = 1
    if call.nodes and len(query) == 3:
        heads, key_heads = (sizes(call.config.get(f"{p}_num_heads"))[0] for p in ("q", "kv"))
        width, value_width = whole_quotient(width, heads), whole_quotient(value_width, key_heads)
    queries = whole_quotient(call_sizes.input(0), width)
    return AttentionSizes(
        queries=queries,
        keys=behind,
        values=behind,
        pairs=queries * behind,
        width=width,
        value_width=value_width,
    )


def _product(shape: Shape | None, axes: list[object] | tuple[object, ...]) -> int:
    found = [dimension(shape, axis) for axis in axes if isinstance(axis, int)]
    known = [size for size in found if size is not None]
    if len(known) < len(axes):
        raise UnknownSize("the size of an axis that it attends along is not known")
    return math.prod(known)
