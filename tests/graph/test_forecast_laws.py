"""Laws of attention, recurrence and merges, against random layers computed in numpy and Keras."""

import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
from builders import GraphBuilder, normal
from keras import layers

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph import Op
from auditor.graph.activations import curve
from auditor.graph.attention_laws import concentration
from auditor.graph.forecast import forecast

Tensor = keras.KerasTensor


@pytest.mark.parametrize("keys", [2, 16, 100])
@pytest.mark.parametrize("variance", [0.0, 0.3, 2.0, 10.0, 100.0])
def test_concentration_of_softmax_weights(keys: int, variance: float) -> None:
    rng = np.random.default_rng(0)
    scores = math.sqrt(variance) * rng.standard_normal((20_000, keys))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    truth = float(np.square(weights).sum(axis=1).mean())
    # The sum of all other exponentials is taken as a number, which it is not for few keys.
    assert concentration(keys, variance) == pytest.approx(truth, rel=0.25 if keys == 2 else 0.15)


def test_concentration_at_its_ends() -> None:
    assert concentration(8, 0.0) == pytest.approx(1 / 8)
    assert concentration(1, 3.0) == 1.0
    assert concentration(8, 1e9) == pytest.approx(1.0, abs=0.05)


def measured(model: keras.Model, names: list[str]) -> tuple[list[float], list[float]]:
    """Mean squares of the calls' outputs, and norms of a random cotangent's gradient there."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    inner = keras.Model(model.input, [model.get_layer(name).output for name in names])
    shape = (32, *model.input.shape[1:])
    x = tf.constant(rng.standard_normal(shape).astype("float32"))
    tensors = {}
    with tf.GradientTape(persistent=True) as tape:
        value = x
        for layer in model.layers[1:]:
            value = layer(value, value) if "attention" in layer.name else layer(value)
            tensors[layer.name] = value
        cotangent = rng.standard_normal(value.shape).astype("float32")
        loss = tf.reduce_sum(value * cotangent)
    squares = [float(tf.reduce_mean(tf.square(tensors[name]))) for name in names]
    norms = [float(tf.norm(tape.gradient(loss, tensors[name]))) for name in names]
    assert len(inner.outputs) == len(names)
    return squares, norms


def stacked(cell: Callable[..., keras.Layer], *, last: bool) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((12, 64))
    for place in range(4):
        x = cell(64, return_sequences=place < 3 or not last, name=f"cell_{place}")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("cell", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize("last", [False, True])
def test_recurrent_stacks(cell: Callable[..., keras.Layer], last: bool) -> None:
    model = stacked(cell, last=last)
    names = [f"cell_{place}" for place in range(4)]
    squares, norms = measured(model, names)
    made = forecast(read_live_model(model, DEFAULT_LIMITS).graph)
    assert made is not None
    assert made.covered == 1.0
    # That the gates of neighbouring steps are alike is not followed, and adds up over the layers.
    for place, name in enumerate(names[:3]):
        tolerance = 0.15 * (place + 1)
        assert made.calls[name].variance == pytest.approx(squares[place], rel=tolerance)
    # The gain of a call is that on the gradient's norm from its output to its input.
    predicted = math.prod(made.calls[name].gain for name in names[1:])
    assert predicted ** (1 / 3) == pytest.approx((norms[0] / norms[3]) ** (1 / 3), rel=0.15)


def test_attention_averages_what_differs_between_positions() -> None:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((24, 64))
    x = layers.MultiHeadAttention(4, 16, name="attention_0")(inputs, inputs)
    x = layers.MultiHeadAttention(4, 16, name="attention_1")(x, x)
    model = keras.Model(inputs, x)
    names = ["attention_0", "attention_1"]
    squares, norms = measured(model, names)
    made = forecast(read_live_model(model, DEFAULT_LIMITS).graph)
    assert made is not None
    for name, square in zip(names, squares, strict=True):
        assert made.calls[name].variance == pytest.approx(square, rel=0.25)
    assert made.calls["attention_1"].gain == pytest.approx(norms[0] / norms[1], rel=0.2)


def chained(merge: Callable[[GraphBuilder, str], str]) -> tuple[float, float]:
    """Mean square of a merge of one tensor's functions, and the gradient there over that after."""
    build = GraphBuilder()
    x = build.dense(build.input((256,)), 256, kernel=normal(1 / 16), bias=None)
    y = merge(build, x)
    out = build.dense(y, 256, kernel=normal(1 / 16), bias=None)
    made = forecast(build.graph(build.dense(out, 10)))
    assert made is not None
    return made.calls[y].variance, made.covered


