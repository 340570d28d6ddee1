"""What goes into a model, from its input layers or its first layer."""

from __future__ import annotations

from auditor.formats.keras_identity import compute_dtype
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_shapes import recorded
from auditor.formats.untrusted import shape
from auditor.graph.layer_graph import Shape


def input_shape(layer: LayerConfig) -> Shape | None:
    """The shape, batch first, that an InputLayer or a first layer of Keras 2 states."""
    config = layer.config
    for key in ("batch_shape", "batch_input_shape"):
        given = shape(config.get(key))
        if given is not None:
            return given
    without_batch = shape(config.get("shape"))
    return None if without_batch is None else (None, *without_batch)


def first_shape(first: LayerConfig) -> Shape | None:
    """What goes into a Sequential whose input is not stated: into its first layer, if that says."""
    if first.model is None:
        return input_shape(first) or next(iter(recorded(first)), None)
    if first.model.sequential:
        return first.model.input_shape or first_shape(first.model.layers[0])
    name = first.model.inputs[0].layer
    return next((input_shape(inner) for inner in first.model.layers if inner.name == name), None)


def input_dtype(layer: LayerConfig) -> str:
    """The type that goes into an InputLayer, or into a first layer of Keras 2."""
    return compute_dtype(layer, "float32")
