"""Growth along time, against products of exact Jacobians in NumPy's double precision."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from auditor.measurement import TimeGrowth
from auditor.probe.backends import load_backend
from auditor.probe.recording import RecordedCall
from auditor.probe.recurrent_time import STEPS, runs_along_time, time_growth
from auditor.probe.state import preserved

BACKEND = load_backend(keras.backend.backend())
Step = Callable[[Any, Any], Any]


def recorded(layer: Any, *args: Any, training: bool = True, **kwargs: Any) -> RecordedCall:
    """A call as it would be recorded."""
    return RecordedCall(
        id=layer.name,
        operation=layer,
        args=args,
        kwargs=kwargs,
        training=training,
        batch=int(args[0].shape[0]),
        outputs=(),
    )


def sequences(batch: int = 4, steps: int = 60, features: int = 3, *, scale: float = 1.0) -> Any:
    values = scale * np.random.default_rng(0).standard_normal((batch, steps, features))
    return ops.convert_to_tensor(values.astype(np.float32))


def measured(layer: Any, *args: Any, seed: int = 0, **kwargs: Any) -> TimeGrowth:
    if not layer.built:
        layer(args[0])
    found = time_growth(recorded(layer, *args, **kwargs), BACKEND, seed)
    assert isinstance(found, TimeGrowth), found
    return found


def scaled_orthogonal(scale: float) -> Any:
    return layers.SimpleRNN(
        16, activation=None, recurrent_initializer=keras.initializers.Orthogonal(scale)
    )


def built(layer: Any, x: Any) -> Any:
    layer(x)
    return layer


def weights(cell: Any) -> list[Any]:
    return [ops.convert_to_numpy(weight).astype(np.float64) for weight in cell.trainable_weights]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def simple_step(cell: Any) -> Step:
    kernel, recurrent, bias = weights(cell)
    return lambda x, h: np.tanh(x @ kernel + h @ recurrent + bias)


def lstm_step(cell: Any) -> Step:
    kernel, recurrent, bias = weights(cell)

    def step(x: Any, state: Any) -> Any:
        h, c = np.split(state, 2)
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return np.concatenate([sigmoid(o) * np.tanh(c), c])

    return step


def gru_step(cell: Any) -> Step:
    kernel, recurrent, (bias, recurrent_bias) = weights(cell)

    def step(x: Any, h: Any) -> Any:
        of_x = np.split(x @ kernel + bias, 3)
        of_h = np.split(h @ recurrent + recurrent_bias, 3)
        z, r = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        return z * h + (1 - z) * np.tanh(of_x[2] + r * of_h[2])

    return step


def exact_growth(step: Step, x: Any, size: int) -> float:
    """The growth of one sample, `x` `(steps, features)`, over all cotangents of the last state.

    The root mean square of ‖g_t‖ over Gaussian cotangents is the Frobenius norm of the product
    of the Jacobians, here by central differences in double precision; its regression on t.
    """
    states = [np.zeros(size)]
    for row in x:
        states.append(step(row, states[-1]))
    product = np.eye(size)
    logs = [np.log(np.linalg.norm(product))]
    width = 1e-6
    for row, state in zip(x[::-1], states[-2::-1], strict=True):
        jacobian = np.stack(
            [
                (step(row, state + width * unit) - step(row, state - width * unit)) / (2 * width)
                for unit in np.eye(size)
            ],
            axis=1,
        )
        product = product @ jacobian
        logs.append(np.log(np.linalg.norm(product)))
    return math.exp(np.polyfit(np.arange(len(logs)), logs, 1)[0])


@pytest.mark.parametrize("scale", [1.0, 0.3, 3.0, 1e-4])
def test_a_scaled_orthogonal_recurrence_grows_by_its_scale(scale: float) -> None:
    growth = measured(scaled_orthogonal(scale), sequences(steps=300)).growth
    assert growth.value == pytest.approx(scale, rel=1e-6)
    assert abs(growth.value - scale) <= growth.error
    assert growth.error < 1e-5 * scale


def test_states_that_overflow_end_the_sequence_that_is_run() -> None:
    # 3 to the 81 is the last that single precision holds.
    found = measured(scaled_orthogonal(3.0), sequences(steps=100))
    assert 70 < found.steps < 90
    assert found.growth.products == found.steps
    assert found.length == 100


@pytest.mark.parametrize(
    ("layer", "step", "size"),
    [
        (layers.LSTM(12), lstm_step, 24),
        (layers.GRU(12), gru_step, 12),
        (layers.SimpleRNN(12), simple_step, 12),
        (
            layers.SimpleRNN(
                12, recurrent_initializer=keras.initializers.RandomNormal(0, 1.5 / 12**0.5)
            ),
            simple_step,
            12,
        ),
    ],
    ids=["lstm", "gru", "simple", "simple, wide"],
)
def test_against_exact_products(layer: Any, step: Callable[[Any], Step], size: int) -> None:
    # One object serves one run of the test.
    layer = layer.__class__.from_config(layer.get_config())
    x = sequences()
    growth = measured(built(layer, x), x).growth
    exact = [
        exact_growth(step(layer.cell), row, size)
        for row in ops.convert_to_numpy(x).astype(np.float64)
    ]
    assert abs(growth.value - np.median(exact)) <= growth.error
    assert growth.error < 0.3 * growth.value


def test_the_product_of_one_cotangent_is_exact() -> None:
    """The same cotangent through exact Jacobians gives the same regression, sample by sample."""
    x = sequences(batch=1, steps=20)
    layer = built(layers.SimpleRNN(6), x)
    growth = measured(layer, x, seed=5).growth
    kernel, recurrent, bias = weights(layer.cell)
    states = [np.zeros(6)]
    for row in ops.convert_to_numpy(x)[0].astype(np.float64):
        states.append(np.tanh(row @ kernel + states[-1] @ recurrent + bias))
    g = np.random.default_rng([5, 0x74696D65]).standard_normal((1, 6))[0]
    logs = [np.log(np.linalg.norm(g))]
    for state in states[:0:-1]:
        g = recurrent @ ((1 - state**2) * g)
        logs.append(np.log(np.linalg.norm(g)))
    slope = np.polyfit(np.arange(len(logs)), logs, 1)[0]
    assert growth.value == pytest.approx(math.exp(slope), rel=1e-6)


def test_the_interval_covers_the_exact_growth_of_random_cells() -> None:
    rng = np.random.default_rng(0)
    x = sequences(batch=3, steps=30)
    layer = built(layers.SimpleRNN(8), x)
    kernel, recurrent, bias = layer.cell.trainable_weights
    covered = 0
    for seed in range(20):
        kernel.assign(rng.normal(0, rng.uniform(0.1, 1.0), kernel.shape))
        recurrent.assign(rng.normal(0, rng.uniform(0.3, 2.0) / 8**0.5, recurrent.shape))
        bias.assign(rng.normal(0, 0.5, bias.shape))
        growth = measured(layer, x, seed=seed).growth
        exact = np.median(
            [
                exact_growth(simple_step(layer.cell), row, 8)
                for row in ops.convert_to_numpy(x).astype(np.float64)
            ]
        )
        covered += abs(growth.value - exact) <= growth.error
    # 95 % is stated; of 20 intervals that do hold it, fewer than 17 cover once in sixty times.
    assert covered >= 17


def test_a_masked_step_is_no_step() -> None:
    x = ops.convert_to_numpy(sequences(batch=3, steps=12))
    mask = np.ones((3, 20), bool)
    mask[:, :8] = False  # padded in front, as keras.utils.pad_sequences does
    padded = np.concatenate([np.full((3, 8, 3), 1e3, np.float32), x], axis=1)
    layer = built(layers.LSTM(5), x)
    whole = measured(layer, ops.convert_to_tensor(x))
    tensor = ops.convert_to_tensor(padded)
    keras.src.backend.set_keras_mask(tensor, ops.convert_to_tensor(mask))
    assert measured(layer, tensor) == whole
    explicit = measured(layer, ops.convert_to_tensor(padded), mask=ops.convert_to_tensor(mask))
    assert explicit == whole
    assert whole.length == whole.steps == 12


def test_sequences_of_different_lengths() -> None:
    x = sequences(batch=3, steps=40)
    layer = scaled_orthogonal(0.5)
    mask = np.arange(40) < np.array([40, 25, 2])[:, None]
    found = measured(layer, x, mask=ops.convert_to_tensor(mask))
    assert (found.steps, found.length) == (40, 40)
    assert found.growth.low == pytest.approx(0.5, rel=1e-5)
    assert found.growth.high == pytest.approx(0.5, rel=1e-5)
    # The third is too short for a regression.
    assert "2 samples" in found.growth.method


def test_backwards_runs_from_the_end() -> None:
    x = sequences(steps=15)
    layer = built(layers.GRU(5), x)
    reverse = built(layers.GRU(5, go_backwards=True), x)
    reverse.set_weights(layer.get_weights())
    # Of random cells, so that only the right order gives the same growth.
    assert measured(reverse, ops.flip(x, axis=1)) == measured(layer, x)
    assert measured(reverse, x) != measured(layer, x)


def test_the_state_it_starts_from() -> None:
    x = sequences(steps=6, scale=0.0)
    # Saturated at the start, a tanh without input lets less through than one that starts at zero.
    layer = built(layers.SimpleRNN(8), x)
    start = ops.ones((4, 8))
    assert measured(layer, x).growth.value == pytest.approx(1.0, rel=1e-5)
    assert measured(layer, x, initial_state=start).growth.value < 0.99


def test_a_stateful_layer_starts_from_the_state_it_holds() -> None:
    x = sequences(steps=6, scale=0.0)
    layer = layers.SimpleRNN(8, stateful=True)
    layer.build(x.shape)
    assert measured(layer, x).growth.value == pytest.approx(1.0, rel=1e-5)
    layer.states[0].assign(np.ones((4, 8)))
    assert measured(layer, x).growth.value < 0.99


def test_a_bidirectional_layer_has_the_direction_further_from_one() -> None:
    wild = scaled_orthogonal(2.0)
    tame = scaled_orthogonal(0.9)
    tame.go_backwards = True
    layer = layers.Bidirectional(wild, backward_layer=tame)
    x = sequences(steps=20)
    found = measured(layer, x)
    assert found.growth.value == pytest.approx(2.0, rel=1e-5)
    assert "forward" in found.growth.method
    tame.cell.recurrent_kernel.assign(0.1 * tame.cell.recurrent_kernel.value)
    found = measured(layer, x)
    assert found.growth.value == pytest.approx(0.09, rel=1e-5)
    assert "backward" in found.growth.method


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.ConvLSTM1D(2, 3),
        lambda: layers.ConvLSTM2D(2, 3, recurrent_dropout=0.2),
        lambda: layers.ConvLSTM3D(2, 2),
    ],
    ids=["1d", "2d", "3d"],
)
def test_convolutional_recurrence(layer: Callable[[], Any]) -> None:
    made = layer()
    shape = (2, 10, *[4] * (made.input_spec.ndim - 3), 3)
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    found = measured(built(made, x), x)
    # Of these gates near their initial values, the forget gate passes on sigmoid(1) = 0.73.
    assert 0.5 < found.growth.value < 1.1


class Halving(keras.layers.Layer):
    """A cell whose state is a quarter of the last, plus noise and the input."""

    state_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.noise = layers.GaussianNoise(0.5)
        self.dropout = layers.Dropout(0.5)

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        # Two draws a step, one of which the Jacobian depends on.
        kept = self.dropout(states[0], training=training)
        state = 0.25 * kept + self.noise(inputs, training=training)
        return state, [state]


def test_a_custom_cell_with_one_draw_for_all_steps() -> None:
    x = sequences()
    layer = built(layers.RNN(Halving()), x)
    with preserved(layer) as state:
        found = []
        for _ in range(2):
            state.begin_pass(3)
            found.append(measured(layer, x))
    assert found[0] == found[1]
    # What is kept is doubled: with one mask for all steps the units that are kept halve their
    # gradient at each, and the others lose it at the last. With new masks none would be left.
    assert found[0].growth.high == pytest.approx(0.5, rel=0.02)
    assert measured(layer, x, training=False).growth.value == pytest.approx(0.25, rel=1e-5)


def test_stacked_cells_with_dropout_leave_no_mask_behind() -> None:
    x = sequences(steps=20)
    cells = [layers.LSTMCell(4, recurrent_dropout=0.5), layers.GRUCell(5, dropout=0.5)]
    layer = built(layers.RNN(layers.StackedRNNCells(cells)), x)
    with preserved(layer) as state:
        before = layer.get_weights()
        found = []
        for _ in range(2):
            state.begin_pass(1)
            found.append(measured(layer, x))
    assert found[0] == found[1]
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
    assert cells[0]._recurrent_dropout_mask is None
    assert cells[1]._dropout_mask is None


def test_a_dead_recurrence_has_growth_zero() -> None:
    layer = layers.SimpleRNN(4, activation="relu", recurrent_initializer="zeros")
    growth = measured(layer, sequences()).growth
    assert (growth.value, growth.low, growth.high, growth.error) == (0.0, 0.0, 0.0, 0.0)


def test_half_precision_neither_overflows_nor_underflows() -> None:
    x = sequences(steps=100)
    layer = layers.SimpleRNN(
        16,
        activation=None,
        recurrent_initializer=keras.initializers.Orthogonal(0.25),
        dtype="mixed_float16",
    )
    growth = measured(built(layer, x), x).growth
    # 0.25 to the 100 is far below the smallest half.
    assert abs(growth.value - 0.25) <= growth.error < 0.005


def test_long_sequences_and_large_batches_are_cut() -> None:
    found = measured(scaled_orthogonal(0.9), sequences(batch=30, steps=400))
    assert (found.steps, found.length, found.growth.products) == (STEPS, 400, STEPS)
    assert "8 samples" in found.growth.method


def test_the_same_seed_gives_the_same_numbers() -> None:
    x = sequences(steps=10)
    layer = built(layers.LSTM(4), x)
    assert measured(layer, x) == measured(layer, x)
    assert measured(layer, x) != measured(layer, x, seed=1)


class OwnLoop(layers.SimpleRNN):
    def inner_loop(self, *args: Any, **kwargs: Any) -> Any:
        return super().inner_loop(*args, **kwargs)


class Failing(keras.layers.Layer):
    state_size = 3

    def call(self, inputs: Any, states: Any) -> Any:
        raise RuntimeError("no step\nat all")


def test_reasons() -> None:
    x = sequences()
    spoiled = built(layers.GRU(3), x)
    spoiled.cell.recurrent_kernel.assign(np.full((3, 9), np.nan))
    empty = ops.convert_to_tensor(np.zeros((4, 60), bool))
    cases = (
        (recorded(layers.LSTM(3), x[:, :2]), "fewer than 3 steps"),
        (recorded(layers.LSTM(3), x, mask=empty), "fewer than 3 steps"),
        (recorded(OwnLoop(3), x), "a loop of its own"),
        (recorded(layers.RNN(Failing()), x), "its cell raised RuntimeError: no step"),
        (recorded(spoiled, x), "not finite from step 1 on"),
    )
    for call, reason in cases:
        found = time_growth(call, BACKEND, 0)
        assert isinstance(found, str)
        assert reason in found


def test_which_calls() -> None:
    assert runs_along_time(layers.Bidirectional(layers.LSTM(1)))
    assert runs_along_time(layers.ConvLSTM2D(1, 1))
    assert not runs_along_time(layers.TimeDistributed(layers.Dense(1)))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = "lstm or one_cotangent or masked_step or custom_cell or bidirectional"
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-o", "addopts=--import-mode=importlib --strict-markers", __file__, "-k", chosen),
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[2],
        check=True,
    )
