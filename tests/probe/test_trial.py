import math

import keras
import numpy as np
import pytest
from builders import GraphBuilder
from keras import layers

from auditor.errors import UsageError
from auditor.measurement import LEARNS, learned_share, learns
from auditor.probe.trial_cost import FURTHER, LONG, LONG_CALLS, further_steps, long_steps


@pytest.fixture
def quadratic(sequential, tmp_path):
    """A linear model under the squared error: loss, gradient and Hessian are known exactly."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
    path = tmp_path / "data.npz"
    np.savez(path, x=x, y=y)

    def build(optimizer):
        model = sequential(keras.Input((3,)), layers.Dense(1, use_bias=False), optimizer=optimizer)
        w = model.get_weights()[0].astype(float)
        gradient = 2 / 16 * x.T.astype(float) @ (x @ w - y)
        hessian = 2 / 16 * x.T.astype(float) @ x
        return model, path, w, gradient, hessian, lambda v: float(np.mean((x @ v - y) ** 2))

    return build


def test_gradient_descent_on_a_quadratic_is_followed_exactly(probe, quadratic):
    model, path, w, gradient, hessian, loss = quadratic(keras.optimizers.SGD(0.1))
    result = probe(model, data=path, batches=1, batch_size=16)
    expected = []
    for _ in range(5):
        expected.append(loss(w))
        w = w - 0.1 * _gradient(w, path)
    assert result.trial_losses == pytest.approx(expected, rel=1e-4)
    # d is minus the gradient, so dᵀ∇L = −‖g‖² and dᵀ∇²L d = gᵀHg.
    assert result.step_slope == pytest.approx(-(gradient.T @ gradient).item(), rel=1e-4)
    assert result.step_curvature == pytest.approx(
        (gradient.T @ hessian @ gradient).item(), rel=1e-2
    )


def test_further_steps_go_on_where_the_first_ones_end(probe, quadratic):
    model, path, w, _, _, loss = quadratic(keras.optimizers.SGD(0.1))
    result = probe(model, data=path, batches=1, batch_size=16)
    expected = []
    for _ in range(5 + FURTHER):
        expected.append(loss(w))
        w = w - 0.1 * _gradient(w, path)
    assert result.trial_further == pytest.approx(expected[5:], rel=1e-4)
    y = np.load(path)["y"]
    assert result.trial_constant == pytest.approx(float(np.var(y)), rel=1e-6)


def test_a_costly_model_takes_no_further_steps():
    build = GraphBuilder()
    x = build.input((512,))
    for _ in range(8):
        x = build.dense(x, 512, "relu")
    graph = build.graph(build.dense(x, 10, "softmax"))
    assert further_steps(graph, weights=graph.parameters, batch=32) == FURTHER
    assert further_steps(graph, weights=graph.parameters, batch=4096) == 0


@pytest.fixture
def learnable(sequential, tmp_path):
    """A linear model at zero, and targets that are linear in the inputs."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(16, 3)).astype("float32")
    path = tmp_path / "linear.npz"
    np.savez(path, x=x, y=x @ np.array([[1.0], [-2.0], [0.5]], "float32"))

    def build(rate):
        dense = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return sequential(keras.Input((3,)), dense, optimizer=keras.optimizers.SGD(rate)), path

    return build


def test_a_long_trial_ends_as_soon_as_it_learns(probe, learnable):
    """A rate at which twenty steps are too few, and two hundred are not."""
    rate = 2e-3
    model, path = learnable(rate)
    with np.load(path) as stored:
        x, y = stored["x"].astype(float), stored["y"].astype(float)
    constant, w = float(np.var(y)), np.zeros((3, 1))
    expected = [float(np.mean(y**2))]
    while len(expected) < 5 + FURTHER or not learns(tuple(expected), constant):
        w = w - rate * _gradient(w, path)
        expected.append(float(np.mean((x @ w - y) ** 2)))
    assert 5 + FURTHER < len(expected) < 5 + FURTHER + LONG
    result = probe(model, data=path, batches=1, batch_size=16)
    assert result.trial_long == pytest.approx(expected[5 + FURTHER :], rel=1e-4)
    assert result.trial == pytest.approx(expected, rel=1e-4)
    assert not learns(result.trial[:-1], constant)


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 0), (1e-9, LONG)], ids=["learns", "never"])
def test_long_trials_are_for_those_that_do_not_learn(rate, steps, probe, learnable):
    model, path = learnable(rate)
    assert len(probe(model, data=path, batches=1, batch_size=16).trial_long) == steps
    assert not model.get_weights()[0].any()


