"""Kernels brought to unit variance in one pass, and the trial that is repeated with them."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.ops import convert_to_numpy

from auditor import audit
from auditor.measurement import LEARNS, learned_share
from auditor.probe.backends import load_backend
from auditor.probe.rescaling import unit_variance


def drawn(stddev, seed):
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def small(stddev=0.02):
    return {
        "kernel_initializer": drawn(stddev, seed=3),
        "bias_initializer": drawn(stddev, seed=4),
    }


def net(inputs, *stack):
    return keras.Sequential([inputs, *stack, layers.Flatten(), layers.Dense(5, name="head")])


IMAGES = keras.Input((8, 8, 3))
MODELS = {
    "dense": lambda: net(
        keras.Input((32,)), layers.Dense(24, "tanh", **small()), layers.Dense(16, **small(9.0))
    ),
    "dense on rows": lambda: net(keras.Input((6, 8)), layers.Dense(8, "relu", **small())),
    "einsum": lambda: net(
        keras.Input((6, 8)),
        layers.EinsumDense("abc,cd->abd", (6, 7), bias_axes="d", activation="gelu", **small()),
    ),
    "convolutions": lambda: net(
        IMAGES,
        layers.Conv2D(8, 3, activation="relu", **small()),
        layers.Conv2D(8, 3, groups=2, **small(0.5)),
        layers.Conv2DTranspose(4, 3, **small()),
    ),
    "depthwise": lambda: net(
        IMAGES,
        layers.DepthwiseConv2D(3, depthwise_initializer=drawn(0.01, seed=1)),
        layers.ReLU(),
        layers.SeparableConv2D(
            6,
            3,
            activation="relu",
            depthwise_initializer=drawn(0.01, seed=1),
            pointwise_initializer=drawn(0.02, seed=2),
            bias_initializer=drawn(0.001, seed=3),
        ),
    ),
    "normalized": lambda: net(
        keras.Input((32,)), layers.Dense(24, **small()), layers.BatchNormalization(), layers.ReLU()
    ),
}


@pytest.fixture
def rescaled(passes):
    """The factors for a model's first batch, applied to it, and that batch."""

    def run(model):
        made = passes(model, batches=1, batch_size=32)
        x = made.prepared.batches[0].x
        found = unit_variance(
            model,
            made.graph,
            made.prepared.inputs,
            x,
            backend=load_backend(keras.backend.backend()),
        )
        return found, x

    return run


def deviations(model, x, names):
    """Of what each kernel gives, before the layer's activation."""
    stages = []
    values = keras.ops.convert_to_tensor(x)
    for layer in model.layers:
        if layer.name in names:
            activation, layer.activation = layer.activation, keras.activations.linear
            values = layer(values)
            layer.activation = activation
            stages.append(np.std(convert_to_numpy(values)))
            values = activation(values)
        else:
            values = layer(values, training=True) if "norm" in layer.name else layer(values)
    return stages


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_brought_to_unit_variance(name, rescaled):
    model = MODELS[name]()
    model.compile("sgd", "mse")
    kernels = [
        layer.name
        for layer in model.layers[:-1]
        if isinstance(getattr(layer, "activation", None), type(keras.activations.relu))
        and layer.weights
    ]
    found, (x,) = rescaled(model)
    assert len(found.kernels) == len(kernels) > 0
    assert max(abs(np.log10(deviations(model, x, kernels)))) > 0.2
    found.apply(model.trainable_variables)
    assert deviations(model, x, kernels) == pytest.approx([1.0] * len(kernels), rel=1e-4)
    assert found.decades == pytest.approx(sum(np.log10(found.kernels)))


def test_weights_are_multiplied_and_biases_with_them(rescaled):
    model = MODELS["dense"]()
    model.compile("sgd", "mse")
    first, second, head = (layer for layer in model.layers if layer.weights)
    start = [[convert_to_numpy(w) for w in layer.weights] for layer in (first, second, head)]
    found, _ = rescaled(model)
    assert all(
        np.array_equal(convert_to_numpy(w), was)
        for layer, weights in zip((first, second, head), start, strict=True)
        for w, was in zip(layer.weights, weights, strict=True)
    )
    found.apply(model.trainable_variables)
    for layer, weights, factor in zip((first, second), start, found.kernels, strict=False):
        for weight, was in zip(layer.weights, weights, strict=True):
            np.testing.assert_allclose(convert_to_numpy(weight), factor * was, rtol=1e-6)
    assert found.kernels[0] > 1 > found.kernels[1]
    for weight, was in zip(head.weights, start[2], strict=True):
        np.testing.assert_array_equal(convert_to_numpy(weight), was)


