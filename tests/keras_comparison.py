"""What Keras itself says of a model: its calls, edges, shapes and weights, held against a graph.

Keras' own records are walked (`Function._nodes_by_depth`, `Node.arguments`, `Layer.weights`), not a
configuration, so that reader and comparison have nothing in common but the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras.src.api_export import get_name_from_symbol

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op

#: Output `slot` of a call, by its id.
Source = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class ExpectedCall:
    """One call of a layer or operation, as Keras has it."""

    id: str
    operation: Any
    sources: tuple[Source, ...]
    out_shapes: tuple[tuple[int | None, ...], ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class ExpectedGraph:
    """A model as Keras has it: calls in the order of running, what enters and what comes out."""

    inputs: tuple[Source, ...]
    calls: tuple[ExpectedCall, ...]
    outputs: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    source: Source
    spec: Any


@dataclass(kw_only=True)
class _Walk:
    """Follows Keras' nodes through nested models; `counts` has one counter a layer and frame."""

    calls: list[ExpectedCall] = field(default_factory=list)

    def model(self, model: Any, given: Sequence[_Tensor | None], prefix: str) -> list[Any]:
        function = model._functional if isinstance(model, keras.Sequential) else model
        table: dict[int, _Tensor | None] = {
            id(entry): tensor for entry, tensor in zip(function._inputs, given, strict=True)
        }
        reshaped = any(
            tensor is not None and tuple(tensor.spec.shape) != tuple(entry.shape)
            for entry, tensor in zip(function._inputs, given, strict=True)
        )
        counts: dict[str, int] = {}
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                operation = node.operation
                count = counts[operation.name] = counts.get(operation.name, 0) + 1
                call_id = prefix + (operation.name if count == 1 else f"{operation.name}#{count}")
                specs = self._specs(node, table) if reshaped else node.outputs
                if isinstance(operation, keras.Model) and is_told(operation):
                    first = node.arguments.args[0]
                    inner = [None if t is None else table[id(t)] for t in keras.tree.flatten(first)]
                    outputs = self.model(operation, inner, f"{call_id}/")
                else:
                    outputs = self._call(call_id, node, specs, table)
                table.update(zip(map(id, node.outputs), outputs, strict=True))
        return [table[id(tensor)] for tensor in function._outputs]

    def _call(self, call_id: str, node: Any, specs: Any, table: dict[int, Any]) -> list[_Tensor]:
        given = [*node.arguments.args, *node.arguments.kwargs.values()]
        tensors = [leaf for item in given for leaf in keras.tree.flatten(item) if id(leaf) in table]
        self.calls.append(
            ExpectedCall(
                id=call_id,
                operation=node.operation,
                sources=tuple(table[id(tensor)].source for tensor in tensors),
                out_shapes=tuple(tuple(spec.shape) for spec in specs),
                dtype=keras.backend.standardize_dtype(specs[0].dtype),
            )
        )
        return [_Tensor(source=(call_id, slot), spec=spec) for slot, spec in enumerate(specs)]

    def _specs(self, node: Any, table: dict[int, Any]) -> list[Any]:
        """What the node gives for the inputs at hand, which are not those it was built with."""
        fill = {key: tensor and tensor.spec for key, tensor in table.items()}
        args, kwargs = node.arguments.fill_in(fill)
        return list(keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs)))


def is_told(model: keras.Model) -> bool:
    """Whether a model's file tells its layers: sequential or functional, not subclassed."""
    return isinstance(model, keras.Sequential) or hasattr(model, "_nodes_by_depth")


def expected_graph(model: keras.Model) -> ExpectedGraph:
    """The calls of a built sequential or functional model."""
    walk = _Walk()
    function = model._functional if isinstance(model, keras.Sequential) else model
    entries = [
        _Tensor(source=(tensor._keras_history.operation.name, 0), spec=tensor)
        for tensor in function._inputs
    ]
    outputs = walk.model(model, entries, "")
    return ExpectedGraph(
        inputs=tuple(entry.source for entry in entries),
        calls=tuple(walk.calls),
        outputs=tuple(tensor.source for tensor in outputs),
    )


def differences(model: keras.Model, graph: LayerGraph, *, ordered: bool = True) -> list[str]:
    """Where a graph differs from Keras' own model, one line each; empty when nowhere.

    Compared are calls and their order, edges with their slots, output shapes and types, number of
    values and of trainable ones, and every weight's name, shape, type, trainability and bits.
    `ordered` asks for the weights of a layer in the order of `Layer.weights` too; quantised layers
    are saved in another.
    """
    expected = expected_graph(model)
    return [
        *_counts(model, graph),
        *_ends(expected, graph),
        *_calls(expected, graph),
        *_weights(model, expected, graph, ordered=ordered),
    ]


def _counts(model: keras.Model, graph: LayerGraph) -> Iterator[str]:
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    for what, own, read in (
        ("parameters", model.count_params(), graph.parameters),
        ("trainable parameters", trainable, graph.trainable_parameters),
    ):
        if own != read:
            yield f"{what}: Keras has {own}, read were {read}"


