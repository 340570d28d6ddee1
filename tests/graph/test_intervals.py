"""Intervals hold every value that Keras computes, and claim nothing of what is not understood."""

import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
from builders import GraphBuilder, constant
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph import Op
from auditor.graph.interval import EVERYTHING, Interval, hull
from auditor.graph.interval_pointwise import activated
from auditor.graph.intervals import intervals
from auditor.graph.operators import ACTIVATIONS

Tensor = keras.KerasTensor

ends = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))
spans = st.tuples(ends, ends).map(lambda pair: Interval(low=min(pair), high=max(pair)))
shares = st.floats(0, 1)


def inside(span: Interval, share: float) -> float:
    return min(max(span.low + share * (span.high - span.low), span.low), span.high)


@given(spans, spans, shares, shares)
def test_arithmetic_holds_every_pair(one: Interval, other: Interval, a: float, b: float) -> None:
    x, y = inside(one, a), inside(other, b)
    slack = 1e-9 * (1 + one.magnitude) * (1 + other.magnitude)
    for made, value in ((one + other, x + y), (one - other, x - y), (one * other, x * y)):
        assert made.low - slack <= value <= made.high + slack
    made = one / other
    if other.holds(0.0):
        assert made == EVERYTHING
    else:
        assert made.low - abs(x / y) * 1e-9 <= x / y <= made.high + abs(x / y) * 1e-9
    assert hull([one, other]).holds(x)
    assert one.with_zero().holds(0.0)


def test_products_with_infinite_ends() -> None:
    positive = Interval(low=0.0, high=math.inf)
    assert positive * positive == positive
    assert positive * EVERYTHING == EVERYTHING
    assert (Interval(low=1.0, high=1.0) / Interval(low=2.0, high=math.inf)).low == 0.0


@pytest.mark.parametrize("name", sorted(ACTIVATIONS - {"glu", "prelu", "threshold"}))
def test_activations_hold_what_keras_gives(name: str) -> None:
    rng = np.random.default_rng(0)
    phi = keras.activations.get(name)
    for low, high in ((-4.0, 3.0), (0.0, 2.0), (-80.0, 80.0), (-2.0, -1.0), (0.5, 80.0)):
        x = rng.uniform(low, high, (8, 64)).astype("float32")
        x[0, :2] = low, high
        span = Interval(low=low, high=high)
        value = ops.convert_to_numpy(phi(ops.convert_to_tensor(x))).astype(float)
        for made in (activated(name, {}, span), activated(name, {}, None)):
            if made is not None:
                slack = 1e-5 * (1 + abs(value).max())
                assert made.low - slack <= value.min(), (name, low, high, made)
                assert value.max() <= made.high + slack, (name, low, high, made)
    known = {"relu", "gelu", "sigmoid", "tanh", "softmax", "softplus", "silu", "elu", "exponential"}
    if name in known:
        assert activated(name, {}, Interval(low=0.0, high=1.0)) is not None


def small_cnn(x: Tensor) -> Tensor:
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="gelu")(x)
    x = layers.DepthwiseConv2D(3, padding="valid", bias_initializer="random_normal")(x)
    x = layers.MaxPooling2D()(layers.ReLU(max_value=6.0)(x))
    x = layers.Dropout(0.4)(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="tanh")(x)
    x = layers.ZeroPadding2D()(layers.AveragePooling2D(2, padding="same")(x + 3.0))
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def arithmetic(x: Tensor) -> Tensor:
    x = layers.Flatten()(layers.Rescaling(1 / 255)(x))
    one = layers.Dense(8, activation="sigmoid")(x)
    other = layers.Dense(8, activation="softplus", bias_initializer="ones")(x)
    total = 2.0 * one - other / 3.0 + 0.25
    quotient = one / (1.0 + other)
    root = ops.sqrt(ops.square(total) + ops.abs(quotient) + 1e-6)
    power = ops.power(root, -0.5)
    log = ops.log(ops.maximum(one, 1e-4))
    merged = layers.Concatenate()([total, quotient, power, log, 1.0 / (root + 1.0)])
    clipped = ops.clip(merged, -2.0, 5.0)
    summed = ops.sum(ops.exp(clipped), axis=-1, keepdims=True)
    mean = ops.mean(merged, axis=-1, keepdims=True)
    peak = ops.max(merged, axis=-1, keepdims=True) - ops.norm(merged, axis=-1, keepdims=True)
    squares = ops.log1p(one * one)
    low = ops.minimum(squares, one)
    return layers.Concatenate()([ops.log(summed), mean, peak, layers.Average()([low, squares])])


