"""The Jacobian engine where it is easily wrong: samples that meet, sizes, magnitudes, trouble."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers, ops
from probe.exact_jacobian import by_differences, taken_apart
from probe.layer_sweep import Bench, bench, double_precision
from probe.layer_zoo import CASES, NOT_ADJOINT, Case

from auditor.probe.estimators.hutchinson import frobenius
from auditor.probe.jacobians import NO_INPUT, NOT_FINITE

BY_NAME = {case.name: case for case in CASES}


def case(name, build, *inputs, **options):
    return Case(name=name, build=build, inputs=inputs, **options)


def measured(*cases, **thresholds):
    made = bench(cases)
    return made, made.measured(**thresholds)


def test_samples_that_meet_have_the_jacobian_of_the_batch():
    names = ("custom/mixes", "custom/cumulative", "custom/swaps", "Softmax/batch", "Lambda/batch")
    names += ("UnitNormalization/batch", "Activation/own", "ops/mean batch")
    _, found = measured(*(BY_NAME[name] for name in names))
    names = tuple(found.found)
    assert len(names) >= 8
    coupled = {name for name, value in found.found.items() if value.couples_samples}
    assert set(names) - coupled == set()
    # out = [x₀, 2 x₂, x₁]
    assert found.found["custom/swaps"].spectral_norm.value == pytest.approx(2.0, rel=1e-5)


def test_a_layer_that_only_looks_at_its_own_sample_is_measured_by_sample():
    _, found = measured(BY_NAME["custom/residual"], BY_NAME["Lambda"])
    assert [m.samples for m in found.found.values()] == [3, 3]
    assert not any(m.couples_samples for m in found.found.values())


@pytest.mark.parametrize(
    "name", ["Dense/softmax", "Conv2D/relu", "LayerNormalization", "custom/mixes", "GRU"]
)
def test_products_agree_with_central_differences(name):
    """A truth that no automatic derivative has a part in."""
    with double_precision():
        made = bench([BY_NAME[name]], "float64")
        found = made.measured().found[name]
        (call,) = made.calls
        exact = taken_apart(call, np.round(by_differences(call, made.linearizer.restart), 7))
    assert found.couples_samples == exact.couples
    assert found.spectral_norm.value == pytest.approx(np.median(exact.spectral_norms), rel=1e-5)
    assert found.frobenius_norm.value == pytest.approx(np.median(exact.frobenius_norms), rel=1e-5)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
@pytest.mark.parametrize("thresholds", [{}, {"EXPLICIT_SIDE": 0}], ids=["usual", "golub-kahan"])
def test_norms_neither_overflow_nor_vanish(scale, thresholds):
    """Squares of such entries have no place in single precision."""

    class Scaled(layers.Layer):
        def call(self, x):
            return ops.flip(x, axis=-1) * scale

    _, found = measured(
        case("general", Scaled, (7,)),
        case("diagonal", lambda: layers.Rescaling(scale), (7,)),
        **thresholds,
    )
    for measurement in found.found.values():
        assert measurement.spectral_norm.value == pytest.approx(scale, rel=1e-4)
        assert measurement.frobenius_norm.value == pytest.approx(scale * np.sqrt(7), rel=0.05)
    assert set(found.found) == {"general", "diagonal"}


@pytest.mark.parametrize("width", [5, 200], ids=["written out", "golub-kahan"])
def test_weights_that_are_not_numbers_are_told_of(width):
    made = bench([case("dense", lambda: layers.Dense(width, activation="tanh"), (width,))])
    made.calls[0].operation.kernel.assign(np.full((width, width), np.nan))
    again = Bench(cases=made.cases, calls=made.calls, linearizer=_keeping(made))
    assert again.measured().skipped == {"dense": NOT_FINITE}


def _keeping(made):
    """The linearizer with the weights as they are now."""
    return replace(made.linearizer, restart=lambda: None)


def test_tensors_without_values_are_skipped():
    made, found = measured(case("empty", layers.Identity, (0, 3)))
    assert found.skipped == {"empty": NO_INPUT}
    assert made.calls[0].inputs


def test_large_calls_agree_with_what_is_known_of_their_kernel():
    """Conv2D of 8,192 values into 32,768 behind a diagonal: σ₁ and ‖J‖_F by sparse algebra."""
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import svds

    made = bench(
        [
            case(
                "conv",
                lambda: layers.Conv2D(8, 3, padding="same", activation="tanh"),
                (64, 64, 2),
            )
        ]
    )
    found = made.measured().found["conv"]
    (call,) = made.calls
    kernel = np.asarray(ops.convert_to_numpy(call.operation.kernel), np.float64)
    rows, columns, values = [], [], []
    place = np.arange(64 * 64).reshape(64, 64)
    for i, j in np.ndindex(3, 3):
        out_y, out_x = (
            slice(max(1 - i, 0), 64 - max(i - 1, 0)),
            slice(max(1 - j, 0), 64 - max(j - 1, 0)),
        )
        in_y, in_x = (
            slice(max(i - 1, 0), 64 - max(1 - i, 0)),
            slice(max(j - 1, 0), 64 - max(1 - j, 0)),
        )
        for a, b in np.ndindex(2, 8):
            rows.append(place[out_y, out_x].ravel() * 8 + b)
            columns.append(place[in_y, in_x].ravel() * 2 + a)
            values.append(np.full(rows[-1].shape, kernel[i, j, a, b]))
    linear = csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(64 * 64 * 8, 64 * 64 * 2),
    )
    outputs = np.asarray(ops.convert_to_numpy(call.run(call.inputs)), np.float64)
    spectral, whole = [], []
    for sample in outputs:
        jacobian = diags(1.0 - sample.ravel() ** 2) @ linear
        spectral.append(svds(jacobian, 1, return_singular_vectors=False)[0])
        whole.append(np.sqrt(jacobian.multiply(jacobian).sum()))
    assert found.spectral_norm.method == "Golub–Kahan, 8 steps"
    assert found.spectral_norm.value == pytest.approx(np.median(spectral), rel=0.05)
    assert found.spectral_norm.value <= np.median(spectral) * (1 + 1e-5)
    assert abs(found.spectral_norm.value - np.median(spectral)) <= found.spectral_norm.error
    assert found.frobenius_norm.value == pytest.approx(np.median(whole), rel=0.02)


def test_a_few_large_singular_values_do_not_spoil_the_frobenius_norm():
    """Random signs alone would be off by half here: nearly all of ‖J‖²_F is in one direction."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 300))
    kernel = 50.0 * np.outer(u, v) / 300.0 + rng.normal(size=(300, 300)) / np.sqrt(300.0)

    class Matrix(layers.Layer):
        def call(self, x):
            return ops.matmul(x, ops.convert_to_tensor(kernel.astype("float32")))

    _, found = measured(case("matrix", Matrix, (300,)), SMALL_VALUES=0)
    whole = found.found["matrix"].frobenius_norm
    assert whole.value == pytest.approx(np.linalg.norm(kernel), rel=0.005)


