"""The configuration of a call, the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auditor.formats.keras_model import LayerConfig, Node


def module_of(layer: LayerConfig) -> str:
    """The module of the layer's class; of Keras' own the public one where none is stated."""
    if layer.module or not layer.standard:
        return layer.module
    return "keras.ops" if layer.operation else "keras.layers"


def call_config(layer: LayerConfig, node: Node | None) -> Mapping[str, Any]:
    """The layer's configuration; for an operation also the arguments that are no tensors."""
    config = {key: _tidy(value) for key, value in layer.config.items()}
    if node is None or not layer.operation:
        return config
    if any(argument is not None for argument in node.arguments):
        config["arguments"] = list(node.arguments)
    if any(argument is not None for argument in node.keywords.values()):
        config["keywords"] = dict(node.keywords)
    return config


def _tidy(value: Any) -> Any:
    """A value without what only tells how its file was written: ids of objects in memory, modules.

    So the same layer has the same configuration in every format.
    """
    if isinstance(value, dict):
        return {
            key: _tidy(item)
            for key, item in value.items()
            if key not in ("shared_object_id", "build_config", "__passive_serialization__")
        }
    return [_tidy(item) for item in value] if isinstance(value, list) else value
