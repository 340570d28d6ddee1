"""A live model is the same to the bit after a probe, however the probe ended."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from auditor.errors import ProbeFailed, UsageError
from auditor.probe.state import SEED_STATE


class Rogue(layers.Layer):
    """Fails in training, and only there."""

    def call(self, x, training=False):
        if training:
            raise RuntimeError("not in training")
        return x


def rich_model(*extra: layers.Layer) -> keras.Model:
    """Everything that has state: dropout, statistics, frozen weights, momenta, a spectral norm."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.SpatialDropout2D(0.2),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(6, activity_regularizer="l2")),
            layers.Dropout(0.5),
            layers.Dense(5, trainable=False),
            *extra,
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy", metrics=["accuracy"])
    if not extra:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
        model.fit(x, np.eye(3)[rng.integers(0, 3, 8)], epochs=2, verbose=0)
    return model


def everything(model: keras.Model) -> dict[str, object]:
    """All state of a model and of the random generators around it, comparable."""
    values = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return {
        "values": [
            np.array(keras.ops.convert_to_numpy(keras.ops.copy(v))).tobytes() for v in values
        ],
        "trainable": [layer.trainable for layer in model._flatten_layers()],
        "losses": [len(layer._losses) for layer in model._flatten_layers()],
        "optimizer": id(model.optimizer),
        "config": model.get_config(),
        "compile": model.get_compile_config(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tobytes(),
        "call": keras.layers.Layer.__call__,
    }


def test_a_probe_leaves_no_trace(probe):
    model = rich_model()
    before = everything(model)
    assert sum(variable.name == SEED_STATE for variable in model.variables) >= 3
    first = probe(model)
    assert everything(model) == before
    assert first.trial_losses[0] != first.trial_losses[-1]
    assert probe(model).calls == first.calls


def test_a_probe_that_raises_leaves_no_trace(probe):
    model = rich_model(Rogue())
    before = everything(model)
    with pytest.raises(ProbeFailed):
        probe(model)
    assert everything(model) == before


def test_a_probe_interrupted_in_its_trial_leaves_no_trace(probe, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    model = rich_model()
    before = everything(model)
    monkeypatch.setattr(keras.optimizers.Adam, "update_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        probe(model)
    assert everything(model) == before


def test_a_wrong_option_leaves_no_trace(probe):
    model = rich_model()
    before = everything(model)
    with pytest.raises(UsageError, match="no Keras loss is called 'crossentropi'"):
        probe(model, loss="crossentropi")
    assert everything(model) == before


def test_keras_global_generator_is_put_back(probe):
    class Noisy(layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x))

    model = keras.Sequential([keras.Input((3,)), Noisy(), layers.Dense(1)])
    model.compile("sgd", "mse")
    first = probe(model)
    keras.utils.set_random_seed(7)
    expected = np.array(keras.random.normal((4,)))
    keras.utils.set_random_seed(7)
    assert probe(model).calls == first.calls
    assert np.array_equal(np.array(keras.random.normal((4,))), expected)


def test_training_goes_on_as_if_nothing_had_been(probe):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
    weights = []
    for probed in (False, True):
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8), layers.Dropout(0.5), layers.Dense(1)]
        )
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.train_on_batch(x, y)
        if probed:
            probe(model)
        model.train_on_batch(x, y)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert np.array_equal(*weights)