def _ends(expected: ExpectedGraph, graph: LayerGraph) -> Iterator[str]:
    # A Sequential's input has a name of Keras' making, which no file states.
    names = dict(zip((entry.call for entry in graph.inputs), expected.inputs, strict=False))
    if len(graph.inputs) != len(expected.inputs):
        yield f"inputs: Keras has {len(expected.inputs)}, read were {len(graph.inputs)}"
    outputs = tuple(names.get(call, (call, slot)) for call, slot in graph.outputs)
    if outputs != expected.outputs:
        yield f"outputs: Keras has {expected.outputs}, read were {outputs}"


def _calls(expected: ExpectedGraph, graph: LayerGraph) -> Iterator[str]:
    read = [call for call in graph.calls if call.op is not Op.INPUT]
    own_ids, ids = [call.id for call in expected.calls], [call.id for call in read]
    if own_ids != ids:
        missing, added = set(own_ids) - set(ids), set(ids) - set(own_ids)
        yield f"calls: missing {sorted(missing)[:5]}, added {sorted(added)[:5]}, or out of order"
    names = dict(zip((entry.call for entry in graph.inputs), expected.inputs, strict=False))
    incoming: dict[str, list[tuple[int, Source]]] = {}
    for edge in graph.edges:
        source = names.get(edge.source, (edge.source, edge.source_slot))
        incoming.setdefault(edge.target, []).append((edge.target_slot, source))
    for call in expected.calls:
        found = graph.by_id.get(call.id)
        if found is None:
            continue
        edges = sorted(incoming.get(call.id, []))
        if edges != list(enumerate(call.sources)):
            yield f"{call.id}: edges from {call.sources}, read were {edges}"
        if found.out_shapes != call.out_shapes:
            yield f"{call.id}: shapes {call.out_shapes}, read were {found.out_shapes}"
        if found.dtype != call.dtype:
            yield f"{call.id}: type {call.dtype}, read was {found.dtype}"
        cls = type(call.operation)
        exported = (get_name_from_symbol(cls) or "").rsplit(".", 1)[-1]
        if found.kind not in (cls.__name__, exported):
            yield f"{call.id}: class {cls.__name__}, read was {found.kind}"


def _weights(
    model: keras.Model, expected: ExpectedGraph, graph: LayerGraph, *, ordered: bool
) -> Iterator[str]:
    trained = {id(variable) for variable in model.trainable_weights}
    seen: set[int] = set()
    for call in expected.calls:
        found = graph.by_id.get(call.id)
        if found is None or id(call.operation) in seen:
            continue
        seen.add(id(call.operation))
        # Operations may have an attribute of that name too: of another meaning.
        own = list(call.operation.weights) if isinstance(call.operation, keras.Layer) else []
        if len(own) != len(found.weights):
            names = [weight.name for weight in found.weights]
            yield f"{call.id}: weights {[v.path for v in own]}, read were {names}"
            continue
        if not ordered:
            own = _by_name(own, found)
        for index, (variable, weight) in enumerate(zip(own, found.weights, strict=True)):
            place = f"{call.id}, weight {index} ({variable.path})"
            # A variable that its layer gives no name is "variable_7" by the process's counter.
            named = not re.fullmatch(r"variable(_\d+)?", variable.name)
            if named and weight.name.rsplit("/", 1)[-1] != variable.name:
                yield f"{place}: its name was read as {weight.name!r}"
            trainable = id(variable) in trained
            if (weight.trainable and found.trainable) != trainable:
                yield f"{place}: trainable is {trainable} in Keras"
            if weight.dtype != keras.backend.standardize_dtype(variable.dtype):
                yield f"{place}: type {variable.dtype}, read was {weight.dtype}"
            if weight.shape != tuple(variable.shape):
                yield f"{place}: shape {tuple(variable.shape)}, read was {weight.shape}"
            elif weight.read is None and variable.name.startswith("lora_"):
                # Merged into the kernel when it was saved, and zero after loading.
                if np.any(keras.ops.convert_to_numpy(variable.value)):
                    yield f"{place}: its values were not read"
            elif not _same_bits(variable, weight.read() if weight.read is not None else None):
                yield f"{place}: values differ"


def _by_name(own: list[Any], found: LayerCall) -> list[Any]:
    """Variables in the order in which their names were read; those of no such name last."""
    left = list(own)
    order: list[Any] = []
    for weight in found.weights:
        short = weight.name.rsplit("/", 1)[-1]
        order.append(next((v for v in left if v.name == short), left[0]))
        left = [variable for variable in left if variable is not order[-1]]
    return order


def _same_bits(variable: Any, values: np.ndarray[Any, Any] | None) -> bool:
    own = keras.ops.convert_to_numpy(variable.value)
    if own.dtype.name == "bfloat16":
        own = own.astype("float32")  # exact; numpy has no bfloat16 of its own
    return values is not None and own.dtype == values.dtype and own.tobytes() == values.tobytes()


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Draw every floating weight anew, so that no two are equal: fresh biases are all zeros."""
    draw = np.random.default_rng(seed)
    for variable in model.weights:
        kind = keras.backend.standardize_dtype(variable.dtype)
        if "float" in kind:
            variable.assign(draw.standard_normal(variable.shape, "float32").astype("float32"))