def test_a_costly_model_takes_no_long_steps():
    def graph(depth, width):
        build = GraphBuilder()
        x = build.input((width,))
        for _ in range(depth):
            x = build.dense(x, width, "relu")
        return build.graph(build.dense(x, 10, "softmax"))

    usual = graph(8, 512)
    assert long_steps(usual, weights=usual.parameters, batch=32) == LONG
    assert long_steps(usual, weights=usual.parameters, batch=1024) == 0
    deep = graph(LONG_CALLS, 4)
    assert long_steps(deep, weights=deep.parameters, batch=4) == 0
    assert further_steps(deep, weights=deep.parameters, batch=4) == FURTHER


@pytest.mark.parametrize(
    ("losses", "share"),
    [
        ((2.0, 1.5, 1.0), 0.5),
        # Above the constant answer's loss it is the second half that tells.
        ((8.0, 8.0, 8.0, 4.0), 0.5),
        ((8.0, 4.0, 4.0, 4.0), 0.0),
        ((2.0, 2.5), 0.0),
        ((2.0,), None),
        ((2.0, math.nan), None),
        ((2.0, math.inf, 1.0), None),
    ],
)
def test_the_share_learned(losses, share):
    assert learned_share(losses, 2.0) == share
    assert learned_share(losses, None) is None
    assert learns(losses, 2.0) is (share is not None and share > LEARNS)


def test_the_first_step_of_adam_is_a_sign(probe, quadratic):
    model, path, _, gradient, hessian, _ = quadratic(keras.optimizers.Adam(1e-3))
    result = probe(model, data=path, batches=1, batch_size=16)
    d = -np.sign(gradient)
    assert result.step_slope == pytest.approx(float(np.sum(d * gradient)), rel=1e-3)
    assert result.step_curvature == pytest.approx((d.T @ hessian @ d).item(), rel=1e-2)


def test_the_rate_and_the_optimizer_can_be_set(probe, quadratic):
    model, path, *_ = quadratic(keras.optimizers.SGD(0.1))
    ratio = {
        rate: next(iter(probe(model, data=path, learning_rate=rate).calls.values())).update_ratio
        for rate in (0.1, 0.2)
    }
    assert ratio[0.2] == pytest.approx(2 * ratio[0.1], rel=1e-4)
    signed = probe(model, data=path, batches=1, optimizer="adam", learning_rate=0.01)
    step = 0.01 * np.sqrt(3) / np.linalg.norm(model.get_weights()[0])
    assert next(iter(signed.calls.values())).update_ratio == pytest.approx(step, rel=1e-3)


def test_an_unknown_optimizer_is_wrong_usage(probe, quadratic):
    model, path, *_ = quadratic("sgd")
    with pytest.raises(UsageError, match="no Keras optimizer is called 'sdg'"):
        probe(model, data=path, optimizer="sdg")


def test_without_an_optimizer_there_is_no_trial(probe, sequential):
    result = probe(sequential(keras.Input((3,)), layers.Dense(1), loss=None))
    assert result.trial_losses == ()
    assert result.step_slope is None


def test_a_schedule_starts_at_its_first_rate(probe, quadratic):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.0])
    model, path, *_ = quadratic(keras.optimizers.SGD(schedule))
    losses = probe(model, data=path, batches=1, batch_size=16).trial_losses
    assert losses[3] == losses[4] < losses[0]


def _gradient(w, path):
    with np.load(path) as stored:
        x, y = stored["x"].astype(float), stored["y"].astype(float)
    return 2 / len(x) * x.T @ (x @ w - y)


def test_rate_that_diverges_is_followed_by_lower_ones_until_one_falls(probe, quadratic):
    model, path, _, _, hessian, _ = quadratic(keras.optimizers.SGD(100.0))
    result = probe(model, data=path, batches=1, batch_size=16)
    assert result.trial_losses[-1] > result.trial_losses[0]
    rates = [trial.rate for trial in result.rate_trials]
    assert rates == pytest.approx([10.0 / 10**step for step in range(len(rates))])
    assert [trial.falls for trial in result.rate_trials] == [False] * (len(rates) - 1) + [True]
    # Gradient descent on a quadratic is stable below 2/λ; whether it falls at first depends on
    # the start, so that the bound holds from one side.
    assert rates[-1] < 2 / np.linalg.eigvalsh(hessian).min()
    assert all(
        trial.losses[0] == pytest.approx(result.trial_losses[0]) for trial in result.rate_trials
    )
    assert probe(quadratic(keras.optimizers.SGD(0.01))[0], data=path).rate_trials == ()


def test_weights_of_nan_are_seen_though_an_activation_hides_them(probe, sequential, tmp_path):
    """√x has no derivative at 0, and what relu makes of NaN may be 0: the loss would look fine."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, "relu")(layers.Dense(8, "relu", name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(keras.ops.sqrt(hidden)))
    model.compile("adam", "sparse_categorical_crossentropy")
    result = probe(model)
    assert np.isfinite(result.trial_losses[0])
    assert np.isnan(result.trial_losses[-1])
    assert len(result.trial_losses) == 2
    assert result.rate_trials == ()
    assert np.isnan(result.calls["first"].update_ratio)
