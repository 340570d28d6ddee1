"""The static graph of an imported model, with the values that its weights have now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.weight import TensorReader, Weight

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class VariableTensor:
    """Reads a Keras variable."""

    variable: Any

    def __call__(self) -> Array:
        """A copy of the values as they are."""
        return np.array(keras.ops.convert_to_numpy(self.variable))


def current_graph(graph: LayerGraph, variables: Mapping[int, Any]) -> LayerGraph:
    """The graph, reading variables in place of stored tensors.

    Args:
        graph: as it was read from the file.
        variables: by the identity of the reader of the stored tensor that each was made of.
    """

    def current(reader: Any) -> Any:
        if id(reader) in variables:
            return VariableTensor(variable=variables[id(reader)])
        # Views of tensors: transposed, sliced, joined, dequantised.
        changes: dict[str, Any] = {}
        if getattr(reader, "read", None) is not None:
            changes["read"] = current(reader.read)
        if getattr(reader, "reads", None):
            changes["reads"] = tuple(map(current, reader.reads))
        return replace(reader, **changes) if changes else reader

    return replace(
        graph,
        calls=tuple(
            replace(call, weights=tuple(_weight(weight, current) for weight in call.weights))
            for call in graph.calls
        ),
    )


def _weight(weight: Weight, current: Callable[[Any], TensorReader]) -> Weight:
    return weight if weight.read is None else replace(weight, read=current(weight.read))
