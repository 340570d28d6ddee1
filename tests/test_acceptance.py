"""What the product promises of the models it was founded on."""

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from auditor import AuditFailed, audit
from auditor.finding import Severity


def errors(result) -> set[str]:
    return {finding.code for finding in result.at_least(Severity.ERROR)}


def codes(result) -> set[str]:
    return {finding.code for finding in result.findings}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_founding_case(suffix: str, example: Callable[..., Path], tmp_path: Path) -> None:
    result = audit(example("founding_case", suffix))
    assert result.verdict == "broken"
    assert errors(result) >= {"GEB101", "GEB102"}
    assert codes(result) >= {"GEB106", "GEB402"}
    page = result.save(tmp_path / "report.html").read_text(encoding="utf-8")
    for code in ("GEB101", "GEB102", "GEB106", "GEB402"):
        assert code in page


def test_founding_case_is_the_same_in_both_formats(example: Callable[..., Path]) -> None:
    zipped = audit(example("founding_case", ".keras"), probe=False)
    legacy = audit(example("founding_case", ".h5"), probe=False)
    assert zipped.findings == legacy.findings


def relu_stack(*, fused: bool, initializer: object) -> keras.Model:
    keras.utils.set_random_seed(1)
    stack: list[keras.layers.Layer] = []
    for _ in range(30):
        activation = "relu" if fused else None
        stack.append(layers.Dense(256, activation=activation, kernel_initializer=initializer))
        if not fused:
            stack.append(layers.ReLU())
    model = keras.Sequential([keras.Input((256,)), *stack, layers.Dense(10, activation="softmax")])
    model.compile("adam", "categorical_crossentropy")
    return model


@pytest.mark.parametrize("fused", [True, False])
def test_exploding_stack(fused: bool, tmp_path: Path) -> None:
    path = tmp_path / "exploding.keras"
    relu_stack(fused=fused, initializer=keras.initializers.RandomNormal(stddev=0.2)).save(path)
    result = audit(path, probe=True)
    assert result.verdict == "exploding"
    assert codes(result) >= {"GEB302", "GEB501"}
    # Mean field (Schoenholz et al. 2017): χ₁ = σ² · fan-in / 2 for ReLU.
    expected = math.sqrt(0.2**2 * 256 / 2)
    assert result.probe is not None
    assert result.probe.growth_rate == pytest.approx(expected, rel=0.1)
    # Seen without a probe, too: a static gate refuses it.
    assert "GEB302" in errors(audit(path, probe=False))


@pytest.mark.parametrize("fused", [True, False])
def test_he_stack_is_stable(fused: bool, tmp_path: Path) -> None:
    path = tmp_path / "he.keras"
    relu_stack(fused=fused, initializer="he_normal").save(path)
    result = audit(path, probe=True)
    assert result.verdict == "stable"
    assert errors(result) == set()
    assert result.probe is not None
    assert result.probe.growth_rate == pytest.approx(1.0, abs=0.1)


def test_sigmoid_stack_vanishes(example: Callable[..., Path]) -> None:
    result = audit(example("vanishing_sigmoid"), probe=True)
    assert result.verdict == "vanishing"
    assert codes(result) >= {"GEB201", "GEB502"}


def test_live_model_and_raise_for(tmp_path: Path) -> None:
    good = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(1)])
    good.compile("adam", "mse")
    before = [value.copy() for value in good.get_weights()]
    result = audit(good)
    result.raise_for("error")
    assert result.model.format == "keras-live"
    assert all((a == b).all() for a, b in zip(before, good.get_weights(), strict=True))

    bad = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5), layers.ReLU()])
    bad.compile("adam", "categorical_crossentropy")
    with pytest.raises(AuditFailed, match="GEB102") as caught:
        audit(bad).raise_for("error")
    assert {finding.code for finding in caught.value.findings} >= {"GEB101", "GEB102"}


def test_pytest_fixture(geb_audit, example: Callable[..., Path]) -> None:
    geb_audit(example("healthy_cnn"), probe=False).raise_for("warning")
    with pytest.raises(AssertionError):
        geb_audit(example("founding_case"), probe=False).raise_for("warning")


def test_same_seed_same_json(example: Callable[..., Path]) -> None:
    from dataclasses import replace

    from auditor.registry import reporter

    def document() -> str:
        result = audit(example("healthy_cnn"), probe=True, seed=3)
        assert result.probe is not None
        return reporter("json").render((replace(result, probe=replace(result.probe, seconds=0)),))

    assert document() == document()