def test_what_is_shared_is_scaled_once_by_its_first_call(rescaled):
    shared = layers.Dense(8, activation="relu", **small())
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(shared(shared(inputs))))
    model.compile("sgd", "mse")
    kernel = convert_to_numpy(shared.kernel)
    found, (x,) = rescaled(model)
    (factor,) = found.kernels
    assert factor == pytest.approx(1 / np.std(x @ kernel + convert_to_numpy(shared.bias)), rel=1e-4)
    found.apply(model.trainable_variables)
    np.testing.assert_allclose(convert_to_numpy(shared.kernel), factor * kernel, rtol=1e-6)


class Own(layers.Dense):
    """Says nothing of what its output is to its kernel."""


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(8, trainable=False),
        layers.Dense(8, activation=layers.LeakyReLU()),
        Own(8),
        layers.LSTM(8),
        layers.BatchNormalization(),
    ],
    ids=["frozen", "layer as activation", "own layer", "recurrent", "normalization"],
)
def test_other_layers_are_left_as_they_are(layer, rescaled):
    inputs = keras.Input((6, 8) if isinstance(layer, layers.LSTM) else (8,))
    model = net(inputs, layer)
    model.compile("sgd", "mse")
    assert rescaled(model)[0].kernels == ()


@pytest.mark.parametrize("stddev", [0.0, np.inf, np.nan], ids=["zero", "infinite", "NaN"])
def test_no_factor_where_the_deviation_is_none(stddev, rescaled):
    kernel = keras.initializers.Constant(stddev)
    model = net(keras.Input((8,)), layers.Dense(8, kernel_initializer=kernel))
    model.compile("sgd", "mse")
    assert rescaled(model)[0].kernels == (1.0,)


def test_a_pass_that_fails_leaves_the_activations(passes):
    model = MODELS["dense"]()
    model.compile("sgd", "mse")
    made = passes(model, batches=1)
    backend = load_backend(keras.backend.backend())
    activations = [getattr(layer, "activation", None) for layer in model.layers]
    with pytest.raises(Exception, match="."):
        unit_variance(
            model, made.graph, made.prepared.inputs, [np.ones((4, 31), "f4")], backend=backend
        )
    assert [getattr(layer, "activation", None) for layer in model.layers] == activations


def stack(stddev, depth=16, rate=0.05):
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *(
                layers.Dense(64, "relu", kernel_initializer=drawn(stddev, seed=index))
                for index in range(depth)
            ),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model


def test_a_signal_that_fades_is_found_to_be_the_kernels_scale():
    """Each layer takes √(64/2)·0.08 = 0.45 of the signal: 10⁻⁵·⁵ of sixteen."""
    model = stack(0.08)
    before = [convert_to_numpy(w) for w in model.weights]
    result = audit(model, curvature=0)
    assert all(
        np.array_equal(convert_to_numpy(w), was)
        for w, was in zip(model.weights, before, strict=True)
    )
    assert all(layer.activation is keras.activations.relu for layer in model.layers[:-1])
    probe, rescaled = result.probe, result.probe.rescaled_trial
    assert len(probe.trial) == 201
    assert learned_share(probe.trial, probe.trial_constant) < 0.1
    assert rescaled.kernels == 16
    assert rescaled.decades == pytest.approx(-16 * np.log10(np.sqrt(32) * 0.08), abs=0.6)
    assert rescaled.learns(probe.trial_constant)
    assert learned_share(rescaled.losses, probe.trial_constant) > LEARNS
    (finding,) = (f for f in result.findings if f.code == "GEB502")
    assert "LSUV" in finding.remedy
    assert {"loss after the trial", "the same, kernels rescaled"} <= {
        item.name for item in finding.evidence
    }


def test_a_model_that_learns_is_not_tried_again():
    probe = audit(stack(0.18, depth=3, rate=0.1), curvature=0).probe
    assert probe.rescaled_trial is None
    assert len(probe.trial) < 201


def test_nor_is_one_whose_scale_is_right():
    """A rate of nothing: it learns as little at any scale."""
    probe = audit(stack(0.18, depth=3, rate=1e-9), curvature=0).probe
    assert len(probe.trial) == 201
    assert probe.rescaled_trial is None
