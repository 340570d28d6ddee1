"""The calls a Keras model makes, and the tensors between them.

Numbering of calls. A call's id is the names of the models it is in and its own, joined by "/", each
with "#2", "#3", … for the second, third … time that layer is called *within that call of its
parent*, counted in the order in which Keras runs the graph (see `keras_execution`). So "dense#2" is
the second call of `dense`, "encoder#2/conv1" the first call of `conv1` in the second call of
`encoder`. A program that wraps `Layer.__call__` and keeps a stack of names with one counter a frame
arrives at the same ids. Inputs of nested models are no calls: edges pass through them. An id that
is already taken (names may hold "/" and "#") gets a "~" behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from auditor.errors import UnreadableModel
from auditor.formats.keras_call_config import call_config, module_of
from auditor.formats.keras_dtypes import output_dtype
from auditor.formats.keras_execution import CallKey, Execution, References, execution
from auditor.formats.keras_identity import Identity, compute_dtype, identify
from auditor.formats.keras_inputs import first_shape, input_dtype, input_shape
from auditor.formats.keras_model import LayerConfig, ModelConfig, Node
from auditor.formats.keras_reversed import (
    REVERSED,
    is_reversed,
    reversed_shape,
    reversed_weights,
)
from auditor.formats.keras_shapes import infer, recorded
from auditor.formats.limits import Limits
from auditor.formats.refusal import refusal
from auditor.formats.shape_arithmetic import Shapes
from auditor.formats.untrusted import summary
from auditor.graph.layer_graph import Edge, InputSpec, LayerCall, Shape
from auditor.graph.operators import Op
from auditor.graph.weight import Weight

#: More outputs of one call than this are not believed.
MOST_OUTPUTS = 10_000


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Output `slot` of a call that is in the graph."""

    call: str
    slot: int
    shape: Shape | None
    dtype: str


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """One call of a model: prefixes of the ids and layer paths in it, and calls counted so far."""

    ids: str = ""
    layers: str = ""
    trainable: bool = True
    counts: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> str:
        """The next call of a layer of this name, as it enters ids."""
        count = self.counts[name] = self.counts.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What holds for every call of one functional model."""

    references: References
    execution: Execution
    recorded: Mapping[tuple[str, int, int], tuple[Shape | None, str]]
    widths: Mapping[CallKey, int]


class CallBuilder:
    """Collects calls and edges while it runs through the model as Keras would.

    `freezes_below` is whether a nested model that is not trainable freezes what is in it. In Keras
    2 it does; Keras 3 asks the outermost model and each variable, so that a flag on a nested model
    that did not reach its layers when it was set does nothing after loading.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, tuple[Weight, ...]],
        limits: Limits,
        freezes_below: bool = True,
    ) -> None:
        self.calls: list[LayerCall] = []
        self.edges: list[Edge] = []
        self.inputs: list[InputSpec] = []
        self.notes: list[str] = []
        self._weights = weights
        self._freezes_below = freezes_below
        self._limits = limits
        self._ids: set[str] = set()
        self._plans: dict[int, _Plan] = {}
        self._shared: dict[int, str] = {}
        self._identities: dict[int, Identity] = {}
        self._shapes: dict[tuple[int, Shapes], Shapes] = {}
        self._steps = 0
        self._handed = 0
        self._characters = 0

    def root(self, model: ModelConfig) -> list[Tensor]:
        """Build the outermost model; its outputs."""
        scope = _Scope(trainable=model.trainable)
        tensors: list[Tensor | None] = list(self._root_inputs(model, scope))
        outputs = [tensor for tensor in self._model(model, scope, tensors) if tensor is not None]
        if not outputs:
            raise UnreadableModel("the model has no output: the configuration is malformed")
        return outputs

    def subclassed(self, root: LayerConfig) -> list[Tensor]:
        """Build a model whose configuration does not tell its layers: one opaque call."""
        scope = _Scope()
        shapes = recorded(root) or (None,)
        names = [f"input_{index + 1}" if index else "input" for index in range(len(shapes))]
        tensors = [
            self._input(scope, name, given, compute_dtype(root, "float32"))
            for name, given in zip(names, shapes, strict=True)
        ]
        note = f"a subclassed model ({root.kind}): its file does not tell its layers"
        self.notes.append(note)
        return self._call(root, scope, tensors, None, [None], [""], note=note)

    def _root_inputs(self, model: ModelConfig, scope: _Scope) -> Iterator[Tensor]:
        if not model.sequential:
            layers = {layer.name: layer for layer in model.layers}
            for reference in model.inputs:
                layer = layers.get(reference.layer)
                if layer is None or layer.kind != "InputLayer":
                    raise UnreadableModel(
                        f"model {summary(model.name)!r} names {summary(reference.layer)!r} as an "
                        "input, which is not an InputLayer of it: the configuration is malformed"
                    )
                yield self._input(scope, layer.name, input_shape(layer), input_dtype(layer))
            return
        first = model.layers[0]
        if first.kind == "InputLayer":
            yield self._input(scope, first.name, input_shape(first), input_dtype(first))
            return
        taken = {layer.name for layer in model.layers}
        name = f"{first.name}_input"
        while name in taken:
            name += "_"
        given = model.input_shape or first_shape(first)
        yield self._input(scope, name, given, input_dtype(first))

    def _input(self, scope: _Scope, name: str, given: Shape | None, dtype: str) -> Tensor:
        layer_path = scope.layers + name
        call_id = self._claim(scope.ids + scope.number(name))
        self._name(len(call_id) + len(layer_path))
        self.calls.append(
            LayerCall(
                id=call_id,
                name=name,
                layer=layer_path,
                kind="InputLayer",
                op=Op.INPUT,
                module="keras.layers",
                out_shapes=(given,),
                dtype=dtype,
            )
        )
        self.inputs.append(InputSpec(name=name, call=call_id, shape=given, dtype=dtype))
        return Tensor(call=call_id, slot=0, shape=given, dtype=dtype)

    def _model(
        self, model: ModelConfig, scope: _Scope, tensors: list[Tensor | None]
    ) -> list[Tensor | None]:
        if model.sequential:
            for layer in model.layers:
                if layer.kind != "InputLayer":
                    self._hand(len(tensors))
                    tensors = self._layer(layer, scope, tensors, None, [None], [""])
            return tensors
        plan = self._plan(model)
        self._hand(len(model.outputs))
        table: dict[CallKey, list[Tensor | None]] = {}
        for reference, tensor in zip(model.inputs, tensors, strict=True):
            table[plan.references.call(reference)] = [tensor]
        for key in plan.execution.calls:
            layer = plan.references.layer(key[0])
            node = layer.nodes[key[1]]
            width = plan.widths.get(key, 1)
            self._hand(max(len(node.tensors), width))
            sources = [table[plan.references.call(r)][r.slot] for r in node.tensors]
            if layer.model is not None:
                sources = self._model_arguments(layer.model, node, sources)
            known = [plan.recorded.get((*key, slot), (None, "")) for slot in range(width)]
            outputs = self._layer(
                layer,
                scope,
                sources,
                node,
                [item[0] for item in known],
                [item[1] for item in known],
            )
            if len(outputs) < width:
                raise UnreadableModel(
                    f"model {summary(model.name)!r} uses output {width - 1} of layer "
                    f"{summary(layer.name)!r}, which gives {len(outputs)}: the configuration is "
                    "malformed"
                )
            table[key] = outputs
        return [table[plan.references.call(r, output=True)][r.slot] for r in model.outputs]

    def _plan(self, model: ModelConfig) -> _Plan:
        plan = self._plans.get(id(model))
        if plan is not None:
            return plan
        references = References(model)
        order = execution(model, references)
        if order.dropped:
            names = summary(", ".join(order.dropped))
            self.notes.append(f"layers that no output depends on are left out: {names}")
        known: dict[tuple[str, int, int], tuple[Shape | None, str]] = {}
        widths: dict[CallKey, int] = {}
        uses = [(r, False) for layer in model.layers for node in layer.nodes for r in node.tensors]
        for reference, output in (*uses, *((r, True) for r in model.outputs)):
            if reference.slot >= MOST_OUTPUTS:
                raise UnreadableModel(
                    f"model {summary(model.name)!r} uses output {reference.slot} of layer "
                    f"{summary(reference.layer)!r}: the configuration is malformed"
                )
            key = references.call(reference, output=output)
            widths[key] = max(widths.get(key, 1), reference.slot + 1)
            if reference.shape is not None:
                known[*key, reference.slot] = (reference.shape, reference.dtype)
        for reference in model.inputs:
            if widths.get(references.call(reference), 1) > 1:
                raise UnreadableModel(
                    f"input {summary(reference.layer)!r} of model {summary(model.name)!r} has one "
                    "output only: the configuration is malformed"
                )
        plan = _Plan(references=references, execution=order, recorded=known, widths=widths)
        self._plans[id(model)] = plan
        return plan

    def _model_arguments(
        self, model: ModelConfig, node: Node, sources: list[Tensor | None]
    ) -> list[Tensor | None]:
        """What a nested model's inputs are, None for one that is left out (optional inputs)."""
        wanted = 1 if model.sequential else len(model.inputs)
        if len(node.leading) == wanted and any(node.leading):
            given = iter(sources)
            return [next(given) if leaf is not None else None for leaf in node.leading]
        if len(sources) < wanted:
            raise UnreadableModel(
                f"model {summary(model.name)!r} has {wanted} inputs and is called with "
                f"{len(sources)}: the configuration is malformed"
            )
        return sources[:wanted]

    def _layer(
        self,
        layer: LayerConfig,
        scope: _Scope,
        tensors: list[Tensor | None],
        node: Node | None,
        shapes: list[Shape | None],
        dtypes: list[str],
    ) -> list[Tensor | None]:
        self._steps += 1
        if self._steps > self._limits.calls:
            what = f"it makes more than {self._limits.calls:,} calls of layers"
            raise refusal("GEB905", "the model", what)
        if layer.model is None:
            present = [tensor for tensor in tensors if tensor is not None]
            return list(self._call(layer, scope, present, node, shapes, dtypes))
        inner = _Scope(
            ids=f"{scope.ids}{scope.number(layer.name)}/",
            layers=f"{scope.layers}{layer.name}/",
            trainable=scope.trainable
            and (not self._freezes_below or (layer.trainable and layer.model.trainable)),
        )
        if not layer.standard:
            self.notes.append(
                f"model {summary(layer.name)!r} is of the custom class {summary(layer.kind)!r}, "
                "which may compute something else than its layers say"
            )
        return self._model(layer.model, inner, tensors)

    def _call(
        self,
        layer: LayerConfig,
        scope: _Scope,
        tensors: list[Tensor],
        node: Node | None,
        shapes: list[Shape | None],
        dtypes: list[str],
        note: str = "",
    ) -> list[Tensor]:
        backwards = is_reversed(layer, node)
        identity = REVERSED if backwards else self._identity(layer, node)
        in_shapes = tuple(tensor.shape for tensor in tensors)
        if not tensors or in_shapes == (None,):
            in_shapes = recorded(layer) or in_shapes
        if backwards:
            inferred: Shapes = (reversed_shape(layer, in_shapes[0] if in_shapes else None),)
        else:
            inferred = self._inferred(layer, identity.op, in_shapes, node)
        out_shapes = tuple(_settled(shapes, inferred))
        dtype = dtypes[0] or output_dtype(layer, tuple(tensor.dtype for tensor in tensors), node)
        trainable = scope.trainable and layer.trainable
        weights = self._layer_weights(layer, scope, trainable=trainable)
        layer_path = self._layer_path(layer, scope)
        call_id = self._claim(scope.ids + scope.number(layer.name))
        ends = sum(len(tensor.call) + len(call_id) for tensor in tensors)
        self._name(len(call_id) + len(layer_path) + ends)
        call = LayerCall(
            id=call_id,
            name=layer.name,
            layer=layer_path,
            kind=layer.kind,
            op=identity.op,
            module=module_of(layer),
            activation=identity.activation,
            config=call_config(layer, node),
            in_shapes=in_shapes,
            out_shapes=out_shapes,
            dtype=dtype,
            weights=reversed_weights(weights) if backwards else weights,
            trainable=trainable,
            note=note or identity.note,
        )
        self.calls.append(call)
        for target_slot, tensor in enumerate(tensors):
            self.edges.append(
                Edge(
                    source=tensor.call,
                    target=call.id,
                    source_slot=tensor.slot,
                    target_slot=target_slot,
                )
            )
        return [
            Tensor(call=call.id, slot=slot, shape=given, dtype=dtype)
            for slot, given in enumerate(out_shapes)
        ]

    def _identity(self, layer: LayerConfig, node: Node | None) -> Identity:
        """What the layer is; of a layer that is no operation the same in every call."""
        if layer.operation or layer.listed_operation:
            return identify(layer, node)
        if id(layer) not in self._identities:
            self._identities[id(layer)] = identify(layer, node)
        return self._identities[id(layer)]

    def _inferred(self, layer: LayerConfig, op: Op, inputs: Shapes, node: Node | None) -> Shapes:
        if layer.operation or layer.listed_operation:
            return infer(layer, op, inputs, node)
        known = self._shapes.get((id(layer), inputs))
        if known is None:
            known = self._shapes[id(layer), inputs] = infer(layer, op, inputs, node)
        return known

    def _layer_path(self, layer: LayerConfig, scope: _Scope) -> str:
        """Where the layer's weights are: of an object saved twice, where it was saved first."""
        path = scope.layers + layer.name
        if layer.shared_id is None:
            return path
        return self._shared.setdefault(layer.shared_id, path)

    def _layer_weights(
        self, layer: LayerConfig, scope: _Scope, *, trainable: bool
    ) -> tuple[Weight, ...]:
        weights = self._weights.get(self._layer_path(layer, scope), ())
        if trainable:
            return weights
        return tuple(replace(weight, trainable=False) for weight in weights)

    def _hand(self, tensors: int) -> None:
        """Count what a call takes, or gives, before it is laid out."""
        self._handed += tensors
        if self._handed > self._limits.edges:
            what = f"its calls hand on more than {self._limits.edges:,} tensors"
            raise refusal("GEB905", "the model", what)

    def _name(self, characters: int) -> None:
        """Count the ids that every report spells out: nested names multiply in them."""
        self._characters += characters
        if self._characters > self._limits.id_characters:
            most = self._limits.id_characters
            what = f"the ids of its calls and edges take more than {most:,} characters"
            raise refusal("GEB905", "the model", what)

    def _claim(self, call_id: str) -> str:
        while call_id in self._ids:
            call_id += "~"
        self._ids.add(call_id)
        return call_id


def _settled(known: list[Shape | None], inferred: Iterable[Shape | None]) -> Iterator[Shape | None]:
    """For each output the recorded shape, filled in from the inferred one where they agree."""
    inferred = tuple(inferred)
    for slot in range(max(len(known), len(inferred))):
        noted = known[slot] if slot < len(known) else None
        derived = inferred[slot] if slot < len(inferred) else None
        if noted is None or derived is None:
            yield derived if noted is None else noted
        elif len(noted) == len(derived) and all(
            size is None or size == other for size, other in zip(noted, derived, strict=True)
        ):
            yield derived
        else:
            yield noted