def sequences(x: Tensor) -> Tensor:
    x = layers.Reshape((12, 12))(layers.Rescaling(0.01)(x)[:, :, :, 0])
    x = layers.LSTM(6, return_sequences=True)(x)
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    x = layers.Attention()([y, y])
    weights = ops.softmax(ops.matmul(x, ops.transpose(y, (0, 2, 1))))
    x = ops.matmul(weights, y)
    x = layers.UnitNormalization()(layers.SimpleRNN(5, activation="sigmoid")(x))
    return ops.sin(x) * ops.square(x)


@pytest.mark.parametrize("build", [small_cnn, arithmetic, sequences])
@pytest.mark.parametrize("training", [False, True])
def test_every_value_lies_inside(build: Callable[[Tensor], Tensor], training: bool) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((12, 12, 1))
    model = keras.Model(inputs, build(inputs))
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    found = intervals(graph)
    tensors = {
        node.operation.name: node.outputs[0]
        for nodes in model._nodes_by_depth.values()
        for node in nodes
    }
    names = [call.id for call in graph.calls if call.id in found and call.id in tensors]
    inner = keras.Model(inputs, [tensors[name] for name in names])
    rng = np.random.default_rng(0)
    batches = [
        rng.uniform(0, 255, (16, 12, 12, 1)),
        255.0 * rng.integers(0, 2, (16, 12, 12, 1)),
        np.zeros((4, 12, 12, 1)),
        np.full((4, 12, 12, 1), 255.0),
    ]
    for batch in batches:
        for name, value in zip(
            names, inner(batch.astype("float32"), training=training), strict=True
        ):
            span, seen = found[name], ops.convert_to_numpy(value)
            slack = 1e-4 * (1 + float(np.abs(seen).max()))
            assert span.low - slack <= seen.min(), (name, span, seen.min())
            assert seen.max() <= span.high + slack, (name, span, seen.max())
    assert len(names) >= 0.8 * len(graph.calls)
    assert sum(found[name].bounded for name in names) >= 0.7 * len(names)


def test_an_unknown_input_is_not_claimed() -> None:
    build = GraphBuilder()
    x = build.input((4,))
    y = build.add(Op.ELEMENTWISE, x, kind="Log")
    mystery = build.add(Op.OPAQUE, y, kind="Mystery")
    z = build.dense(x, 3)
    found = intervals(build.graph(z, mystery))
    assert x not in found
    assert y not in found
    assert mystery not in found
    assert found[z] == EVERYTHING


def test_a_bank_of_filters_on_an_unknown_input_is_not_claimed() -> None:
    # It may be a spectrum, which is never negative.
    build = GraphBuilder()
    x = build.dense(build.input((4,)), 3, kernel=constant(0.2))
    assert x not in intervals(build.graph(x))


def test_only_what_is_wanted_is_followed() -> None:
    build = GraphBuilder()
    x = build.input((4,))
    one, other = build.dense(x, 3, "relu"), build.dense(x, 3, "tanh")
    found = intervals(build.graph(one, other), {one})
    assert one in found
    assert other not in found


def test_odd_settings_never_raise() -> None:
    build = GraphBuilder()
    x = build.input((4,), dtype="uint8")
    x = build.add(Op.SCALE, x, kind="Rescaling", config={"scale": "x"})
    x = build.add(Op.ELEMENTWISE, x, kind="Clip", config={"x_min": [1, 2]})
    x = build.add(Op.DROPOUT, x, config={"rate": "half"})
    x = build.add(Op.PAD, x, config={"value": {}})
    x = build.add(Op.REDUCE, x, kind="Sum", config={"axis": "last"})
    x = build.add(Op.ELEMENTWISE, x, kind="Power", config={"arguments": [None, None]})
    x = build.add(Op.MATMUL, x, x, kind="Matmul")
    assert x not in intervals(build.graph(x))