def test_data_file(example: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (40, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, 40)
    result = audit(example("healthy_cnn"), data=(x, y), probe=True)
    assert result.probe is not None
    assert result.probe.data != "synthetic"
    result.raise_for("error")


def test_wrong_argument_is_one_line() -> None:
    from auditor import UsageError

    with pytest.raises(UsageError, match=r"cannot audit a builtins\.int"):
        audit(3)


def rectified_rnn(stddev: float) -> keras.Model:
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=stddev, seed=1)
    model = keras.Sequential(
        [
            keras.Input((100, 4)),
            layers.SimpleRNN(32, activation="relu", recurrent_initializer=wide),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("stddev", "found"),
    [(0.25, {"GEB507"}), (0.27, {"GEB304", "GEB507"}), (0.4, {"GEB304", "GEB503", "GEB506"})],
)
def test_recurrent_explosion(stddev: float, found: set[str]) -> None:
    """After six epochs on a task of its size, 0.25 is still at 12 times the targets' variance."""
    result = audit(rectified_rnn(stddev), probe=True)
    assert result.verdict == "exploding"
    assert errors(result) == found
    (redrawn,) = result.plan.initialization
    assert (redrawn.name, redrawn.value) == ("recurrent_initializer", "orthogonal")


def test_narrower_recurrent_kernel_is_stable() -> None:
    result = audit(rectified_rnn(0.2), probe=True)
    assert result.verdict == "stable"
    assert errors(result) == set()


def test_exploding_residual_sums_are_mended_by_the_plan() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    x = layers.Dense(64)(inputs)
    for _ in range(60):
        y = layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.Add()([x, layers.Dense(64, kernel_initializer="he_normal")(y)])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    before = audit(model, probe=True)
    assert before.verdict == "exploding"
    before.plan.adjust_layers(model)
    after = audit(model, probe=True)
    assert after.verdict == "stable"
    assert errors(after) == set()


def digits() -> tuple[np.ndarray, np.ndarray]:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.astype("float32"), y.astype("float32")


def test_recommended_rate_trains_where_the_declared_one_diverges() -> None:
    x, y = digits()

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((64,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    result = audit(build(), data=(x, y), probe=True)
    assert errors(result) == {"GEB601"}
    as_saved, planned = build(), build()
    result.plan.compile(planned)
    assert not math.isfinite(as_saved.fit(x, y, verbose=0).history["loss"][-1])
    losses = planned.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < float(np.var(y)) * 1.5


@pytest.mark.parametrize("optimizer", ["adafactor", "ftrl"])
def test_optimizer_that_loses_the_weights_is_replaced(optimizer: str) -> None:
    """Features that are always zero make NaN of Adafactor's step; FTRL forgets where it began."""
    x, y = digits()

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((64,))]
            + [layers.Dense(64, "relu") for _ in range(2)]
            + [layers.Dense(10, "softmax")]
        )
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return model

    result = audit(build(), data=(x / 16, y), probe=True)
    assert errors(result) == ({"GEB503"} if optimizer == "adafactor" else set())
    as_saved, planned = build(), build()
    result.plan.compile(planned)
    stuck = as_saved.fit(x / 16, y, epochs=3, verbose=0).history["loss"][-1]
    assert stuck == pytest.approx(math.log(10), abs=0.02)
    assert planned.fit(x / 16, y, epochs=3, verbose=0).history["loss"][-1] < 1.5


def test_data_of_nan_are_accused_and_the_model_is_not() -> None:
    x, y = digits()
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    result = audit(model, data=(np.full_like(x, np.nan), y), probe=True)
    assert result.verdict == "broken"
    assert errors(result) == {"GEB704"}


def test_founding_case_is_accused_of_causes_alone(example: Callable[..., Path]) -> None:
    assert "GEB503" not in codes(audit(example("founding_case"), probe=True))


def test_dangerous_file_says_nothing_of_training(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Lambda(lambda x: x), layers.Dense(1, name="out")]
    )
    model.compile("adam", "mse")
    model.save(tmp_path / "lambda.keras")
    result = audit(tmp_path / "lambda.keras")
    assert errors(result) == {"GEB901"}
    assert result.verdict == "unknown"
