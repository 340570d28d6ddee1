"""A Keras model's configuration as a `LayerGraph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from auditor.formats.keras_1_config import is_keras_1, modern
from auditor.formats.keras_calls import CallBuilder
from auditor.formats.keras_compile import at_outputs, compile_settings
from auditor.formats.keras_model import LayerConfig, parse_model
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.untrusted import mapping, summary, text
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.weight import Weight

#: Finds a model's weights: by the path of the layer they belong to ("encoder/conv1").
WeightLookup = Callable[[LayerConfig], Mapping[str, tuple[Weight, ...]]]


def no_weights(_: LayerConfig) -> Mapping[str, tuple[Weight, ...]]:
    """A `WeightLookup` for a configuration without weights."""
    return {}


def graph_from_config(
    config: object,
    *,
    format: str,  # noqa: A002 - the field of LayerGraph
    writer: str,
    weights: WeightLookup = no_weights,
    training: object = None,
    notes: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> LayerGraph:
    """The graph of a model's configuration: `{"class_name": …, "config": …}`.

    Args:
        config: the configuration as parsed from JSON, of Keras 1, 2 or 3.
        format: for `LayerGraph.format`.
        writer: for `LayerGraph.writer`.
        weights: finds the weights of the layers.
        training: compile settings kept beside the configuration; else those inside it.
        notes: for `LayerGraph.notes`, to which what was not understood is added.
        limits: bounds on calls and nesting.

    Raises:
        UnreadableModel: the configuration is malformed; the line says where.
    """
    root = parse_model(modern(config) if is_keras_1(config, writer) else config, limits)
    builder = CallBuilder(
        weights=weights(root), limits=limits, freezes_below=not writer.startswith("keras 3.")
    )
    if root.model is None:
        outputs = builder.subclassed(root)
        name = root.name
    else:
        outputs = builder.root(root.model)
        name = root.model.name
    inside = mapping(config).get("compile_config")
    settings = compile_settings(inside if training is None else training)
    if settings is not None and root.model is not None:
        ends = [reference.layer for reference in root.model.outputs]
        settings = at_outputs(settings, ends, root.model.output_keys)
    return LayerGraph(
        name=name,
        format=format,
        writer=writer,
        calls=tuple(builder.calls),
        edges=tuple(builder.edges),
        inputs=tuple(builder.inputs),
        outputs=tuple((tensor.call, tensor.slot) for tensor in outputs),
        compile=settings,
        notes=(*notes, *dict.fromkeys(builder.notes)),
    )


def keras_writer(version: object, fallback: str = "keras") -> str:
    """What wrote the file, from the version it states."""
    stated = summary(text(version), 40)
    return f"keras {stated}" if stated else fallback
