"""Operators with graphs within them: If, Loop, Scan and SequenceMap, unrolled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import ml_dtypes
import numpy as np

from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.interpreter.value import (
    all_known,
    concrete,
    dtype_of,
    shape_of,
    tensor,
)
from auditor.onnx_import.operators.table import Node, Unsupported, Value, is_known

#: Scan carries no batch from this version on.
SCAN_WITHOUT_BATCH = 9


class Runner(Protocol):
    """What runs a graph within a node."""

    def body(self, graph: OnnxGraph, values: Mapping[str, Value], scope: Scope) -> list[Value]:
        """The outputs of a graph given these inputs, within the scope around it."""
        ...


Control = Callable[[Runner, OnnxNode, Node, Sequence[Value], Scope], tuple[Value, ...]]


def run_if(
    runner: Runner, source: OnnxNode, node: Node, inputs: Sequence[Value], scope: Scope
) -> tuple[Value, ...]:
    """The branch that the condition asks for; of a traced condition, both and a choice."""
    del node
    condition = concrete(inputs[0])
    if condition is not None:
        branch = "then_branch" if np.asarray(condition).reshape(-1)[0] else "else_branch"
        return tuple(runner.body(_graph(source, branch), {}, scope))
    then = runner.body(_graph(source, "then_branch"), {}, scope)
    other = runner.body(_graph(source, "else_branch"), {}, scope)
    chosen = keras.ops.reshape(inputs[0], ())
    return tuple(_choose(chosen, a, b) for a, b in zip(then, other, strict=True))


def _choose(condition: Value, then: Value, other: Value) -> Value:
    if shape_of(then) is None or shape_of(then) != shape_of(other):
        raise Unsupported("its condition depends on the model's input, and its branches differ")
    if dtype_of(then) != dtype_of(other):
        raise Unsupported("its condition depends on the model's input, and its branches differ")
    return keras.ops.where(condition, _as_tensor(then), _as_tensor(other))


def run_loop(
    runner: Runner, source: OnnxNode, node: Node, inputs: Sequence[Value], scope: Scope
) -> tuple[Value, ...]:
    """The body as often as trip count and condition ask for."""
    body = _graph(source, "body")
    trips = None
    if inputs[0] is not None:
        trips = int(_number(inputs[0], "its trip count"))
    going = len(inputs) < 2 or inputs[1] is None or bool(_number(inputs[1], "its condition"))
    states = list(inputs[2:])
    names = [name for name, _ in body.inputs]
    if len(names) != len(states) + 2 or len(body.outputs) < len(states) + 1:
        raise Unsupported("its body takes or gives another number of values than the node")
    collected: list[list[Value]] = [[] for _ in body.outputs[len(states) + 1 :]]
    count = 0
    while going and (trips is None or count < trips):
        given = [np.asarray(count, np.int64), np.asarray(True), *states]
        outputs = runner.body(body, dict(zip(names, given, strict=True)), scope)
        states = outputs[1 : len(states) + 1]
        for kept, value in zip(collected, outputs[len(states) + 1 :], strict=True):
            kept.append(value)
        going = outputs[0] is None or bool(_number(outputs[0], "its condition"))
        count += 1
    empty = _empty_types(body, len(states) + 1)
    return (
        *states,
        *(_stacked(values, 0, kind) for values, kind in zip(collected, empty, strict=True)),
    )


def run_scan(
    runner: Runner, source: OnnxNode, node: Node, inputs: Sequence[Value], scope: Scope
) -> tuple[Value, ...]:
    """The body once for each slice of what is scanned."""
    body = _graph(source, "body")
    count = int(node.get("num_scan_inputs", 0))
    if node.since >= SCAN_WITHOUT_BATCH:
        return _scan(runner, body, node, count, inputs, scope)
    if inputs[0] is not None:
        raise Unsupported("Scan with sequence lengths, which later versions do not have")
    batch = [_unstacked(value, 0) for value in inputs[1:]]
    samples = [
        _scan(runner, body, node, count, list(sample), scope) for sample in zip(*batch, strict=True)
    ]
    return tuple(_stacked(list(values), 0, None) for values in zip(*samples, strict=True))


def _scan(
    runner: Runner,
    body: OnnxGraph,
    node: Node,
    count: int,
    inputs: Sequence[Value],
    scope: Scope,
) -> tuple[Value, ...]:
    states, scanned = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    names = [name for name, _ in body.inputs]
    given = len(body.outputs) - len(states)
    if not scanned or len(names) != len(inputs) or given < 0:
        raise Unsupported("its body takes or gives another number of values than the node")
    in_axes, out_axes = (
        _list(node, "scan_input_axes", count),
        _list(node, "scan_output_axes", given),
    )
    backward = _list(node, "scan_input_directions", count)
    backward = backward if node.since >= SCAN_WITHOUT_BATCH else _list(node, "directions", count)
    slices = [_unstacked(value, axis) for value, axis in zip(scanned, in_axes, strict=True)]
    slices = [s[::-1] if turned else s for s, turned in zip(slices, backward, strict=True)]
    if len({len(one) for one in slices}) != 1:
        raise Unsupported("what it scans has different lengths")
    collected: list[list[Value]] = [[] for _ in range(given)]
    for step in zip(*slices, strict=True):
        outputs = runner.body(body, dict(zip(names, [*states, *step], strict=True)), scope)
        states = outputs[: len(states)]
        for kept, value in zip(collected, outputs[len(states) :], strict=True):
            kept.append(value)
    turned = _list(node, "scan_output_directions", given)
    ordered = [kept[::-1] if back else kept for kept, back in zip(collected, turned, strict=True)]
    kinds = _empty_types(body, len(states))
    return (
        *states,
        *(
            _stacked(values, axis, kind)
            for values, axis, kind in zip(ordered, out_axes, kinds, strict=True)
        ),
    )


def run_sequence_map(
    runner: Runner, source: OnnxNode, node: Node, inputs: Sequence[Value], scope: Scope
) -> tuple[Value, ...]:
    """The body once for each element of the first input."""
    del node
    body = _graph(source, "body")
    names = [name for name, _ in body.inputs]
    if not isinstance(inputs[0], list) or len(names) != len(inputs):
        raise Unsupported("its body takes another number of values than the node")
    results: list[list[Value]] = [[] for _ in body.outputs]
    for place in range(len(inputs[0])):
        given = [value[place] if isinstance(value, list) else value for value in inputs]
        outputs = runner.body(body, dict(zip(names, given, strict=True)), scope)
        for kept, value in zip(results, outputs, strict=True):
            kept.append(value)
    return tuple(results)


CONTROL: Mapping[str, Control] = {
    "If": run_if,
    "Loop": run_loop,
    "Scan": run_scan,
    "SequenceMap": run_sequence_map,
}


def _graph(source: OnnxNode, name: str) -> OnnxGraph:
    graph = source.attributes.get(name)
    if not isinstance(graph, OnnxGraph):
        raise Unsupported(f"it has no {name}")
    return graph


def _number(value: Value, what: str) -> Any:
    found = concrete(value)
    if found is None or np.asarray(found).size != 1:
        raise Unsupported(f"{what} depends on the model's input")
    return np.asarray(found).reshape(())[()]


def _list(node: Node, name: str, count: int) -> list[int]:
    values = [int(value) for value in node.get(name, ())]
    return values if len(values) == count else [0] * count


def _as_tensor(value: Value) -> Value:
    return tensor(np.asarray(value)) if is_known(value) else value


def _unstacked(value: Value, axis: int) -> list[Value]:
    if is_known(value):
        return [np.asarray(part) for part in np.moveaxis(np.asarray(value), axis, 0)]
    shape = shape_of(value)
    if shape is None or not -len(shape) <= axis < len(shape) or shape[axis] is None:
        raise Unsupported("how long what it scans is depends on the model's input")
    return list(keras.ops.unstack(value, shape[axis], axis=axis)) if shape[axis] else []


def _stacked(values: list[Value], axis: int, kind: Value) -> Value:
    if not values:
        return kind
    if all_known(values):
        return np.stack([np.asarray(value) for value in values], axis=axis)
    return keras.ops.stack([_as_tensor(value) for value in values], axis=axis)


def _empty_types(body: OnnxGraph, start: int) -> list[Value]:
    """What is stacked of no repetition at all: nothing along the first axis."""
    empty = []
    for name in body.outputs[start:]:
        declared = body.types.get(name)
        shape = declared.shape if declared is not None and declared.shape is not None else ()
        sizes = [size if isinstance(size, int) else 0 for size in shape]
        dtype = declared.dtype if declared is not None and declared.dtype else "float32"
        dtype = "object" if dtype == "string" else dtype
        empty.append(np.zeros((0, *sizes), _numpy_dtype(dtype)))
    return empty


def _numpy_dtype(name: str) -> Any:
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)
