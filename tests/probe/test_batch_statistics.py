"""Over how many values batch normalizations took their statistics, and what is said of it."""

import keras
import numpy as np
import pytest
from keras import layers

from auditor import audit
from auditor.measurement import FEWEST_NORMALIZED
from auditor.result import Verdict


def normalized(norm=None, batch=None):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), batch_size=batch),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            *(layers.Dense(16, activation="relu") for _ in range(4)),
            layers.Dense(16, use_bias=False),
            layers.BatchNormalization() if norm is None else norm,
            layers.ReLU(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("settings", "count"), [({}, 16), ({"batch_size": 2}, 2), ({"batch_size": 9}, 9)]
)
def test_the_fewest_values_of_any(settings, count):
    assert audit(normalized(), curvature=0, **settings).probe.normalized_values == count


def test_positions_count_and_what_is_frozen_does_not():
    frozen = layers.BatchNormalization(trainable=False)
    probe = audit(normalized(frozen), batch_size=2, curvature=0).probe
    assert probe.normalized_values == 2 * 4 * 4
    frozen = audit(normalized(layers.LayerNormalization()), batch_size=1, curvature=0)
    assert frozen.probe.normalized_values == 4 * 4


def test_a_model_that_takes_no_other_batch_is_measured_as_it_will_train():
    assert audit(normalized(batch=4), curvature=0).probe.normalized_values is None


def test_nothing_is_normalized_over_the_batch():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    assert audit(model, loss="mse", curvature=0).probe.normalized_values is None


def test_small_batches_leave_propagation_unjudged_with_the_reason():
    result = audit(normalized(), batch_size=2, curvature=0)
    assert result.verdict is Verdict.UNKNOWN
    assert not result.at_least("error")
    reasons = {skipped.code: skipped.reason for skipped in result.skipped}
    for code in ("GEB501", "GEB502", "GEB508"):
        assert "2 values to normalize" in reasons[code]
    assert "2 values to normalize" in result.risk_skipped
    assert audit(normalized(), curvature=0).verdict is Verdict.STABLE


def test_what_few_values_keep_of_a_gradient():
    """√((m − 2)/m) of its norm on average: what the threshold stands on."""

    def kept(count):
        rng = np.random.default_rng(0)
        shares = []
        for _ in range(400):
            x, g = rng.normal(size=(2, count))
            centred = x - x.mean()
            scale = np.sqrt(np.mean(centred**2) + 1e-3)
            unit = centred / scale
            back = (g - g.mean() - unit * np.mean(unit * g)) / scale
            shares.append(np.sum((back * scale) ** 2) / np.sum(g**2))
        return np.sqrt(np.mean(shares))

    assert kept(2) < 0.2
    for count in (4, FEWEST_NORMALIZED):
        assert kept(count) == pytest.approx(np.sqrt((count - 2) / count), rel=0.05)
