"""GEB605: rates that the start does not bear."""

from collections.abc import Callable
from typing import Any

import pytest
from builders import GraphBuilder
from compiled import optimized
from measured import probe

from auditor.graph import LayerGraph
from auditor.judgement import Selection, judge
from auditor.measurement import Estimate, ProbeResult, Sharpness
from auditor.registry import rule_by_code
from auditor.rule import Facts

Judge = Callable[..., tuple]
OVERSHOT = (2.4, 7.9, 2.6, 1.8, 1.3)


def graph(name: str = "sgd", rate: float = 1.0, **settings: Any) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((64,)), 64, "relu"), 5, "softmax")
    return optimized(build.graph(x, loss="categorical_crossentropy"), name, rate, **settings)


def sharp(
    largest: float, preconditioned: float | None = None, losses: tuple[float, ...] = OVERSHOT
) -> ProbeResult:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value, error=0.0, method="lanczos")

    seen = None if preconditioned is None else estimate(preconditioned)
    sharpness = Sharpness(largest=estimate(largest), preconditioned=seen)
    return probe(sharpness=sharpness, trial_losses=losses)


@pytest.mark.parametrize(("sharpness", "count"), [(1.5, 0), (2.9, 0), (3.1, 1), (50.0, 1)])
def test_plain_descent_bears_two(findings: Judge, sharpness: float, count: int) -> None:
    assert len(findings("GEB605", graph(), sharp(sharpness))) == count


@pytest.mark.parametrize(
    ("name", "config", "sharpness", "count"),
    [
        ("sgd", {"momentum": 0.9}, 5.0, 0),  # bears 3.8
        ("sgd", {"momentum": 0.9}, 6.0, 1),
        ("adam", {"beta_1": 0.9}, 50.0, 0),  # bears 38
        ("adam", {"beta_1": 0.9}, 60.0, 1),
        ("rmsprop", {}, 3.5, 1),  # bears 2
    ],
)
def test_what_an_optimizer_bears(
    findings: Judge, name: str, config: dict[str, float], sharpness: float, count: int
) -> None:
    seen = sharp(sharpness, None if name == "sgd" else sharpness)
    assert len(findings("GEB605", graph(name, **config), seen)) == count


@pytest.mark.parametrize(
    "losses",
    [
        (2.4, 2.3, 2.2, 2.1, 2.0),
        (2.4, 2.45, 2.2, 2.1, 2.0),
        (2.4, 90.0, 5e5, 4e4, 4e4),  # GEB601's
        (2.4, float("nan")),
        (),
    ],
)
def test_the_trial_has_the_last_word(findings: Judge, losses: tuple[float, ...]) -> None:
    assert findings("GEB605", graph(), sharp(50.0, losses=losses)) == ()


@pytest.mark.parametrize(
    ("schedule", "config", "count"),
    [
        ("PolynomialDecay", {"initial_learning_rate": 0.01, "decay_steps": 500,
                             "end_learning_rate": 1.0}, 0),
        ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 9000,
                         "warmup_target": 1.0, "warmup_steps": 500}, 0),
        ("PiecewiseConstantDecay", {"boundaries": [500], "values": [0.01, 1.0]}, 0),
        ("CosineDecay", {"initial_learning_rate": 1.0, "decay_steps": 9000}, 1),
    ],
)  # fmt: skip
def test_schedules_that_warm_up(
    findings: Judge, schedule: str, config: dict[str, Any], count: int
) -> None:
    made = graph(schedule=schedule, schedule_config=config)
    assert len(findings("GEB605", made, sharp(50.0))) == count


def test_overshoot_is_an_option(findings: Judge) -> None:
    assert len(findings("GEB605", graph(), sharp(2.5), overshoot=1.0)) == 1


def test_without_sharpness_it_is_skipped() -> None:
    seen = probe(trial_losses=OVERSHOT, sharpness_skipped="it would cost too much")
    found, skipped = judge((rule_by_code("GEB605"),), Facts(graph=graph(), probe=seen), Selection())
    assert found == ()
    assert [skip.reason for skip in skipped] == ["it would cost too much"]
