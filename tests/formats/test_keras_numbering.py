"""Ids of calls are those that a program arrives at which watches the model run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.ops.operation import Operation

from auditor.formats.read import read_model
from auditor.graph.operators import Op

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def watched(monkeypatch: pytest.MonkeyPatch, model: keras.Model, inputs: list[Any]) -> list[str]:
    """Ids in the order of running, from a stack of names with one counter a frame."""
    ids: list[str] = []
    stack: list[tuple[str, dict[str, int]]] = [("", {})]
    inside_leaf = False

    def watching(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, *arguments: Any, **keywords: Any) -> Any:
            nonlocal inside_leaf
            if inside_leaf or self is model:
                return call(self, *arguments, **keywords)
            prefix, counts = stack[-1]
            count = counts[self.name] = counts.get(self.name, 0) + 1
            call_id = prefix + (self.name if count == 1 else f"{self.name}#{count}")
            if isinstance(self, keras.Model):
                stack.append((f"{call_id}/", {}))
                try:
                    return call(self, *arguments, **keywords)
                finally:
                    stack.pop()
            ids.append(call_id)
            inside_leaf = True
            try:
                return call(self, *arguments, **keywords)
            finally:
                inside_leaf = False

        return wrapped

    of_layer, of_operation = layers.Layer.__call__, Operation.__call__
    watched_operation = watching(of_operation)

    def operation_call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        # A layer's call ends in an operation's call, which is the same call.
        call = of_operation if isinstance(self, layers.Layer) else watched_operation
        return call(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(layers.Layer, "__call__", watching(of_layer))
        patch.setattr(Operation, "__call__", operation_call)
        model(inputs)
    return ids


def nested(chance: random.Random, name: str) -> keras.Model:
    entry = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    x = shared(entry)
    y = shared(layers.ReLU(name="relu")(x))
    if chance.random() < 0.5:
        x, y = y, x
    ends = layers.Add(name="sum")([x, y]) if chance.random() < 0.5 else [x, y]
    return keras.Model(entry, ends, name=name)


def random_model(seed: int) -> tuple[keras.Model, list[Any]]:
    chance = random.Random(seed)
    keras.utils.clear_session()
    inner: list[Any] = [nested(chance, "first"), nested(chance, "second")]
    inner.append(keras.Sequential([layers.Dense(6, name="p"), layers.Dense(6, name="q")]))
    shared = [layers.Dense(6, name=f"dense{index}") for index in range(3)]
    inputs = [keras.Input((6,), name=f"input{i}") for i in range(chance.randint(1, 3))]
    pool: list[Any] = list(inputs)
    for _ in range(chance.randint(5, 18)):
        kind, tensor = chance.random(), chance.choice(pool)
        if kind < 0.35:
            pool.append(chance.choice(shared)(tensor))
        elif kind < 0.6:
            pool.extend(keras.tree.flatten(chance.choice(inner)(tensor)))
        elif kind < 0.75:
            pool.append(tensor + chance.choice(pool))
        elif kind < 0.85:
            pool.append(ops.relu(tensor))
        else:
            pool.append(layers.Concatenate()([tensor, chance.choice(pool)])[:, :6])
    ends = pool[len(inputs) :]
    outputs = chance.sample(ends, min(2, len(ends)))
    return keras.Model(inputs, outputs), [np.zeros((2, 6), "float32") for _ in inputs]


@pytest.mark.parametrize("seed", range(20))
def test_ids_and_their_order_are_those_of_running(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = random_model(seed)
    path = tmp_path / "model.keras"
    model.save(path)
    graph = read_model(path).graph
    read = [call.id for call in graph.calls if call.op is not Op.INPUT]
    assert read == watched(monkeypatch, model, inputs)
    # What is loaded again runs as what was saved did.
    assert read == watched(monkeypatch, keras.models.load_model(path), inputs)
    assert graph.parameters == model.count_params()
    shapes = [graph.by_id[call].out_shapes[slot] for call, slot in graph.outputs]
    assert shapes == [tuple(output.shape) for output in model.outputs]
