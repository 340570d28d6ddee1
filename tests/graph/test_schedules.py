"""Learning rates at later steps, against Keras' own schedules."""

from typing import Any

import keras
import pytest
from keras.optimizers import schedules

from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.schedules import FORMULAS, rate_at

STEPS = (0, 1, 9, 10, 11, 57, 100, 101, 350, 2_000)
SCHEDULES = [
    schedules.CosineDecay(0.1, 100),
    schedules.CosineDecay(0.1, 100, alpha=0.2),
    schedules.CosineDecay(0.01, 100, warmup_target=0.5, warmup_steps=10),
    schedules.CosineDecayRestarts(0.1, 100),
    schedules.CosineDecayRestarts(0.1, 100, t_mul=1.0, m_mul=0.9, alpha=0.1),
    schedules.CosineDecayRestarts(0.1, 30, t_mul=1.5, m_mul=0.5),
    schedules.ExponentialDecay(0.1, 100, 0.9),
    schedules.ExponentialDecay(0.1, 10, 0.9, staircase=True),
    schedules.InverseTimeDecay(0.1, 100, 0.5),
    schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=True),
    schedules.PiecewiseConstantDecay([10, 100], [0.1, 0.2, 0.3]),
    schedules.PolynomialDecay(0.1, 100),
    schedules.PolynomialDecay(0.1, 100, end_learning_rate=0.01, power=2.0, cycle=True),
]


def declared(name: str, config: dict[str, Any]) -> OptimizerSettings:
    return OptimizerSettings(name="sgd", schedule=name, schedule_config=config)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_every_schedule_of_keras(schedule: Any) -> None:
    settings = declared(type(schedule).__name__, schedule.get_config())
    for step in STEPS:
        expected = float(keras.ops.convert_to_numpy(schedule(step)))
        assert rate_at(settings, step) == pytest.approx(expected, rel=1e-4, abs=1e-7), step


def test_none_is_left_out() -> None:
    known = {name for name in vars(schedules) if name[0].isupper()} - {"LearningRateSchedule"}
    assert known == set(FORMULAS)


def test_a_constant_rate_stays() -> None:
    assert rate_at(OptimizerSettings(name="sgd", learning_rate=0.1), 1000) == 0.1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Own", {}),
        ("CosineDecay", {}),
        ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 0}),
        ("ExponentialDecay", {"initial_learning_rate": 1, "decay_steps": 1e-9, "decay_rate": 9}),
        ("ExponentialDecay", {"initial_learning_rate": 1, "decay_steps": 3, "decay_rate": -1}),
        ("PiecewiseConstantDecay", {"boundaries": ["a"], "values": [1.0]}),
        ("PiecewiseConstantDecay", {"boundaries": None, "values": None}),
        ("PolynomialDecay", {"initial_learning_rate": "x", "decay_steps": "y"}),
        ("CosineDecayRestarts", {"initial_learning_rate": 1, "first_decay_steps": 1, "t_mul": -1}),
    ],
)
def test_what_cannot_be_told(name: str, config: dict[str, Any]) -> None:
    assert rate_at(declared(name, config), 10) is None
