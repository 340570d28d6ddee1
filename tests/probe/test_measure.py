"""Measurements against plain references: numpy and tf.GradientTape."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from auditor.errors import ProbeFailed


@pytest.fixture
def data(tmp_path):
    """An .npz of exactly one batch, so that a reference can be computed on the same samples."""

    def save(x, y, name="data.npz"):
        path = tmp_path / name
        np.savez(path, x=x, y=y)
        return path

    return save


def test_every_measure_of_a_small_net_agrees_with_a_gradient_tape(probe, sequential, data):
    model = sequential(
        keras.Input((6, 6, 2)),
        layers.Conv2D(3, 3, activation="relu", name="conv"),
        layers.Flatten(name="flat"),
        layers.Dense(5, activation="tanh", name="hidden"),
        layers.Dense(1, name="out"),
        optimizer=keras.optimizers.SGD(0.01),
    )
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 6, 6, 2)).astype("float32")
    y = rng.normal(size=(8, 1)).astype("float32")
    result = probe(model, data=data(x, y), batches=1, batch_size=8)

    hidden = {}
    with tf.GradientTape(persistent=True) as tape:
        h = tf.constant(x)
        for layer in model.layers:
            h = layer(h)
            tape.watch(h)
            hidden[layer.name] = h
        loss = tf.reduce_mean(tf.square(hidden["out"] - y))
    assert result.loss_at_start == pytest.approx(float(loss), rel=1e-5)
    for name, h in hidden.items():
        measured = result.calls[name]
        samples = tf.reshape(tape.gradient(loss, h), (8, -1)).numpy() * 8
        norm = np.median(np.linalg.norm(samples, axis=1))
        assert measured.gradient_norm == pytest.approx(norm, rel=1e-5)
        assert measured.gradient_rms == pytest.approx(norm / math.sqrt(samples.shape[1]), rel=1e-5)
        assert measured.mean == pytest.approx(float(np.mean(h)), abs=1e-6)
        assert measured.rms == pytest.approx(float(np.sqrt(np.mean(np.square(h)))), rel=1e-5)
        assert measured.max_abs == pytest.approx(float(np.max(np.abs(h))), rel=1e-6)
        assert measured.zero_share == pytest.approx(float(np.mean(h.numpy() == 0)), abs=1e-6)
    for name in ("conv", "hidden", "out"):
        weights = model.get_layer(name).trainable_variables
        gradients = [tape.gradient(loss, w.value) for w in weights]
        norm = math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
        assert result.calls[name].weight_gradient_norm == pytest.approx(norm, rel=1e-5)
        size = math.sqrt(sum(float(tf.reduce_sum(w.value**2)) for w in weights))
        assert result.calls[name].weight_norm == pytest.approx(size, rel=1e-5)
        # Plain gradient descent moves by the rate times the gradient; Δw = w′ − w loses digits.
        assert result.calls[name].update_ratio == pytest.approx(0.01 * norm / size, rel=1e-4)
    total = math.sqrt(
        sum(result.calls[n].weight_gradient_norm ** 2 for n in ("conv", "hidden", "out"))
    )
    assert result.gradient_norm.p50 == pytest.approx(total, rel=1e-5)
    assert result.calls["flat"].weight_norm is None
    assert result.first_nonfinite_forward is None
    assert result.first_nonfinite_backward is None


def test_dead_and_saturated_shares(probe, sequential, data):
    dead = np.array([[1.0, -1.0, 1.0, -1.0]], "float32")
    model = sequential(
        keras.Input((1,)),
        layers.Dense(4, name="fused", activation="relu", use_bias=False),
        layers.Dense(2, name="squash", activation="tanh", use_bias=False),
        layers.Dense(1, name="out"),
    )
    model.get_layer("fused").set_weights([dead])
    model.get_layer("squash").set_weights([np.array([[9.0, 0.1]] * 4, "float32")])
    x = np.linspace(0.5, 1.0, 16, dtype="float32")[:, None]
    result = probe(model, data=data(x, x), batch_size=16)
    assert result.calls["fused"].dead_share == 0.5
    assert result.calls["fused"].zero_share == 0.5
    assert result.calls["squash"].saturated_share == 0.5
    assert result.calls["squash"].dead_share is None
    assert result.calls["fused"].saturated_share is None


def test_units_of_a_convolution_are_its_channels(probe, sequential, data):
    kernel = np.zeros((1, 1, 1, 4), "float32")
    kernel[..., 0] = 1.0
    model = sequential(
        keras.Input((3, 3, 1)),
        layers.Conv2D(4, 1, use_bias=False, name="conv"),
        layers.ReLU(name="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1),
    )
    model.get_layer("conv").set_weights([kernel])
    x = np.ones((4, 3, 3, 1), "float32")
    result = probe(model, data=data(x, np.ones((4, 1))))
    assert result.calls["relu"].dead_share == 0.75
    assert result.calls["conv"].dead_share is None


def test_gradients_near_the_end_of_single_precision_are_finite(probe, sequential, data):
    # The norm is 1e20 and more: its square is no single precision number.
    model = sequential(
        keras.Input((4,)),
        layers.Dense(4, kernel_initializer=keras.initializers.Constant(1e10), name="a"),
        layers.Dense(4, kernel_initializer=keras.initializers.Constant(1e10), name="b"),
        layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e-20), name="out"),
    )
    result = probe(model, data=data(np.ones((4, 4), "float32"), np.zeros((4, 1), "float32")))
    assert result.first_nonfinite_forward is None
    assert result.first_nonfinite_backward is None
    assert result.calls["b"].rms == pytest.approx(1.6e21, rel=1e-4)


def test_the_first_nonfinite_calls_are_named(probe, sequential):
    huge = [
        layers.Dense(8, kernel_initializer=keras.initializers.Constant(1e15), name=f"dense_{i}")
        for i in range(4)
    ]
    result = probe(sequential(keras.Input((8,)), *huge, layers.Dense(1, name="out")))
    assert result.first_nonfinite_forward == "dense_2"
    assert result.first_nonfinite_backward == "out"
    assert not result.calls["dense_2"].finite_forward
    assert result.calls["dense_1"].finite_forward
    assert result.calls["dense_1"].rms > 1e30


def test_an_overflow_on_the_way_back_is_told_apart_from_one_forward(probe, sequential, data):
    # Tiny activations times huge weights: forward stays small, the gradient does not.
    model = sequential(
        keras.Input((2,)),
        layers.Dense(2, kernel_initializer=keras.initializers.Constant(1e-20), name="tiny"),
        layers.Dense(2, kernel_initializer=keras.initializers.Constant(1e25), name="one"),
        layers.Dense(2, kernel_initializer=keras.initializers.Constant(1e25), name="two"),
        layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e-5), name="out"),
    )
    result = probe(model, data=data(np.full((4, 2), 1e-20, "float32"), np.full((4, 1), 1e20)))
    assert result.first_nonfinite_forward is None
    assert result.first_nonfinite_backward == "one"


def test_nan_weights_are_located(probe, sequential):
    model = sequential(
        keras.Input((4,)),
        layers.Dense(4, name="fine"),
        layers.Dense(4, name="bad"),
        layers.Dense(1),
    )
    kernel, bias = model.get_layer("bad").get_weights()
    kernel[0, 0] = np.nan
    model.get_layer("bad").set_weights([kernel, bias])
    result = probe(model)
    assert result.first_nonfinite_forward == "bad"
    assert math.isnan(result.loss_at_start)
    assert result.growth_rate is None


def test_a_model_without_weights_is_measured(probe, sequential):
    result = probe(
        sequential(
            keras.Input((8, 8, 3)), layers.Dropout(0.5, name="drop"), layers.ReLU(name="relu")
        )
    )
    assert result.calls["drop"].zero_share == pytest.approx(0.5, abs=0.05)
    assert result.calls["drop"].gradient_norm > 0
    assert result.calls["relu"].gradient_norm > 0
    assert result.gradient_norm is None
    assert result.growth_rate is None
    assert result.trial_losses == ()


def test_half_precision_is_probed_with_a_loss_scale(probe, sequential):
    wide = {"dtype": "mixed_float16", "activation": "relu"}
    # A gradient this small is lost in half precision (below 6e-8) unless the loss is scaled.
    model = sequential(
        keras.Input((8,)),
        layers.Dense(8, name="a", **wide),
        layers.Dense(8, name="b", **wide),
        layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e-8), dtype="float32"),
    )
    result = probe(model)
    assert 0 < result.calls["a"].gradient_norm < 1e-6
    assert "mixed_float16" in result.dtype


def test_gradients_do_not_depend_on_the_batch_size(probe, sequential, data):
    model = sequential(keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(1))
    x = np.tile(np.arange(6, dtype="float32").reshape(2, 3), (8, 1))
    norms = [
        probe(model, data=data(x, x[:, :1]), batch_size=16, batches=1).calls["a"].gradient_norm,
        probe(model, data=data(x[:2], x[:2, :1]), batches=1).calls["a"].gradient_norm,
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(probe, sequential):
    model = sequential(
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
        loss="categorical_crossentropy",
        optimizer="adam",
    )
    first, again, other = (probe(model, seed=seed) for seed in (5, 5, 6))
    assert first.calls == again.calls
    assert first.trial_losses == again.trial_losses
    assert first.step_curvature == again.step_curvature
    assert first.calls != other.calls


def test_penalties_enter_the_gradient_and_not_the_loss_at_start(probe, sequential, data):
    def build(penalty):
        dense = layers.Dense(1, kernel_initializer="ones", kernel_regularizer=penalty, name="out")
        return sequential(keras.Input((3,)), dense)

    path = data(np.ones((4, 3), "float32"), np.zeros((4, 1), "float32"))
    plain, penalized = (
        probe(build(penalty), data=path) for penalty in (None, keras.regularizers.L2(10.0))
    )
    assert plain.loss_at_start == pytest.approx(penalized.loss_at_start)
    assert plain.trial_losses[0] < penalized.trial_losses[0]
    assert (
        plain.calls["out"].weight_gradient_norm < 0.9 * penalized.calls["out"].weight_gradient_norm
    )


def test_the_penalties_part_of_a_gradient_is_exact(probe, sequential, data):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
    regularizers = keras.regularizers
    model = sequential(
        keras.Input((5,)),
        layers.Dense(
            6,
            activation="tanh",
            kernel_regularizer=regularizers.L1L2(0.3, 0.2),
            bias_regularizer=regularizers.L1(0.1),
            name="both",
        ),
        layers.Dense(4, kernel_regularizer=regularizers.L2(3.0), name="strong"),
        layers.Dense(3, name="plain"),
        layers.Dense(2, kernel_regularizer=regularizers.OrthogonalRegularizer(), name="other"),
    )
    # A bias of 0 has no penalty's gradient by any framework.
    model.get_layer("both").bias.assign([0.0, 1.0, -2.0, 0.0, 3.0, 0.5])
    result = probe(model, data=data(x, y), batch_size=8, batches=1)

    def norm(tensors):
        return math.sqrt(sum(float(tf.reduce_sum(t**2)) for t in tensors))

    for name in ("both", "strong"):
        weights = [w.value for w in model.get_layer(name).trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
            layer = model.get_layer(name)
            penalty = sum(
                v.regularizer(v) for v in layer.trainable_variables if v.regularizer is not None
            )
        own = [tape.gradient(penalty, w, unconnected_gradients="zero") for w in weights]
        seen = result.calls[name]
        assert seen.penalty_gradient_norm == pytest.approx(norm(own), rel=1e-5)
        rest = norm(tape.gradient(loss, w) for w in weights)
        assert seen.unpenalized_gradient_norm == pytest.approx(rest, rel=1e-4)
        whole = [tape.gradient(loss, w) + g for w, g in zip(weights, own, strict=True)]
        assert seen.weight_gradient_norm == pytest.approx(norm(whole), rel=1e-5)
    for name in ("plain", "other"):
        assert result.calls[name].penalty_gradient_norm is None
        assert result.calls[name].unpenalized_gradient_norm is None


def test_a_softmax_head_is_differentiated_at_its_logits(probe, sequential, data):
    model = sequential(
        keras.Input((3,)),
        layers.Dense(4, activation="softmax", name="head"),
        loss="sparse_categorical_crossentropy",
    )
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    labels = np.arange(8) % 4
    result = probe(model, data=data(x, labels), batch_size=8, batches=1)
    difference = model(x).numpy() - np.eye(4)[labels]
    expected = np.median(np.linalg.norm(difference, axis=1))
    assert result.calls["head"].gradient_norm == pytest.approx(expected, rel=1e-5)
    assert result.loss_expected == pytest.approx(math.log(4))


def test_states_of_a_recurrent_encoder_carry_its_gradient(probe):
    keras.utils.set_random_seed(0)
    source, target = keras.Input((5, 3)), keras.Input((4, 2))
    _, h, c = layers.LSTM(6, return_state=True, name="encoder")(source)
    x = layers.LSTM(6, name="decoder")(target, initial_state=[h, c])
    model = keras.Model([source, target], layers.Dense(1)(x))
    model.compile("sgd", "mse")
    assert probe(model).calls["encoder"].gradient_norm > 0


def test_a_layer_that_raises_is_named_in_one_line(probe, sequential):
    class Rogue(layers.Layer):
        def call(self, x, training=False):
            if training:
                raise RuntimeError("not in training")
            return x

    model = sequential(keras.Input((4,)), layers.Dense(4), Rogue(name="rogue"), layers.Dense(1))
    with pytest.raises(ProbeFailed, match=r"^rogue raised RuntimeError: not in training$"):
        probe(model)


def test_a_subclassed_model_is_measured_layer_by_layer(probe):
    class Deep(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = [layers.Dense(16, activation="relu", name=f"d{i}") for i in range(5)]
            self.head = layers.Dense(1, name="head")

        def call(self, x):
            for layer in self.stack:
                x = layer(x)
            return self.head(x)

    keras.utils.set_random_seed(0)
    model = Deep()
    model.compile("sgd", "mse")
    model(np.zeros((2, 16), "float32"))
    result = probe(model)
    assert {"d0", "d4", "head"} <= set(result.calls)
    assert result.growth_points == 5
    assert result.depth == 6
    assert any("order of execution" in words for words in result.assumptions)


def test_calls_of_the_graph_that_did_not_run_are_skipped_with_a_reason(probe):
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="used")(inputs)
    x = layers.Activation("relu", name="mask", dtype="float32")(x)
    ids = keras.ops.argmax(x, axis=-1)
    model = keras.Model(inputs, [layers.Dense(1, name="out")(x), ids])
    model.compile("sgd", ["mse", None])
    result = probe(model)
    name = ids._keras_history.operation.name
    assert result.skipped == {name: "its output holds no floating-point numbers"}
