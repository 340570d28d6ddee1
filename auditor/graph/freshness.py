"""Whether a model's weights are still what their initializers drew."""

from __future__ import annotations

from auditor.graph.initializers import WeightLaw, weight_law
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.statistics import WeightStatistics
from auditor.graph.weight import Weight


def fresh_share(graph: LayerGraph) -> float | None:
    """Share of the trainable kernels whose values their initializer's law explains.

    None where no kernel has both values and a known law.
    """
    fresh = [
        untouched
        for call in graph.layers()
        for index, weight in enumerate(call.weights)
        if "kernel" in weight.role
        and weight.trainable
        and call.trainable
        and (seen := graph.weight_statistics.get((call.layer, index))) is not None
        and (untouched := drawn(weight, seen)) is not None
    ]
    return sum(fresh) / len(fresh) if fresh else None


def laws(weight: Weight) -> tuple[WeightLaw, ...]:
    """The laws the weight's values may have been drawn from; none where that is not known.

    Some releases of Keras take the fans of a kernel with several input or output axes (EinsumDense,
    attention) from its shape alone, others from these axes: either counts, the former first.
    """
    if weight.initializer is None:
        return ()
    shapes = [weight.shape]
    if len(weight.shape) > 2 and weight.fan_in and weight.fan_out:
        shapes.append((weight.fan_in, weight.fan_out))
    found = (weight_law(weight.initializer, shape) for shape in shapes)
    return tuple(dict.fromkeys(law for law in found if law is not None))


def law_of(weight: Weight, seen: WeightStatistics | None) -> WeightLaw | None:
    """The law that explains the weight's values, or the likelier one where there are no values."""
    return next((law for law in laws(weight) if seen is None or law.explains(seen)), None)


def drawn(weight: Weight, seen: WeightStatistics) -> bool | None:
    """Whether values with these statistics can be the draw of the weight's initializer.

    None where the initializer's law is not known.
    """
    return law_of(weight, seen) is not None if laws(weight) else None