def test_the_error_of_the_frobenius_norm_covers_it():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        values = rng.exponential(size=20)
        rotation, _ = np.linalg.qr(rng.normal(size=(20, 20)))
        form = (rotation * values**2) @ rotation.T
        draws = rng.choice([-1.0, 1.0], size=(4, 20))
        squares = [np.array([draw @ form @ draw]) for draw in draws]
        found = frobenius(np.zeros(1), squares, np.array([values.max()]))
        covered.append(abs(found.values[0] - np.sqrt(np.sum(values**2))) <= found.errors[0])
    assert np.mean(covered) >= 0.93


def test_a_batch_that_is_fixed_in_the_configuration_is_not_cut():
    made, found = measured(BY_NAME["GRU/stateful"], BY_NAME["ops/broadcast"], SAMPLES=2)
    assert found.skipped == {}
    assert found.found["GRU/stateful"].samples == 3
    assert len(found.found) == len(made.calls)


def softsign(width):
    return lambda: layers.Dense(width, activation="softsign")


def test_a_derivative_that_is_missing_is_not_taken_for_zero():
    """TensorFlow has the gradient of softsign, which pulls need, and not that of it."""
    _, found = measured(
        case("wide", softsign(600), (140,)),
        case("both", softsign(150), (140,)),
        case("outputs", softsign(150), (20,)),
    )
    assert set(found.found) == {"both", "outputs"}
    assert "second derivative" in found.skipped["wide"]
    methods = {m.spectral_norm.method for m in found.found.values()}
    assert methods == {"exact, singular values of the whole Jacobian"}


def test_products_of_two_matrices_are_not_measured_as_one():
    """TensorFlow propagates through a rotation with the inverse one, not with the transposed."""
    _, found = measured(BY_NAME["RandomRotation"])
    assert set(found.skipped) == {"RandomRotation"}
    assert NOT_ADJOINT in found.skipped["RandomRotation"]


def test_a_recurrent_layer_starts_every_product_from_the_state_it_has():
    made, _ = measured(BY_NAME["GRU/stateful"])
    (call,) = made.calls
    (state,) = call.operation.states
    made.linearizer.restart()
    before = ops.convert_to_numpy(state)
    call.run(call.inputs)
    assert (ops.convert_to_numpy(state) != before).any()
    made.linearizer.restart()
    assert (ops.convert_to_numpy(state) == before).all()


def test_keras_has_the_names_that_are_relied_on():
    """A name that Keras drops or renames would fall back to an estimate without a word."""
    from auditor.probe import structure

    named = structure.DIAGONAL_LAYERS | structure.SELECTION_LAYERS | structure.AFFINE_LAYERS
    assert {name for name in named if not hasattr(layers, name)} == set()
    assert {
        name for name in structure.ELEMENTWISE_FUNCTIONS if not hasattr(keras.activations, name)
    } == set()
