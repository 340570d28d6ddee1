"""Sharpness against the exact Hessian, and what optimizers divide by against their own step."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from auditor.finding import Bound
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.probe.backends import PassInputs, load_backend
from auditor.probe.curvature import measure_curvature
from auditor.probe.curvature_cost import STEPS, curvature_steps
from auditor.probe.hessian import DifferenceProducts, ExactProducts, Weights, flat_gradients
from auditor.probe.preconditioner import first_divisor
from auditor.probe.prepare import prepare
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import preserved
from auditor.probe.training_pass import TrainingPass
from auditor.probe.trial import Gradients

ROUNDING = float(np.finfo(np.float64).eps)


@dataclass
class Bench:
    """A model in double precision, its exact gradient and Hessian, and both kinds of products."""

    model: Any
    weights: Weights
    gradient: np.ndarray
    hessian: np.ndarray
    exact: ExactProducts
    differences: DifferenceProducts


def _model(kind, seed):
    keras.utils.set_random_seed(seed)
    f64 = {"dtype": "float64"}
    if kind == "embedding":
        stack = [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(12, 4, **f64),
            layers.Flatten(**f64),
        ]
        hidden = [layers.Dense(6, "tanh", **f64)]
    else:
        stack = [keras.Input((5,), dtype="float64")]
        activation = "relu" if kind in ("relu", "normalized", "dropout") else "tanh"
        hidden = [layers.Dense(8, activation, **f64), layers.Dense(8, activation, **f64)]
    if kind == "normalized":
        hidden.insert(1, layers.BatchNormalization(**f64))
    if kind == "dropout":
        hidden.insert(1, layers.Dropout(0.5, **f64))
    head = layers.Dense(3, None if kind == "squared" else "softmax", **f64)
    model = keras.Sequential([*stack, *hidden, head])
    model.compile("adam", "mse" if kind == "squared" else "sparse_categorical_crossentropy")
    return model


@pytest.fixture
def bench():
    states = []

    def build(kind, seed=0):
        model = _model(kind, seed)
        graph = read_live_model(model, DEFAULT_LIMITS).graph
        prepared = prepare(model, graph, ProbeSettings(batches=1, batch_size=16, seed=seed))
        program = TrainingPass(
            model=model, graph=graph, inputs=prepared.inputs, losses=prepared.losses, batch=16
        )
        backend, batch = load_backend("tensorflow"), prepared.batches[0]
        run = backend.compile(program)
        context = preserved(model)
        state = context.__enter__()
        states.append(context)

        def begin_pass():
            state.begin_pass(seed)

        def gradients_at():
            begin_pass()
            result = run(PassInputs(x=batch.x, y=batch.y, cotangents=prepared.no_cotangents))
            return Gradients(
                loss=float(result.values["objective"]), gradients=result.gradients, scale=1.0
            )

        weights = Weights(program.variables)

        begin_pass()
        values = [variable.value for variable in program.variables]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                outputs = model(tf.constant(batch.x[0]), training=True)
                loss = tf.reduce_mean(keras.losses.get(model.loss)(batch.y[0], outputs))
            parts = [tf.convert_to_tensor(part) for part in inner.gradient(loss, values)]
            gradient = tf.concat([tf.reshape(part, [-1]) for part in parts], 0)
        rows = outer.jacobian(gradient, values, unconnected_gradients="zero")
        hessian = np.concatenate([np.reshape(row, (weights.size, -1)) for row in rows], 1)
        return Bench(
            model=model,
            weights=weights,
            gradient=gradient.numpy(),
            hessian=(hessian + hessian.T) / 2,
            exact=ExactProducts(
                backend,
                program,
                weights,
                batch.x,
                batch.y,
                begin_pass=begin_pass,
                scale=1.0,
                rounding=1e-7,  # the objective is a number in single precision
            ),
            differences=DifferenceProducts(gradients_at, weights, rounding=ROUNDING),
        )

    yield build
    for context in states:
        context.__exit__(None, None, None)


KINDS = ("tanh", "squared", "relu", "normalized", "dropout", "embedding")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_the_largest_eigenvalues_are_within_their_intervals(bench, kind, seed):
    case = bench(kind, seed)
    found = measure_curvature(
        case.exact, case.weights, case.gradient, case.model.optimizer, steps=20, seed=seed
    ).sharpness
    exact = np.linalg.eigvalsh(case.hessian)[-1]
    roots = (
        case.weights.flat(first_divisor(case.model.optimizer, case.weights.split(case.gradient)))
        ** -0.5
    )
    seen = np.linalg.eigvalsh(roots[:, None] * case.hessian * roots)[-1]
    for estimate, truth in ((found.largest, exact), (found.preconditioned, seen)):
        assert estimate.low <= truth * (1 + 1e-6)
        assert estimate.high >= truth * (1 - 1e-6)
        assert estimate.value == pytest.approx(truth, rel=0.03)
        assert estimate.bound is Bound.LOWER
        assert 0 < estimate.products <= 20


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_exact_hessian_and_leave_the_weights(bench, kind):
    case = bench(kind)
    before = [np.array(variable) for variable in case.weights.variables]
    v = np.random.default_rng(0).normal(size=case.weights.size)
    expected = case.hessian @ v
    size = np.linalg.norm(expected)
    # The objective, and with it the seed of the reverse pass, is in single precision.
    assert np.linalg.norm(case.exact(v) - expected) <= 1e-6 * size
    if kind in ("tanh", "squared", "embedding"):  # a kink within the difference is no error of it
        assert np.linalg.norm(case.differences(v) - expected) <= 1e-2 * size
    for variable, value in zip(case.weights.variables, before, strict=True):
        assert np.array(variable).tobytes() == value.tobytes()


def test_differences_put_the_weights_back_when_the_model_raises(bench):
    case = bench("tanh")
    before = [np.array(variable) for variable in case.weights.variables]

    def fails():
        raise RuntimeError("out of memory")

    products = DifferenceProducts(fails, case.weights, rounding=ROUNDING)
    with pytest.raises(RuntimeError, match="out of memory"):
        products(np.ones(case.weights.size))
    for variable, value in zip(case.weights.variables, before, strict=True):
        assert np.array(variable).tobytes() == value.tobytes()


def test_differences_tell_their_own_error(bench):
    case = bench("tanh")
    found = measure_curvature(
        case.differences, case.weights, case.gradient, None, steps=20, seed=0
    ).sharpness
    exact = np.linalg.eigvalsh(case.hessian)[-1]
    assert found.largest.low <= exact <= found.largest.high
    assert found.largest.error < 0.05 * exact
    assert found.preconditioned is None


def test_the_same_seed_gives_the_same_numbers(bench):
    case = bench("normalized")
    pair = [
        measure_curvature(case.exact, case.weights, case.gradient, None, steps=4, seed=3)
        for _ in range(2)
    ]
    assert pair[0] == pair[1]


def test_odd_models_have_a_reason(bench):
    case = bench("tanh")
    none = measure_curvature(case.exact, Weights(()), np.zeros(0), None, steps=4, seed=0)
    assert none.sharpness is None
    assert none.skipped == "the loss depends on no trainable weight"
    bad = measure_curvature(case.exact, case.weights, case.gradient * np.nan, None, steps=4, seed=0)
    assert bad.skipped == "the gradient is not finite"


def test_gradient_is_flattened_without_its_scale(bench):
    weights = bench("tanh").weights
    parts = [np.full(shape, 8.0) for shape in weights.shapes]
    flat = flat_gradients(Gradients(loss=0.0, gradients=[None, *parts[1:]], scale=4.0), weights)
    first = int(np.prod(weights.shapes[0]))
    assert set(flat[:first]) == {0.0}
    assert set(flat[first:]) == {2.0}


OPTIMIZERS = [
    keras.optimizers.Adam(0.01),
    keras.optimizers.Adam(0.01, amsgrad=True, epsilon=0.1),
    keras.optimizers.AdamW(0.01, weight_decay=0.0),
    keras.optimizers.Adamax(0.01, epsilon=0.1),
    keras.optimizers.RMSprop(0.01),
    keras.optimizers.RMSprop(0.01, centered=True, momentum=0.9, epsilon=1e-3),
    keras.optimizers.Adagrad(0.01),
    keras.optimizers.Adadelta(0.01, epsilon=1e-3),
    keras.optimizers.Adam(0.01, clipnorm=0.5, epsilon=0.1),
    keras.optimizers.RMSprop(0.01, global_clipnorm=0.5),
    keras.optimizers.Adagrad(0.01, clipvalue=0.3),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01, epsilon=0.1)),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.name)
def test_the_first_step_is_the_gradient_over_the_divisor(optimizer):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    fresh = type(optimizer).from_config(optimizer.get_config())
    variables = [keras.Variable(np.zeros(g.shape), dtype="float64") for g in gradients]
    scale = float(fresh.scale_loss(1.0))
    fresh.apply([keras.ops.convert_to_tensor(scale * g) for g in gradients], variables)
    for variable, g, divisor in zip(
        variables, gradients, first_divisor(optimizer, gradients), strict=True
    ):
        np.testing.assert_allclose(np.array(variable), -0.01 * g / divisor, rtol=1e-5)


def test_nadam_steps_along_the_gradient_over_its_divisor():
    g = np.array([1.0, -0.1, 0.01])
    variable = keras.Variable(np.zeros(3), dtype="float64")
    optimizer = keras.optimizers.Nadam(0.01, epsilon=0.1)
    optimizer.apply([keras.ops.convert_to_tensor(g)], [variable])
    (divisor,) = first_divisor(optimizer, [g])
    momentum = -np.array(variable) * divisor / (0.01 * g)
    np.testing.assert_allclose(momentum, momentum[0], rtol=1e-5)


def test_others_divide_by_nothing_of_the_kind():
    class Own(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * gradient)

    for optimizer in (None, keras.optimizers.SGD(), keras.optimizers.Lion(), Own()):
        assert first_divisor(optimizer, [np.ones(2)]) is None


def test_steps_are_by_cost_unless_they_are_asked_for():
    small = read_live_model(_model("tanh", 0), DEFAULT_LIMITS).graph
    assert curvature_steps(small, None, weights=147, batch=32) == (STEPS, "")
    assert curvature_steps(small, 3, weights=147, batch=32) == (3, "")
    assert curvature_steps(small, 0, weights=147, batch=32) == (0, "not asked for: --curvature 0")
    steps, why = curvature_steps(small, None, weights=147, batch=10**8)
    assert steps == 0
    assert "multiply-adds" in why
    assert "--curvature 8" in why
    assert curvature_steps(small, 5, weights=147, batch=10**8) == (5, "")
