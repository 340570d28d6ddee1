"""GEB606: settings of optimizers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from builders import GraphBuilder
from compiled import optimized
from keras import optimizers

from auditor import audit
from auditor.finding import Severity
from auditor.graph import LayerGraph

Judge = Callable[..., tuple]


def graph(*, half: bool = False) -> LayerGraph:
    build = GraphBuilder()
    made = build.graph(build.dense(build.input((8,)), 1), loss="mean_squared_error")
    if not half:
        return made
    calls = tuple(
        replace(call, weights=tuple(replace(weight, dtype="float16") for weight in call.weights))
        for call in made.calls
    )
    return replace(made, calls=calls)


W, E = Severity.WARNING, Severity.ERROR
SETTINGS: list[tuple[str, float, dict[str, Any], Severity | None]] = [
    ("adam", 1e-3, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}, None),
    ("adam", 1e-3, {"beta_1": 0.999, "beta_2": 0.9}, W),
    ("adam", 1e-3, {"beta_1": 1.0}, E),
    ("adam", 1e-3, {"beta_2": 1.0}, E),
    ("adam", 1e-3, {"epsilon": 0.0}, W),
    ("adam", 1e-3, {"epsilon": 10.0}, W),
    # Recipes in use: DCGAN, WGAN-GP, GPT-3, Inception, small epsilons.
    ("adam", 2e-4, {"beta_1": 0.5, "beta_2": 0.999}, None),
    ("adam", 1e-4, {"beta_1": 0.0, "beta_2": 0.9}, None),
    ("adamw", 3e-4, {"beta_1": 0.9, "beta_2": 0.95, "weight_decay": 0.1}, None),
    ("adam", 1e-3, {"epsilon": 1e-12}, None),
    ("rmsprop", 0.045, {"rho": 0.9, "momentum": 0.9, "epsilon": 1.0}, None),
    ("lion", 1e-4, {"beta_1": 0.9, "beta_2": 0.99}, None),
    ("lion", 1e-4, {"beta_1": 0.95, "beta_2": 0.9}, None),
    ("sgd", 0.1, {"momentum": 0.9, "nesterov": True}, None),
    ("sgd", 0.1, {"momentum": 0.99}, None),
    ("sgd", 0.1, {"momentum": 0.999}, W),
    ("sgd", 0.1, {"momentum": 1.0}, E),
    ("sgd", 0.1, {"momentum": -0.9}, E),
    ("sgd", 0.1, {"momentum": 0.0, "nesterov": True}, W),
    ("rmsprop", 1e-3, {"rho": 1.0}, E),
    ("adadelta", 1.0, {"rho": 1.0}, E),
    ("sgd", 0.0, {}, W),
    ("sgd", -0.1, {}, E),
    ("adamw", 1e-3, {"weight_decay": -0.1}, W),
    ("adam", 1e-3, {"use_ema": True, "ema_momentum": 1.0}, W),
    ("adam", 1e-3, {"use_ema": True, "ema_momentum": 0.999}, None),
    ("adam", 1e-3, {"use_ema": False, "ema_momentum": 1.0}, None),
    ("own", 1e-3, {"beta_1": "0.9", "momentum": None}, None),
]


@pytest.mark.parametrize(("name", "rate", "config", "severity"), SETTINGS)
def test_settings(
    findings: Judge, name: str, rate: float, config: dict[str, Any], severity: Severity | None
) -> None:
    found = findings("GEB606", optimized(graph(), name, rate, **config))
    assert [one.severity for one in found] == ([] if severity is None else [severity])


def test_epsilon_in_half_precision(findings: Judge) -> None:
    (found,) = findings("GEB606", optimized(graph(half=True), "adam", 1e-3, epsilon=1e-8))
    assert "half precision" in found.message
    assert findings("GEB606", optimized(graph(half=True), "adam", 1e-3, epsilon=1e-3)) == ()


SCHEDULES: list[tuple[str, dict[str, Any], int]] = [
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 50, "alpha": 0.0}, 1),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20_000}, 0),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 50, "alpha": 0.1}, 0),
    (
        "CosineDecay",
        {
            "initial_learning_rate": 0.0,
            "decay_steps": 5_000,
            "warmup_target": 0.1,
            "warmup_steps": 500,
        },
        0,
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 50}, 0),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 1, "decay_rate": 0.9},
        1,
    ),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 400, "decay_rate": 0.96},
        0,
    ),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 400, "decay_rate": 1.1},
        1,
    ),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 60, "end_learning_rate": 0.0},
        1,
    ),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 1e-3, "decay_steps": 60, "end_learning_rate": 0.1},
        0,
    ),
    ("PiecewiseConstantDecay", {"boundaries": [10, 90], "values": [0.1, 0.01, 0.001]}, 0),
    ("PiecewiseConstantDecay", {"boundaries": [10, 90], "values": [0.1, 0.01, 0.0]}, 1),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 1, "decay_rate": 1.0}, 0),
    ("OwnDecay", {"initial_learning_rate": 0.1, "decay_steps": 1}, 0),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 0}, 0),
    ("CosineDecay", {"initial_learning_rate": "a", "decay_steps": []}, 0),
    ("PiecewiseConstantDecay", {"boundaries": "no", "values": 3}, 0),
]


@pytest.mark.parametrize(("name", "config", "count"), SCHEDULES)
def test_schedules(findings: Judge, name: str, config: dict[str, Any], count: int) -> None:
    made = optimized(graph(), "sgd", 0.1, schedule=name, schedule_config=config)
    assert len(findings("GEB606", made)) == count


def test_options(findings: Judge) -> None:
    assert len(findings("GEB606", optimized(graph(), "sgd", 0.1, momentum=0.95), momentum=0.9)) == 1
    assert len(findings("GEB606", optimized(graph(), "adam", epsilon=0.5), epsilon=0.1)) == 1
    cosine = {"initial_learning_rate": 0.1, "decay_steps": 500}
    made = optimized(graph(), "sgd", 0.1, schedule="CosineDecay", schedule_config=cosine)
    assert findings("GEB606", made) == ()
    assert len(findings("GEB606", made, steps=600)) == 1


def test_findings_of_one_optimizer_differ_in_their_fingerprints(findings: Judge) -> None:
    made = optimized(graph(), "adam", 1e-3, beta_1=0.999, beta_2=0.9, epsilon=0.0)
    found = findings("GEB606", made)
    assert {one.place for one in found} == {"beta_2", "epsilon"}
    assert len({one.fingerprint for one in found}) == len(found) == 2


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_by_keras(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    cosine = optimizers.schedules.CosineDecay(0.1, 30)
    model.compile(optimizers.SGD(cosine, nesterov=True), keras.losses.MeanSquaredError())
    path = tmp_path / f"model{suffix}"
    model.save(path)
    found = audit(path, probe=False, select=("GEB606",)).findings
    assert {one.place for one in found} == {"schedule", "nesterov"}
