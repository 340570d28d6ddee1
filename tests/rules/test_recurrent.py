"""GEB304: what a recurrent kernel does to the state over time."""

import keras
import numpy as np
import pytest
from keras import layers

from auditor.finding import Severity
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph import LayerGraph, Op
from auditor.graph.recurrence import _cell, recurrences
from auditor.graph.recurrent_cells import gru, lstm, simple


def read(layer: keras.Layer, steps: int | None = 100) -> LayerGraph:
    model = keras.Sequential([keras.Input((steps, 4)), layer, layers.Dense(1)])
    model.compile("adam", "mse")
    return read_live_model(model, DEFAULT_LIMITS).graph


def wide(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev, seed=1)


@pytest.mark.parametrize(
    ("layer", "severity"),
    [
        (layers.SimpleRNN(32, activation="relu", recurrent_initializer=wide(0.4)), Severity.ERROR),
        (layers.SimpleRNN(64, recurrent_initializer=wide(0.5)), Severity.ERROR),
        (layers.LSTM(64, recurrent_initializer=wide(1.0)), Severity.ERROR),
        (layers.GRU(64, recurrent_initializer=wide(1.0)), Severity.ERROR),
        (layers.SimpleRNN(32, activation="relu", recurrent_initializer=wide(0.2)), None),
        (layers.SimpleRNN(32, activation="relu", recurrent_initializer="identity"), None),
        (layers.SimpleRNN(32, activation="linear"), None),
        (layers.SimpleRNN(64, recurrent_initializer="glorot_uniform"), None),
        (layers.Bidirectional(layers.LSTM(16)), None),
        (layers.GRU(32, reset_after=False), None),
    ],
    ids=lambda value: value.name if isinstance(value, keras.Layer) else "",
)
def test_exploding_kernels_and_healthy_ones(findings, layer, severity) -> None:
    found = findings("GEB304", read(layer))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_open_length_is_no_error(findings) -> None:
    layer = layers.SimpleRNN(32, activation="relu", recurrent_initializer=wide(0.4))
    (finding,) = findings("GEB304", read(layer, None))
    assert finding.severity is Severity.WARNING
    assert "length is open" in finding.message


def test_trained_kernel_is_a_guess(findings) -> None:
    layer = layers.SimpleRNN(32, activation="relu")
    graph = read(layer)
    layer.set_weights([layer.get_weights()[0], 2.5 * np.eye(32, dtype="float32"), np.ones(32)])
    (finding,) = findings("GEB304", read(layer))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, "low")
    assert recurrences(graph)


def test_frozen_layer_is_not_judged(findings) -> None:
    layer = layers.SimpleRNN(
        32, activation="relu", recurrent_initializer=wide(0.4), trainable=False
    )
    assert findings("GEB304", read(layer)) == ()


def test_missing_forget_bias_over_long_sequences_is_a_note(findings) -> None:
    layer = layers.LSTM(16, unit_forget_bias=False)
    (finding,) = findings("GEB304", read(layer))
    assert finding.severity is Severity.INFO
    assert findings("GEB304", read(layer, 10)) == ()


def test_rate_of_a_linear_orthogonal_kernel_is_its_gain() -> None:
    for gain in (0.9, 1.0, 1.1):
        orthogonal = keras.initializers.Orthogonal(gain=gain, seed=0)
        layer = layers.SimpleRNN(16, activation="linear", recurrent_initializer=orthogonal)
        (found,) = recurrences(read(layer))
        assert found.rate == pytest.approx(gain, rel=1e-5)
        assert found.total == pytest.approx(gain**100, rel=1e-3)
        assert found.radius == pytest.approx(gain, rel=1e-5)


@pytest.mark.parametrize(
    ("layer", "make"),
    [
        (layers.SimpleRNN(5), simple),
        (layers.LSTM(5), lstm),
        (layers.GRU(5), gru),
        (layers.GRU(5, reset_after=False), gru),
    ],
    ids=["simple", "lstm", "gru", "gru-reset-before"],
)
def test_cells_are_those_of_keras_and_their_derivatives_exact(layer, make) -> None:
    call = next(c for c in read(layer).calls if c.op in (Op.SIMPLE_RNN, Op.LSTM, Op.GRU))
    cell = _cell(call)
    assert cell is not None
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 4))
    count = 2 if call.op is Op.LSTM else 1
    state = tuple(random.normal(size=(3, 5)) for _ in range(count))
    change = tuple(random.normal(size=(3, 5)) for _ in range(count))
    step, entering = make(cell), x @ cell.kernel + cell.bias[0]
    values, moved = step(entering, state, change)
    own, _ = layer.cell(x.astype("float32"), [part.astype("float32") for part in state])
    # single precision in Keras, double here
    assert np.asarray(own) == pytest.approx(values[0], abs=1e-6)
    ends = [
        step(
            entering, tuple(s + sign * 1e-6 * d for s, d in zip(state, change, strict=True)), change
        )[0]
        for sign in (1, -1)
    ]
    # a central difference of 1e-6 in double precision is exact to about 1e-9
    for up, down, exact in zip(*ends, moved, strict=True):
        assert (up - down) / 2e-6 == pytest.approx(exact, abs=1e-8)
