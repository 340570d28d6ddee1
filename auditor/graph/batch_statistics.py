"""Over how much of a batch batch normalizations take their statistics in training."""

from __future__ import annotations

import math

from auditor.graph.dimensions import own_config
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op


def least_positions(graph: LayerGraph, *, open_size: int) -> int | None:
    """Fewest positions of a sample that a trained batch normalization averages over.

    None where nothing is normalized over the batch, as in what was exported for inference. Axes of
    unknown size count as `open_size`.
    """
    if graph.format == "onnx":
        return None
    counts = [
        _positions(call, open_size)
        for call in graph.calls
        if call.op is Op.BATCH_NORM and call.trainable and call.in_shape is not None
    ]
    return min(counts, default=None)


def _positions(call: LayerCall, open_size: int) -> int:
    shape = call.in_shape or ()
    axis = own_config(call).get("axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    apart = {a % len(shape) for a in axes if isinstance(a, int) and -len(shape) <= a < len(shape)}
    return math.prod(
        size if isinstance(size, int) else open_size
        for place, size in enumerate(shape)
        if place and place not in apart
    )