@pytest.mark.parametrize(
    ("merge", "phi"),
    [
        (
            lambda b, x: b.add(Op.MULTIPLY, x, b.activation(x, "sigmoid")),
            lambda z: z / (1 + np.exp(-z)),
        ),
        (lambda b, x: b.add(Op.ADD, x, b.activation(x, "relu")), lambda z: z + np.maximum(z, 0)),
        (lambda b, x: b.add(Op.SUBTRACT, x, b.activation(x, "tanh")), lambda z: z - np.tanh(z)),
        (lambda b, x: b.add(Op.MULTIPLY, x, x), lambda z: z * z),
        (
            lambda b, x: b.add(Op.ADD, b.activation(x, "relu"), b.activation(x, "elu")),
            lambda z: np.maximum(z, 0) + np.where(z > 0, z, np.expm1(z)),
        ),
    ],
    ids=["silu", "leaky", "tanh_shrink", "square", "two"],
)
def test_branches_without_a_kernel_are_correlated(
    merge: Callable[[GraphBuilder, str], str], phi: Callable[[np.ndarray], np.ndarray]
) -> None:
    z = np.random.default_rng(0).standard_normal(400_000)
    variance, covered = chained(merge)
    assert covered == 1.0
    assert variance == pytest.approx(float(np.square(phi(z)).mean()), rel=0.03)


def test_gradients_of_correlated_branches_add_up() -> None:
    # x·sigmoid(x) built by hand is SiLU: the same growth a layer.
    def rate(*, by_hand: bool) -> float:
        build = GraphBuilder()
        x = build.input((128,))
        for _ in range(8):
            x = build.dense(x, 128, kernel=normal(0.2), bias=None)
            if by_hand:
                x = build.add(Op.MULTIPLY, x, build.activation(x, "sigmoid"))
            else:
                x = build.activation(x, "silu")
        made = forecast(build.graph(build.dense(x, 10)))
        assert made is not None
        calls = made.calls.values()
        last = [call.variance for call in calls]
        assert len(last) == len(build.calls)
        assert made.growth_rate is not None
        return made.growth_rate

    # The hand-made one is measured a call earlier, before the product, at all layers alike.
    assert rate(by_hand=True) == pytest.approx(rate(by_hand=False), rel=0.05)


def test_the_larger_of_two() -> None:
    build = GraphBuilder()
    x = build.input((256,))
    one = build.dense(x, 256, kernel=normal(1 / 16), bias=None)
    other = build.dense(x, 256, kernel=normal(2 / 16), bias=None)
    y = build.add(Op.MAXIMUM, one, other)
    made = forecast(build.graph(build.dense(y, 10)))
    assert made is not None
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(400_000), 2 * rng.standard_normal(400_000)
    truth = float(np.square(np.maximum(a, b)).mean())
    assert made.calls[y].variance == pytest.approx(truth, rel=0.05)
    assert made.calls[y].gain == pytest.approx(math.sqrt(0.5), rel=0.01)


@pytest.mark.parametrize("kind", ["Mean", "Sum"])
def test_reductions_over_positions(kind: str) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((10, 64)), 64, "relu", kernel=normal(0.125), bias=None)
    y = build.add(Op.REDUCE, x, kind=kind, shape=(None, 64), config={"axis": 1})
    made = forecast(build.graph(build.dense(y, 10)))
    assert made is not None
    # A ReLU unit's samples have mean 1/√(2π) and variance 1/2 − 1/(2π).
    mean = 1 / math.sqrt(2 * math.pi)
    truth = mean**2 + (0.5 - mean**2) / 10
    scale = 10 if kind == "Sum" else 1
    assert made.calls[y].variance == pytest.approx(scale**2 * truth, rel=0.1)
    assert made.calls[y].gain == pytest.approx(scale / math.sqrt(10), rel=1e-6)


def test_pooled_gradients_pass_attention_whole() -> None:
    # A gradient that is the same at all positions is not averaged away: Σᵢ aᵢⱼ is about 1.
    def gain(*, pooled: bool) -> float:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((32, 32))
        x = layers.MultiHeadAttention(2, 16, name="attention")(inputs, inputs)
        x = layers.GlobalAveragePooling1D()(x) if pooled else layers.Flatten()(x)
        model = keras.Model(inputs, layers.Dense(3)(x))
        made = forecast(read_live_model(model, DEFAULT_LIMITS).graph)
        assert made is not None
        return made.calls["attention"].gain

    assert gain(pooled=True) > 2 * gain(pooled=False)


def test_curves_of_operations() -> None:
    build = GraphBuilder()
    x = build.dense(build.input((256,)), 256, "tanh", kernel=normal(1 / 16), bias=None)
    y = build.add(Op.ELEMENTWISE, x, kind="Absolute")
    made = forecast(build.graph(build.dense(y, 4)))
    assert made is not None
    # |tanh| has tanh's square, and slopes of the same size.
    assert made.calls[y].variance == pytest.approx(made.calls[x].variance, rel=1e-6)
    assert made.calls[y].gain == pytest.approx(1.0, rel=1e-6)
    assert curve("absolute", {}) is None
