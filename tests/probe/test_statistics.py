"""What a compiled pass counts of bounded activations, against NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture
def values_of(tmp_path, probe, sequential):
    """Probe one activation of given values: the measurement of the call."""

    def run(values, activation="tanh", batches=1):
        values = np.asarray(values, "float32")
        path = tmp_path / "data.npz"
        np.savez(path, x=values, y=values[:, :1])
        model = sequential(
            keras.Input(values.shape[1:]),
            layers.Dense(
                values.shape[1],
                activation=activation,
                kernel_initializer="identity",
                use_bias=False,
                name="bounded",
            ),
            layers.Dense(1),
        )
        size = len(values) // batches
        return probe(model, data=path, batch_size=size, batches=batches).calls["bounded"]

    return run


def test_saturation_is_the_distribution_of_all_values(values_of):
    x = np.random.default_rng(0).normal(0, 1.5, (64, 8))
    found = values_of(x, batches=2)
    shares = np.abs(np.tanh(x.astype("float32")))
    assert found.saturation.count == 64 * 8
    assert found.saturation.mean == pytest.approx(shares.mean(), rel=1e-5)
    assert found.saturation.max == pytest.approx(shares.max(), rel=1e-6)
    quantiles = found.saturation.p10, found.saturation.p50, found.saturation.p90
    # Counted in bins of 1/40, read off evenly within them; NumPy interpolates between values.
    assert quantiles == pytest.approx(np.quantile(shares, (0.1, 0.5, 0.9)), abs=1 / 40)
    halves = [np.mean(half > 0.95) for half in (shares[:32], shares[32:])]
    assert found.saturated_share == pytest.approx(np.median(halves), abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "share"), [("sigmoid", np.tanh(0.5)), ("softsign", 0.5), ("hard_tanh", 1.0)]
)
def test_the_range_is_the_activations_own(values_of, activation, share):
    # σ(1) = (1 + tanh ½)/2 lies at tanh ½ of its half range; at −1 all three are as far out.
    found = values_of(np.array([[1.0, -1.0]] * 4), activation).saturation
    assert found.mean == pytest.approx(share, rel=1e-6)
    assert found.max == pytest.approx(share, rel=1e-6)
    assert found.p50 == pytest.approx(share, abs=1 / 40)


def test_full_saturation_and_none_stay_within_the_range(values_of):
    full = values_of(np.full((4, 2), 50.0)).saturation
    assert (full.mean, full.max) == (1.0, 1.0)
    assert 1 - 1 / 40 <= full.p10 <= full.p90 <= 1.0
    none = values_of(np.zeros((4, 2))).saturation
    assert (none.mean, none.p10, none.p90, none.max) == (0.0, 0.0, 0.0, 0.0)


def test_two_far_apart_halves_leave_the_middle_empty(values_of):
    found = values_of(np.array([[0.0, 50.0]] * 8)).saturation
    assert found.p10 <= 1 / 40
    assert found.p90 >= 1 - 1 / 40


def test_values_that_are_not_numbers_say_so(values_of):
    found = values_of(np.array([[np.nan, 1.0]] * 4)).saturation
    assert math.isnan(found.mean)
    assert math.isnan(found.p50)


@pytest.mark.parametrize("activation", ["relu", "softmax", None])
def test_other_activations_have_no_saturation(values_of, activation):
    assert values_of(np.ones((4, 2)), activation).saturation is None
