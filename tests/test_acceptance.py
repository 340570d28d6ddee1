"""What the product promises of the models it was founded on."""

import math
from collections.abc import Callable
from pathlib import Path

import keras
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
    import numpy as np

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
