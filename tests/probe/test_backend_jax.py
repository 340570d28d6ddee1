"""The probe on JAX: passes, derivatives, what it leaves behind, and TensorFlow's numbers.

Keras keeps one backend a process. Tests marked `on_jax` run where that is JAX; elsewhere one test
runs them all in a process of their own, after TensorFlow has probed the same files.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from auditor.errors import ProbeFailed
from auditor.formats import read_model
from auditor.measurement import ProbeResult
from auditor.probe.backends import ForwardPass, PassInputs, load_backend
from auditor.probe.codec import Report, decode_report, encode
from auditor.probe.live import probe_live
from auditor.probe.settings import ProbeSettings
from auditor.probe.worker import probe_file

pytestmark = [
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
RUNNING = keras.backend.backend()
on_jax = pytest.mark.skipif(RUNNING != "jax", reason="runs in a process on JAX")
on_tensorflow = pytest.mark.skipif(RUNNING != "tensorflow", reason="starts from TensorFlow")
#: Where the files are that both backends probe, with TensorFlow's results beside them.
FOLDER = Path(os.environ.get("GEB_AUDIT_TEST_FILES", ""))


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(32, activation="tanh", kernel_regularizer="l2"),
            layers.Dense(32, activation="relu"),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


def masked_lstm() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 8, mask_zero=True),
            layers.LSTM(8, return_sequences=True),
            layers.LSTM(6),
            layers.Dense(1),
        ]
    )


def two_in_two_out() -> keras.Model:
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    left = layers.Dense(5, activation="tanh", name="left")(a)
    both = layers.Concatenate(name="both")([left, layers.Dense(5, name="right")(b)])
    outputs = [layers.Dense(size, name=f"y{size}")(both) for size in (1, 2, 3)]
    return keras.Model([a, b], outputs)


def narrow(policy: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        hidden = [layers.Dense(16, activation="tanh", dtype=policy) for _ in range(4)]
        return keras.Sequential([keras.Input((20,)), *hidden, layers.Dense(1, dtype=policy)])

    return build


def spoilt() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="nan"), layers.Dense(1, name="out")]
    )
    model.get_layer("nan").kernel.assign(np.full((5, 4), np.nan))
    return model


#: Models, their losses, and how far numbers may differ.
MODELS: dict[str, tuple[Callable[[], keras.Model], Any, float]] = {
    "mlp": (mlp, "categorical_crossentropy", 1e-3),
    "convolutions": (convolutions, "mse", 1e-3),
    "masked_lstm": (masked_lstm, "mse", 1e-3),
    "two_in_two_out": (two_in_two_out, {"y1": "mse", "y2": "mae", "y3": None}, 1e-3),
    "mixed_float16": (narrow("mixed_float16"), "mse", 1e-2),
    "mixed_bfloat16": (narrow("mixed_bfloat16"), "mse", 5e-2),
    "spoilt": (spoilt, "mse", 1e-3),
}


def probe_of(path: Path) -> ProbeResult:
    settings = ProbeSettings(backend=RUNNING, batches=2, batch_size=8, curvature=0)
    model = keras.saving.load_model(path)
    return probe_live(model, read_model(path).graph, settings, lambda _: None)


@on_tensorflow
@pytest.mark.slow
def test_everything_marked_in_a_process_on_jax(tmp_path: Path) -> None:
    for name, (build, loss, _) in MODELS.items():
        keras.utils.set_random_seed(1)
        model = build()
        model.compile("sgd", loss)
        path = tmp_path / f"{name}.keras"
        model.save(path)
        path.with_suffix(".json").write_text(encode(Report(result=probe_of(path))))
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "0",
        "GEB_AUDIT_TEST_FILES": str(tmp_path),
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider"),
            *("-p", "no:xdist", "-o", "addopts=--import-mode=importlib --strict-markers"),
        ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{len(MODELS) + 12} passed" in done.stdout


@on_jax
@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_tensorflow_s(name: str) -> None:
    path, near = FOLDER / f"{name}.keras", MODELS[name][2]
    theirs = decode_report(path.with_suffix(".json").read_text()).result
    own = probe_of(path)
    assert theirs is not None

    def same(value: float | None) -> Any:
        return None if value is None else pytest.approx(value, rel=near, abs=1e-6, nan_ok=True)

    assert own.loss_at_start == same(theirs.loss_at_start)
    assert own.growth_rate == same(theirs.growth_rate)
    assert own.trial_losses == tuple(map(same, theirs.trial_losses))
    assert own.step_slope == same(theirs.step_slope)
    assert own.first_nonfinite_forward == theirs.first_nonfinite_forward
    assert own.first_nonfinite_backward == theirs.first_nonfinite_backward
    assert own.calls.keys() == theirs.calls.keys()
    for call_id, expected in theirs.calls.items():
        call = own.calls[call_id]
        assert call.rms == same(expected.rms)
        assert call.weight_gradient_norm == same(expected.weight_gradient_norm)
        assert call.update_ratio == same(expected.update_ratio)
        # Only TensorFlow takes the loss from the logits behind a softmax.
        if call_id != "head":
            assert call.gradient_norm == same(expected.gradient_norm)


@pytest.fixture
def watched_pass() -> Iterator[Any]:
    """A program of y = relu(x W) V, with a variable and a tensor that nothing depends on."""
    kernel = keras.Variable(np.array([[1.0, -2.0], [3.0, 0.5]], "float32"))
    unused = keras.Variable(np.ones(3, "float32"))
    counter = keras.Variable(np.zeros((), "float32"), trainable=False)

    class Product:
        variables = (kernel, unused)
        state = (counter,)
        traced = 0

        def forward(self, x: Any, y: Any, watch: Any) -> ForwardPass:
            type(self).traced += 1
            counter.assign_add(1.0)
            hidden = watch(ops.matmul(x[0], kernel))
            same = watch(hidden)  # as a layer that hands its input on
            aside = watch(ops.square(hidden))
            output = ops.relu(same) + 0.0 * ops.stop_gradient(hidden)
            objective = ops.sum(ops.square(output - y[0])) + ops.sum(3.0 * hidden)
            return ForwardPass(
                objective=objective, outputs=(output,), watched=(aside, same, hidden)
            )

        def reduce(self, forward: Any, gradients: Any, variable_gradients: Any, norms: Any) -> Any:
            del variable_gradients
            assert gradients[0] is None
            return {"same": gradients[1], "hidden": gradients[2], "output": forward.outputs[0]}

    yield Product()
    assert float(counter.value) == 0.0


@on_jax
def test_a_pass_differentiates_for_each_tensor_apart(watched_pass: Any) -> None:
    run = load_backend("jax").compile(watched_pass)
    x = np.array([[1.0, 1.0], [0.0, 2.0]], "float32")
    y = np.zeros((2, 2), "float32")
    u = np.array([[1.0, 5.0], [2.0, np.float32(0.0)]], "float32")
    hidden = x @ watched_pass.variables[0].numpy()
    alive = (hidden > 0).astype("float32")
    for share, scale, cotangents in ((1.0, 1.0, 0 * u), (0.0, 2.0, u), (1.0, 4.0, u)):
        found = run(
            PassInputs(x=[x], y=[y], cotangents=[cotangents], loss_share=share, scale=scale)
        )
        same = scale * alive * (share * 2 * np.maximum(hidden, 0) + cotangents)
        np.testing.assert_allclose(found.values["same"], same)
        np.testing.assert_allclose(found.values["hidden"], same + scale * share * 3.0)
        np.testing.assert_allclose(
            found.gradients[0], x.T @ (same + scale * share * 3.0), rtol=1e-6
        )
        assert found.gradients[1] is None
    assert watched_pass.traced == 1
    # The weights are an argument: they are not those of the time of tracing.
    watched_pass.variables[0].assign(np.eye(2))
    found = run(PassInputs(x=[x], y=[y], cotangents=[0 * u]))
    np.testing.assert_allclose(found.values["output"], x)
    assert watched_pass.traced == 1


@on_jax
def test_an_output_that_is_not_finite_leaves_zero_cotangents_zero(watched_pass: Any) -> None:
    run = load_backend("jax").compile(watched_pass)
    x = np.array([[np.inf, 1.0], [1.0, 1.0]], "float32")
    zeros = np.zeros((2, 2), "float32")
    with np.errstate(invalid="ignore"):
        found = run(PassInputs(x=[x], y=[zeros], cotangents=[zeros]))
    assert np.isfinite(found.values["same"][1]).all()


@on_jax
def test_norms_neither_overflow_nor_hide_what_is_not_finite() -> None:
    from auditor.probe.backends.jax import _sample_norms

    rows = np.zeros((7, 4), "float32")
    rows[0] = 3e38
    rows[1, :2] = (3e30, 4e30)
    rows[2, :2] = (3e-37, 4e-37)
    rows[4, 1] = np.inf
    rows[5, :2] = (np.nan, np.inf)
    rows[6, 0] = -np.inf
    norms = np.asarray(_sample_norms(rows))
    assert norms[0] == np.finfo("float32").max
    assert norms[1] == pytest.approx(5e30, rel=1e-6)
    assert norms[2] == pytest.approx(5e-37, rel=1e-6)
    assert norms[3] == 0.0
    assert norms[4] == norms[6] == np.inf
    assert np.isnan(norms[5])
    assert np.asarray(_sample_norms(np.zeros((2, 0), "float32"))).tolist() == [0.0, 0.0]
    half = np.full((1, 4), 60000.0, "float16")
    assert np.asarray(_sample_norms(half)).tolist() == [120000.0]


@on_jax
def test_products_with_a_jacobian_and_its_transpose() -> None:
    backend = load_backend("jax")
    rng = np.random.default_rng(0)
    x, v, u = (rng.normal(size=(3, 4)).astype("float32") for _ in range(3))
    z = np.ones(2, "float32")

    def function(given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (ops.sin(given[0]),)

    (moved,) = backend.jvp(function, (x, z), (v, z))
    np.testing.assert_allclose(moved, np.cos(x) * v, rtol=1e-5)
    pulled = backend.vjp(function, (x, z), (u,))
    np.testing.assert_allclose(pulled[0], np.cos(x) * u, rtol=1e-5)
    assert np.asarray(pulled[1]).tolist() == [0.0, 0.0]


@on_jax
def test_a_gradient_of_its_own_has_both_products() -> None:
    @ops.custom_gradient
    def reversed_gradient(x: Any) -> Any:
        def pull(*arguments: Any, upstream: Any = None) -> Any:
            return -2.0 * (arguments[0] if upstream is None else upstream)

        return x, pull

    def function(given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (reversed_gradient(given[0]),)

    backend = load_backend("jax")
    x, v = np.ones(3, "float32"), np.array([1.0, 2.0, 3.0], "float32")
    (moved,) = backend.jvp(function, (x,), (v,))
    np.testing.assert_allclose(moved, -2.0 * v)
    np.testing.assert_allclose(backend.vjp(function, (x,), (v,))[0], -2.0 * v)


@on_jax
def test_a_compiled_function_reads_variables_as_they_are_and_moves_none() -> None:
    backend = load_backend("jax")
    weight = keras.Variable(np.float32(2.0))

    def function(pair: list[Any]) -> tuple[Any, list[Any]]:
        weight.assign(weight + 1.0)
        return pair[0] * weight, [
            backend.jvp(lambda given: (given[0] * weight,), (pair[0],), (pair[1],))
        ]

    compiled = backend.jit(function, [weight])
    one = np.ones(2, "float32")
    for value in (2.0, 7.0):
        weight.assign(value)
        product, [(moved,)] = compiled([one, 3 * one])
        assert np.asarray(product).tolist() == [value + 1.0] * 2
        assert np.asarray(moved).tolist() == [3 * (value + 1.0)] * 2
        assert float(weight.value) == value


@on_jax
def test_layers_of_a_kind_share_a_program() -> None:
    """Each with its own weights and tables, whatever else is a variable of the model."""
    from auditor.probe.backends.jax_programs import Programs

    programs = Programs()
    variables = [keras.Variable(np.full(3, value, "float32")) for value in (2.0, 5.0, 7.0)]

    def reading(index: int, table: Any) -> Any:
        return lambda values, x: {"product": x * values[index] + table}

    made = [
        programs.jit(
            reading(index, ops.convert_to_tensor(np.float32([index, 0.0, 0.0]))), variables
        )
        for index in range(3)
    ]
    x = np.ones(3, "float32")
    for factor in (1.0, 3.0):
        for index, (run, value) in enumerate(zip(made, (2.0, 5.0, 7.0), strict=True)):
            variables[index].assign(np.full(3, factor * value))
            np.testing.assert_array_equal(
                run(x)["product"], factor * value + np.array([index, 0.0, 0.0])
            )
    assert programs.compiled == 1
    made[0](np.ones((2, 3), "float32"))
    programs.jit(lambda values, x: {"product": x * values[0]}, variables)(x)
    assert programs.compiled == 3


@on_jax
def test_what_runs_once_need_not_be_compiled() -> None:
    weight = keras.Variable(np.float32(2.0))

    def looks_at_values(x: Any) -> Any:
        weight.assign(weight * 2.0)
        return x * weight if float(ops.sum(x)) > 0.0 else x

    made = load_backend("jax").once(looks_at_values, [weight])(ops.ones(2))
    assert np.asarray(made).tolist() == [4.0, 4.0]
    assert float(weight.value) == 2.0


@on_jax
def test_devices() -> None:
    backend = load_backend("jax")
    with backend.on_device("cpu"):
        assert backend.device() == "CPU"
    with (
        pytest.raises(ProbeFailed, match="JAX sees no GPU here"),
        backend.on_device("gpu"),
    ):
        pass


class Rogue(layers.Layer):
    """Fails in training, and only there."""

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            raise RuntimeError("not in training")
        return x


@on_jax
@pytest.mark.parametrize("rogue", [False, True])
def test_a_live_model_is_the_same_to_the_bit(probe: Callable[..., Any], rogue: bool) -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(6, activity_regularizer="l2")),
            layers.Dropout(0.5),
            layers.Dense(5, trainable=False),
            *([Rogue(name="rogue")] if rogue else []),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    if not rogue:
        model.fit(x, np.eye(3)[rng.integers(0, 3, 8)], verbose=0)

    def everything() -> list[Any]:
        values = [*model.variables, *model.optimizer.variables]
        return [
            *(np.array(v.value).tobytes() for v in values),
            [layer.trainable for layer in model._flatten_layers()],
            [len(layer._losses) for layer in model._flatten_layers()],
            random.getstate(),
            np.random.get_state()[1].tobytes(),
        ]

    before = everything()
    if rogue:
        with pytest.raises(ProbeFailed, match=r"rogue raised RuntimeError: not in training"):
            probe(model)
    else:
        assert probe(model).calls == probe(model).calls
    assert everything() == before
    # Nothing that a compiled pass held is left in the model.
    model(x)


@on_jax
def test_what_a_process_of_single_precision_makes_of_double_is_told(
    probe: Callable[..., Any],
) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="float64")])
    model.compile("sgd", "mse")
    assert "declared float64 are float32 in this process" in probe(model).assumptions[0]


@on_tensorflow
@pytest.mark.slow
def test_a_worker_on_jax_computes_in_double_precision_and_repeats_itself(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            layers.Dense(3, dtype="float64", name="tiny"),
            layers.Dropout(0.5, dtype="float64"),
            layers.Dense(1, dtype="float64", name="out"),
        ]
    )
    model.compile("sgd", "mse")
    model.get_layer("tiny").kernel.assign(np.full((4, 3), 1e-60))
    path = tmp_path / "double.keras"
    model.save(path)
    settings = ProbeSettings(backend="jax", curvature=0)
    phases: list[str] = []
    first, second = (probe_file(path, settings, phases.append) for _ in range(2))
    assert phases[:2] == ["starting jax", "loading the model"]
    assert (first.backend, first.device) == ("jax", "CPU")
    # In single precision it would be zero.
    assert 0.0 < first.calls["tiny"].rms < 1e-58
    assert encode(Report(result=replace(first, seconds=0.0))) == encode(
        Report(result=replace(second, seconds=0.0))
    )
