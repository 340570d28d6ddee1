"""What no file tells is opaque, with a reason, and keeps configuration, weights and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from auditor.formats.keras_config import graph_from_config
from auditor.formats.keras_layers import OPAQUE_LAYERS
from auditor.formats.read import read_model
from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import Op

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`"),
]


@keras.saving.register_keras_serializable("tests")
class Gated(layers.Layer):
    """A custom layer with variables of its own, layers in attributes and in a list."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.gate = layers.Dense(units, activation="sigmoid")
        self.stack = [layers.Dense(units), layers.BatchNormalization()]

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(self.units,), initializer="ones")
        self.gate.build(shape)
        self.stack[0].build(shape)
        self.stack[1].build((*shape[:-1], self.units))

    def call(self, x: Any) -> Any:
        y = x
        for layer in self.stack:
            y = layer(y)
        return self.gate(x) * y * self.scale

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
class Halving(layers.SimpleRNNCell):
    """A cell of one's own."""


@keras.saving.register_keras_serializable("tests")
class Tower(keras.Model):
    """A subclassed model among the layers of a functional one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.first, self.second = layers.Dense(3), layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def saved(layer: Any, size: tuple[int, ...], path: Path) -> tuple[keras.Model, LayerCall]:
    keras.utils.clear_session()
    entry = keras.Input(size)
    model = keras.Model(entry, layers.Flatten()(layer(entry)))
    model.save(path)
    return model, read_model(path).graph.calls[1]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("make", "size", "reason"),
    [
        (lambda: Gated(4, name="own"), (6,), "Gated"),
        (lambda: Tower(name="own"), (6,), "Tower"),
        (lambda: layers.Lambda(lambda x: x * 2, name="own"), (6,), "Lambda"),
        (lambda: layers.TimeDistributed(Gated(4), name="own"), (5, 6), "Gated"),
    ],
)
def test_custom_classes_keep_what_the_file_says(
    make: Any, size: tuple[int, ...], reason: str, suffix: str, tmp_path: Path
) -> None:
    model, call = saved(make(), size, tmp_path / f"model{suffix}")
    layer = model.layers[1]
    assert (call.id, call.op) == ("own", Op.OPAQUE)
    assert reason in call.note
    assert call.parameters == layer.count_params()
    values = sorted(float(np.sum(weight.read())) for weight in call.weights if weight.read)
    own = sorted(float(np.sum(np.asarray(variable))) for variable in layer.weights)
    assert values == pytest.approx(own)
    if isinstance(layer, Gated):
        assert call.config["units"] == 4
    if suffix == ".keras":
        assert call.out_shapes == (tuple(layer.output.shape),)


def test_a_cell_of_ones_own_is_recurrent(tmp_path: Path) -> None:
    _, call = saved(layers.RNN(Halving(3)), (5, 6), tmp_path / "model.keras")
    assert call.op is Op.RECURRENT
    assert "Halving" in call.note
    assert call.parameters == 6 * 3 + 3 * 3 + 3


@pytest.mark.parametrize("kind", sorted(OPAQUE_LAYERS))
def test_layers_of_other_frameworks_are_opaque_with_a_reason(kind: str) -> None:
    layer = {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": "it", "trainable": True, "filepath": "/nowhere", "module": "x"},
    }
    entry = {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 4]}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [entry, layer]}}
    call = graph_from_config(config, format="keras", writer="keras 3.15.1").calls[1]
    assert (call.op, call.note) == (Op.OPAQUE, OPAQUE_LAYERS[kind])
    assert call.config["trainable"] is True
    assert call.in_shapes == ((None, 4),)


def test_a_wrapper_around_a_model_says_so(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.BatchNormalization()])
    model, call = saved(layers.TimeDistributed(inner), (5, 6), tmp_path / "model.keras")
    assert call.op is Op.OPAQUE
    assert "whole model" in call.note
    assert call.parameters == model.count_params()
    assert [weight.name for weight in call.weights] == [
        "dense/kernel", "dense/bias", "batch_normalization/gamma", "batch_normalization/beta",
        "batch_normalization/moving_mean", "batch_normalization/moving_variance",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_an_unbuilt_sequential_has_layers_and_nothing_else(tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = keras.Sequential([layers.Dense(3, name="a"), layers.ReLU(name="b")])
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"model{suffix}"
        model.save(path)
        graph = read_model(path).graph
        assert [call.id for call in graph.calls] == ["a_input", "a", "b"]
        assert [call.op for call in graph.calls[1:]] == [Op.DENSE, Op.ACTIVATION]
        assert all(call.out_shapes == (None,) and not call.weights for call in graph.calls)
