"""What weights a layer has, in the order in which Keras keeps them.

For each class: names, roles, the child of the layer that owns each (as saved in a `.keras` archive)
and what of the shape the configuration settles. Orders are those of `Layer.weights`; they are the
same in Keras 2 and 3. Layers that hold others are put together here; what a layer has of its own is
in `keras_layer_weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from auditor.formats.keras_initializer import snake_case
from auditor.formats.keras_layer_weights import LAYER_WEIGHTS
from auditor.formats.keras_layers import LAYERS, OPAQUE_LAYERS
from auditor.formats.keras_model import LayerConfig, sublayer
from auditor.formats.untrusted import sequence
from auditor.formats.weight_spec import Specs, WeightSpec, below


def weight_specs(layer: LayerConfig) -> Specs:
    """The weights a layer is expected to have, in Keras' order; None when that is not known."""
    if layer.operation:
        return ()
    if not layer.standard or layer.kind in OPAQUE_LAYERS:
        return None
    if layer.model is not None:
        return _model(layer)
    if layer.kind in _HOLDERS:
        return _HOLDERS[layer.kind](layer)
    if layer.kind in LAYER_WEIGHTS:
        return LAYER_WEIGHTS[layer.kind](layer)
    return () if layer.kind in LAYERS else None


def container_names(
    layers: tuple[LayerConfig, ...], *, sequential: bool, former: bool = False
) -> tuple[str | None, ...]:
    """The group names under which a model's layers are saved: class names, numbered.

    None for what is not saved as a layer: `keras.ops` nodes, and a Sequential's input. `former`
    stands for Keras 2.12 and 2.13, which came by each layer with weights twice: it is saved the
    first time, and the second leaves a gap in the numbers.
    """
    used: dict[str, int] = {}
    names: list[str | None] = []
    for index, layer in enumerate(layers):
        skipped = layer.operation or (sequential and index == 0 and layer.kind == "InputLayer")
        if skipped:
            names.append(None)
            continue
        stem = snake_case(layer.kind)
        count = used.get(stem)
        used[stem] = 0 if count is None else count + 1
        names.append(stem if count is None else f"{stem}_{used[stem]}")
        if former and weight_specs(layer) != ():
            used[stem] += 1
    return tuple(names)


def _frozen(layer: LayerConfig, specs: tuple[WeightSpec, ...]) -> tuple[WeightSpec, ...]:
    return specs if layer.trainable else tuple(replace(spec, trainable=False) for spec in specs)


def _stacked_cells(layer: LayerConfig) -> Specs:
    entries = sequence(layer.config.get("cells"))
    cells = [sublayer({"cell": entry}, "cell") for entry in entries]
    known = tuple(cell for cell in cells if cell is not None)
    if len(known) != len(cells):
        return None
    found: list[WeightSpec] = []
    for cell, child in zip(known, container_names(known, sequential=False), strict=True):
        specs = weight_specs(cell)
        if specs is None or child is None:
            return None
        found.extend(below(f"cells/{child}", specs, child))
    return tuple(found)


def _wrapped(key: str, child: str, name: str = "") -> Callable[[LayerConfig], Specs]:
    def build(layer: LayerConfig) -> Specs:
        inner = sublayer(layer.config, key)
        specs = None if inner is None else weight_specs(inner)
        return None if specs is None else _frozen(layer, below(child, specs, name))

    return build


def _bidirectional(layer: LayerConfig) -> Specs:
    forward = _wrapped("layer", "forward_layer", "forward")(layer)
    key = "backward_layer" if "backward_layer" in layer.config else "layer"
    backward = _wrapped(key, "backward_layer", "backward")(layer)
    return None if forward is None or backward is None else (*forward, *backward)


def _spectral(layer: LayerConfig) -> Specs:
    inner = _wrapped("layer", "layer")(layer)
    if not inner:
        return inner
    # The wrapped kernel is kept by the wrapper too: first among its own, before the vector.
    vector = WeightSpec(name="vector_u", role="other", trainable=False, index=1)
    return (inner[0], vector, *inner[1:])


def _model(layer: LayerConfig) -> Specs:
    """All weights of a model that a wrapper stands around."""
    model = layer.model
    if model is None:
        return None
    found: list[WeightSpec] = []
    names = container_names(model.layers, sequential=model.sequential)
    for inner, child in zip(model.layers, names, strict=True):
        specs = weight_specs(inner)
        if specs is None:
            return None
        if child is not None:
            found.extend(below(f"layers/{child}", specs, inner.name))
    return _frozen(layer, tuple(found))


_HOLDERS: Mapping[str, Callable[[LayerConfig], Specs]] = {
    "RNN": _wrapped("cell", "cell"),
    "StackedRNNCells": _stacked_cells,
    "Bidirectional": _bidirectional,
    **dict.fromkeys(("TimeDistributed", "Wrapper"), _wrapped("layer", "layer")),
    "SpectralNormalization": _spectral,
}
