"""Norms of ∂y/∂h by random cotangents, against whole Jacobians."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from auditor.probe.to_output import ToOutputPasses, hutchinson_norms, measure_to_output


def mlp(sequential):
    return sequential(
        keras.Input((5,), dtype="float64"),
        layers.Dense(7, "tanh", dtype="float64", name="first"),
        layers.Dense(6, "sigmoid", dtype="float64", name="second"),
        layers.Dense(4, dtype="float64", name="out"),
    )


def cnn(sequential):
    return sequential(
        keras.Input((6, 6, 2), dtype="float64"),
        layers.Conv2D(3, 3, activation="tanh", dtype="float64", name="first"),
        layers.AveragePooling2D(2, dtype="float64", name="pool"),
        layers.Flatten(dtype="float64", name="flat"),
        layers.Dense(3, dtype="float64", name="out"),
    )


MODELS = pytest.mark.parametrize("build", [mlp, cnn])


def exact_norms(model, x):
    """‖∂y/∂h‖_F, and the gradient scale coefficient, of each sample and layer."""
    with tf.GradientTape(persistent=True) as tape:
        h, hidden = tf.constant(x, tf.float64), {}
        for layer in model.layers:
            h = layer(h)
            tape.watch(h)
            hidden[layer.name] = h
    size = len(x)
    sizes = np.linalg.norm(h, axis=1)
    found = {}
    for name, inner in hidden.items():
        jacobian = tape.batch_jacobian(h, inner).numpy()
        norms = np.linalg.norm(jacobian.reshape(size, -1), axis=1)
        forward = np.linalg.norm(inner.numpy().reshape(size, -1), axis=1)
        values = jacobian[0].size // h.shape[1]
        found[name] = norms, norms * forward / (math.sqrt(values) * sizes)
    return found


@MODELS
def test_a_pass_for_each_unit_cotangent_gives_the_whole_jacobian(passes, sequential, build):
    model = build(sequential)
    run = passes(model, batch_size=4, batches=1)
    exact = exact_norms(model, run.prepared.batches[0].x[0])
    shape = run.prepared.no_cotangents[0].shape
    rows = []
    for unit in range(shape[1]):
        cotangent = np.zeros(shape, np.float32)
        cotangent[:, unit] = 1.0
        rows.append(run.run([cotangent])["gradient_norms"])
    norms = np.sqrt(np.sum(np.square(rows), axis=0))
    for slots in run.program.slots.calls:
        # Double precision throughout: what is left is rounding.
        assert norms[slots.gradient] == pytest.approx(exact[slots.id][0], rel=1e-10)


@MODELS
def test_all_sign_patterns_together_are_exact_and_draws_scatter_about_them(
    passes, sequential, build
):
    model = build(sequential)
    run = passes(model, batch_size=2, batches=1)
    exact = exact_norms(model, run.prepared.batches[0].x[0])
    values = run.prepared.no_cotangents[0].shape[1]
    every = ToOutputPasses()
    for signs in itertools.product((-1.0, 1.0), repeat=values):
        every.add(run.run([np.array([signs, signs], np.float32)]))
    for slots in run.program.slots.calls:
        norms, coefficients = exact[slots.id]
        measured = every.measurement(slots)
        # The mean over all sign patterns is the expectation.
        assert measured.to_output_norm.value == pytest.approx(np.median(norms), rel=1e-10)
        assert measured.to_output_norm.low == pytest.approx(norms.min(), rel=1e-10)
        assert measured.to_output_norm.high == pytest.approx(norms.max(), rel=1e-10)
        assert measured.gsc == pytest.approx(np.median(coefficients), rel=1e-6)


def measured_of(run, seed=0, draws=4):
    return measure_to_output(
        run.run,
        lambda: run.program.slots,
        [cotangent.shape for cotangent in run.prepared.no_cotangents],
        seed=seed,
        draws=draws,
    )


def test_four_draws_hold_the_exact_norm_within_their_error(passes, sequential):
    model = mlp(sequential)
    run = passes(model, batch_size=8, batches=1)
    exact = exact_norms(model, run.prepared.batches[0].x[0])
    held = []
    for seed in range(60):
        for name, measured in measured_of(run, seed).items():
            estimate = measured.to_output_norm
            assert estimate.products == 4
            assert estimate.method == "Hutchinson, 4 random cotangents"
            held.append(abs(estimate.value - np.median(exact[name][0])) <= estimate.error)
    assert np.mean(held) >= 0.95


def test_one_output_is_exact_and_the_same_seed_gives_the_same(passes, sequential):
    model = sequential(
        keras.Input((5,), dtype="float64"),
        layers.Dense(7, "tanh", dtype="float64", name="first"),
        layers.Dense(1, dtype="float64", name="out"),
    )
    run = passes(model, batch_size=4, batches=1)
    exact = exact_norms(model, run.prepared.batches[0].x[0])
    found = measured_of(run)
    assert found["first"].to_output_norm.value == pytest.approx(np.median(exact["first"][0]))
    assert found["first"].to_output_norm.error == pytest.approx(0.0, abs=1e-12)
    assert measured_of(run) == found


def test_several_outputs_count_together(passes):
    inputs = keras.Input((5,))
    h = layers.Dense(6, name="shared")(inputs)
    heads = [layers.Dense(3, name="a")(h), layers.Dense(2, name="b")(h)]
    model = keras.Model(inputs, heads)
    model.compile("sgd", ["mse", "mse"])
    run = passes(model, batch_size=4, batches=1)
    measured = measured_of(run, draws=400)
    whole = math.sqrt(sum(np.sum(model.get_layer(n).kernel.numpy() ** 2) for n in "ab"))
    # 400 draws of 4 samples: the relative standard error of the square is below √(2/400).
    assert measured["shared"].to_output_norm.value == pytest.approx(whole, rel=0.1)
    assert measured["a"].to_output_norm.value == pytest.approx(math.sqrt(3), rel=1e-5)
    assert measured["b"].to_output_norm.value == pytest.approx(math.sqrt(2), rel=1e-5)


def test_a_softmax_head_is_measured_from_its_logits(passes, sequential):
    model = sequential(
        keras.Input((5,)),
        layers.Dense(6, name="hidden"),
        layers.Dense(3, "softmax", name="head"),
        loss="categorical_crossentropy",
    )
    run = passes(model, batch_size=4, batches=1)
    measured = measured_of(run, draws=64)
    kernel = np.linalg.norm(model.get_layer("head").kernel.numpy())
    assert measured["head"].to_output_norm.value == pytest.approx(math.sqrt(3), rel=1e-6)
    assert measured["hidden"].to_output_norm.value == pytest.approx(kernel, rel=0.25)


def test_a_call_that_no_output_depends_on_has_none(passes):
    inputs = keras.Input((5,))
    h = layers.Dense(6, name="used")(inputs)
    aside = layers.Dense(2, name="aside")(h)
    model = keras.Model(inputs, {"y": layers.Dense(3, name="y")(h), "z": aside})
    model.compile("sgd", {"y": "mse"})
    run = passes(model, batch_size=4, batches=1)
    measured = measured_of(run)
    assert set(measured) == {"used", "y"}


def test_weights_that_are_not_numbers_do_not_raise(passes, sequential):
    model = mlp(sequential)
    first = model.get_layer("second")
    first.set_weights([np.full(weight.shape, np.nan) for weight in first.get_weights()])
    measured = measured_of(passes(model, batch_size=4, batches=1))
    assert math.isnan(measured["first"].to_output_norm.value)
    assert math.isnan(measured["first"].to_output_norm.error)
    assert measured["first"].gsc is None


@pytest.mark.parametrize("rank", [1, 3, 30])
@pytest.mark.parametrize("samples", [1, 2, 8])
def test_the_error_covers_at_any_rank(rank, samples):
    # ‖Jᵀ r‖² for Gaussian r and J of equal singular values is χ² with `rank` degrees of freedom,
    # at rank 1 the worst there is. 4,000 trials have a standard error of 0.4 %.
    rng = np.random.default_rng(rank)
    held = 0
    for _ in range(4000):
        norms, error = hutchinson_norms(np.sqrt(rng.chisquare(rank, (4, samples)) / rank))
        held += abs(np.median(norms) - 1.0) <= error
    assert held / 4000 >= (0.92 if samples == 1 else 0.95)


def test_the_square_is_unbiased():
    rng = np.random.default_rng(0)
    squares = [
        float(hutchinson_norms(np.sqrt(rng.chisquare(2, (4, 1)) / 2))[0][0]) ** 2
        for _ in range(4000)
    ]
    # Relative standard deviation of a draw is 1, of the mean of all 1/√16,000.
    assert np.mean(squares) == pytest.approx(1.0, abs=4 / math.sqrt(16_000))


def test_huge_and_zero_norms_have_finite_estimates():
    norms, error = hutchinson_norms(np.array([[1e200, 0.0], [2e200, 0.0]]))
    assert norms == pytest.approx([math.sqrt(2.5) * 1e200, 0.0])
    assert math.isfinite(error)
    assert hutchinson_norms(np.zeros((4, 2)))[1] == 0.0
