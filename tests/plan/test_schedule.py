from dataclasses import replace

import pytest
from builders import GraphBuilder
from plan.plan_samples import compiled, mlp, probe

from auditor.graph import CompileSettings, LayerGraph, Op, OptimizerSettings
from auditor.plan.case import Case
from auditor.plan.schedule import schedule
from auditor.plan.settings import Setting

RATE = Setting(name="learning_rate", value=1e-3)


def scheduled(name: str, rate: float, **config) -> LayerGraph:
    optimizer = OptimizerSettings(
        name="adam", learning_rate=rate, schedule=name, schedule_config=config
    )
    return replace(mlp(), compile=CompileSettings(optimizer=optimizer))


def test_plateau_where_nothing_is_known_of_the_run() -> None:
    setting = schedule(
        Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe()), RATE, redrawn=False
    ).setting
    assert setting is not None
    assert setting.value == "ReduceLROnPlateau"
    assert setting.config["monitor"] == "loss"


def test_attention_warms_up_to_the_recommended_rate() -> None:
    build = GraphBuilder()
    call = build.add(Op.ATTENTION, build.input((8, 16)), kind="MultiHeadAttention")
    graph = compiled(build.graph(build.dense(call, 4)), "adam", 1e-3, beta_2=0.99)
    setting = schedule(Case(graph=graph), RATE, redrawn=False).setting
    assert setting is not None
    assert setting.value == "PolynomialDecay"
    assert setting.config["end_learning_rate"] == 1e-3
    assert setting.config["decay_steps"] == 100  # 1/(1−β₂)


def test_overshooting_first_step_warms_up() -> None:
    case = Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe(step_curvature=1e6))
    setting = schedule(case, RATE, redrawn=False).setting
    assert setting is not None
    assert setting.value == "PolynomialDecay"
    assert "overshoots" in setting.reason


def test_declared_schedule_is_kept_and_scaled() -> None:
    graph = scheduled("CosineDecay", 0.1, initial_learning_rate=0.1, decay_steps=500, alpha=0.0)
    setting = schedule(Case(graph=graph), RATE, redrawn=False).setting
    assert setting is not None
    assert setting.value == "CosineDecay"
    assert setting.config["initial_learning_rate"] == pytest.approx(1e-3)
    assert setting.config["decay_steps"] == 500


def test_warmup_from_zero_scales_its_target() -> None:
    graph = scheduled(
        "CosineDecay",
        0.0,
        initial_learning_rate=0.0,
        decay_steps=500,
        warmup_target=0.01,
        warmup_steps=50,
    )
    setting = schedule(Case(graph=graph), RATE, redrawn=False).setting
    assert setting is not None
    assert setting.config["warmup_target"] == pytest.approx(1e-3)
    assert setting.config["initial_learning_rate"] == 0.0


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("PiecewiseConstantDecay", {"boundaries": [1], "values": [1.0, 2.0]}),
        ("os.system", {"command": "true"}),
        ("CosineDecay", {"decay_steps": float("nan")}),
    ],
)
def test_schedule_that_cannot_be_written_is_named(name: str, config: dict[str, object]) -> None:
    advice = schedule(Case(graph=scheduled(name, 0.1, **config)), RATE, redrawn=False)
    assert advice.setting is None
    assert name in advice.notes[0]


def test_no_rate_no_schedule() -> None:
    assert schedule(Case(graph=mlp()), None, redrawn=False).setting is None


def test_overshoot_of_redrawn_weights_asks_for_no_warmup() -> None:
    case = Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe(step_curvature=1e6))
    setting = schedule(case, RATE, redrawn=True).setting
    assert setting is not None
    assert setting.value == "ReduceLROnPlateau"
