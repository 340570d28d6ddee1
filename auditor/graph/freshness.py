"""Whether a model's weights are still what their initializers drew."""

from __future__ import annotations

from auditor.graph.initializers import weight_law
from auditor.graph.layer_graph import LayerGraph


def fresh_share(graph: LayerGraph) -> float | None:
    """Share of the trainable kernels whose values their initializer's law explains.

    None where no kernel has both values and a known law.
    """
    fresh = [
        law.explains(seen)
        for call in graph.layers()
        for index, weight in enumerate(call.weights)
        if "kernel" in weight.role
        and weight.trainable
        and call.trainable
        and weight.initializer is not None
        and (law := weight_law(weight.initializer, weight.shape)) is not None
        and (seen := graph.weight_statistics.get((call.layer, index))) is not None
    ]
    return sum(fresh) / len(fresh) if fresh else None
