"""The order in which Keras runs the calls of a functional model.

A second call of a shared layer is "#2" because it runs second, so the order has to be Keras' own:
`keras.src.ops.function.map_graph` walks back from the outputs, gives every call its depth (calls of
one layer the greatest of theirs) and runs by falling depth, among equals in the order of discovery.
It is followed here step by step, on the configuration, without recursion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.errors import UnreadableModel
from auditor.formats.keras_model import LayerConfig, ModelConfig, TensorRef
from auditor.formats.untrusted import summary

#: A call: name of the layer, index among its recorded calls.
CallKey = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The calls of a functional model in the order of running them, its inputs left out.

    `dropped` names the layers that no output depends on: Keras leaves them out of the model.
    """

    calls: tuple[CallKey, ...]
    dropped: tuple[str, ...]


class References:
    """Which call a reference means: nested models count theirs differently by dialect.

    A functional model is born with a call of its own, which is not written. Keras 2 counts it, so
    that references to a nested model begin at 1 there (unless it was a Sequential without an input
    shape); Keras 3 counts it in `output_layers` only.
    """

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._layers = {layer.name: layer for layer in model.layers}
        nodes = [node for layer in model.layers for node in layer.nodes]
        self._listed = any(node.listed for node in nodes)
        self._least: dict[str, int] = {}
        for reference in (*(r for node in nodes for r in node.tensors), *model.outputs):
            least = self._least.get(reference.layer, reference.node)
            self._least[reference.layer] = min(least, reference.node)

    def layer(self, name: str) -> LayerConfig:
        """The layer of this name."""
        return self._layers[name]

    def call(self, reference: TensorRef, *, output: bool = False) -> CallKey:
        """The call a reference means. Raises `UnreadableModel` when there is none."""
        layer = self._layers.get(reference.layer)
        if layer is None:
            raise UnreadableModel(
                f"model {summary(self._model.name)!r} refers to a layer "
                f"{summary(reference.layer)!r} that it does not have: the configuration is "
                "malformed"
            )
        if layer.kind == "InputLayer" and not layer.nodes:
            return layer.name, 0
        node = reference.node - self._offset(layer, reference, output=output)
        if not 0 <= node < len(layer.nodes):
            raise UnreadableModel(
                f"model {summary(self._model.name)!r} refers to call {reference.node} of layer "
                f"{summary(layer.name)!r}, which is called {len(layer.nodes)} times: the "
                "configuration is malformed"
            )
        return layer.name, node

    def _offset(self, layer: LayerConfig, reference: TensorRef, *, output: bool) -> int:
        if layer.model is None or reference.node == 0:
            return 0
        if self._listed:
            return int(self._least[layer.name] >= 1)
        return int(output and not layer.model.sequential)


def execution(model: ModelConfig, references: References) -> Execution:
    """The running order of a functional model. Raises `UnreadableModel` for cycles."""
    parents = _parents(model, references)
    entries = {references.call(reference) for reference in model.inputs}
    ends = [references.call(reference, output=True) for reference in model.outputs]
    finished = _walk(model, ends, parents, entries)
    depths = _depths(finished, {**parents, **dict.fromkeys(entries, ())})
    for entry in entries:
        depths.setdefault(entry, 0)
    order = sorted(depths, key=lambda call: -depths[call])
    computable = {*entries}
    for call in order:
        if call in entries:
            continue
        missing = [parent for parent in parents[call] if parent not in computable]
        if missing or not parents[call]:
            name = summary(missing[0][0] if missing else call[0])
            raise UnreadableModel(
                f"model {summary(model.name)!r}: layer {name!r} is computed from no input of the "
                "model: the configuration is malformed"
            )
        computable.add(call)
    used = {name for name, _ in order}
    return Execution(
        calls=tuple(call for call in order if call not in entries),
        dropped=tuple(layer.name for layer in model.layers if layer.name not in used),
    )


def _parents(model: ModelConfig, references: References) -> Mapping[CallKey, tuple[CallKey, ...]]:
    parents: dict[CallKey, tuple[CallKey, ...]] = {}
    for layer in model.layers:
        if layer.kind == "InputLayer" and not layer.nodes:
            parents[layer.name, 0] = ()
        for index, node in enumerate(layer.nodes):
            parents[layer.name, index] = tuple(references.call(r) for r in node.traversal)
    return parents


def _walk(
    model: ModelConfig,
    ends: list[CallKey],
    parents: Mapping[CallKey, tuple[CallKey, ...]],
    entries: set[CallKey],
) -> list[CallKey]:
    """Depth-first from the outputs: every call after all that it depends on."""
    finished: dict[CallKey, None] = {}
    in_progress: set[CallKey] = set()
    for end in ends:
        stack: list[tuple[CallKey, int]] = [(end, 0)]
        while stack:
            call, position = stack.pop()
            if position == 0:
                if call in finished:
                    continue
                if call in in_progress:
                    raise UnreadableModel(
                        f"model {summary(model.name)!r}: layer {summary(call[0])!r} depends on its "
                        "own output: the configuration is malformed"
                    )
                in_progress.add(call)
            before = () if call in entries else parents.get(call, ())
            if position < len(before):
                stack.append((call, position + 1))
                stack.append((before[position], 0))
            else:
                in_progress.discard(call)
                finished[call] = None
    return list(finished)


def _depths(
    finished: list[CallKey], parents: Mapping[CallKey, tuple[CallKey, ...]]
) -> dict[CallKey, int]:
    """Distance of every call to the outputs, in the order in which Keras comes to know it."""
    inside = set(finished)
    depths: dict[CallKey, int] = {}
    layer_depths: dict[str, int] = {}
    for call in reversed(finished):
        depth = max(depths.setdefault(call, 0), layer_depths.get(call[0], 0))
        layer_depths[call[0]] = depths[call] = depth
        for parent in parents[call]:
            if parent in inside:
                depths[parent] = max(depth + 1, depths.get(parent, 0))
    return depths
