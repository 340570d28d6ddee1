import math
from dataclasses import replace

import pytest
from builders import GraphBuilder, normal
from plan.plan_samples import compiled, finding, mlp, norms, probe

from auditor.measurement import CallMeasurement
from auditor.plan.make import make_plan


def test_broken_model_gets_no_rate_and_the_reason() -> None:
    build = GraphBuilder()
    graph = build.graph(build.dropout(build.flatten(build.input((8, 8, 1))), 0.5), loss="mse")
    last = finding("GEB402", "dropout")
    plan = make_plan(graph, (finding("GEB101", "dropout"), finding("GEB102"), last), None, None)
    assert plan.learning_rate is plan.optimizer is plan.clip is plan.schedule is None
    assert "GEB101" in plan.notes[0]
    assert [s.value for s in plan.regularization] == [0.0]
    compile(plan.snippet, "plan", "exec")


def test_model_without_trainable_weights_gets_no_rate_without_a_finding() -> None:
    build = GraphBuilder()
    plan = make_plan(build.graph(build.flatten(build.input((8, 8)))), (), None, None)
    assert plan.settings() == ()
    assert "no trainable parameters" in plan.notes[0]


def test_healthy_model_keeps_what_it_declares() -> None:
    graph = compiled(mlp(), "adam", 1e-3, beta_1=0.8, weight_decay=0.004)
    plan = make_plan(graph, (), None, probe())
    assert plan.learning_rate is not None
    assert plan.learning_rate.value == 1e-3
    assert plan.optimizer is not None
    assert (plan.optimizer.value, plan.optimizer.config) == ("Adam", {"beta_1": 0.8})
    assert [s.value for s in plan.regularization] == [0.004]
    assert plan.initialization == ()
    assert plan.clip is None


def test_exploding_stack_is_redrawn_and_its_rate_is_a_prior() -> None:
    graph = compiled(mlp(30, normal(0.4)), "adam", 1e-3)
    names = tuple(call.id for call in graph.calls if call.id.startswith("dense"))[:-1]
    accusations = (finding("GEB302", *names), finding("GEB501", names[0]))
    wild = probe(loss_at_start=1e9, step_slope=-1e25)
    plan = make_plan(graph, accusations, None, wild)
    (setting,) = plan.initialization
    assert setting.layers == names
    assert setting.because == tuple(a.fingerprint for a in accusations)
    assert plan.learning_rate is not None
    assert plan.learning_rate.formula.startswith("prior")
    assert plan.clip is not None


@pytest.mark.parametrize(
    ("activation", "units", "loss"),
    [
        ("softmax", 10, "categorical_crossentropy"),
        ("sigmoid", 3, "binary_crossentropy"),
        (None, 1, "mean_squared_error"),
        (None, 10, None),
    ],
)
def test_onnx_model_gets_a_loss_by_its_head(
    activation: str | None, units: int, loss: str | None
) -> None:
    build = GraphBuilder()
    hidden = build.dense(build.input((8,)), 16, "relu")
    graph = replace(build.graph(build.dense(hidden, units, activation)), format="onnx")
    plan = make_plan(graph, (), None, None)
    assert (plan.loss.value if plan.loss else None) == loss
    assert plan.learning_rate is not None
    assert plan.optimizer is not None
    assert plan.optimizer.value == "Adam"
    compile(plan.snippet, "plan", "exec")


def test_half_precision_without_scaling_is_answered() -> None:
    graph = compiled(mlp(), "adam", 1e-3)
    halves = tuple(replace(call, dtype="float16") for call in graph.calls)
    plan = make_plan(replace(graph, calls=halves), (), None, None)
    assert plan.precision is not None
    assert plan.precision.value == "mixed_bfloat16"
    assert make_plan(graph, (), None, None).precision is None


def test_declared_accumulation_is_kept() -> None:
    graph = compiled(mlp(), "adam", 1e-3, gradient_accumulation_steps=4)
    plan = make_plan(graph, (), None, None)
    assert plan.accumulation is not None
    assert plan.accumulation.value == 4
    assert "gradient_accumulation_steps=4" in plan.snippet


def test_plan_is_pure() -> None:
    graph = compiled(mlp(), "adam", 1e-3)
    accusation = (finding("GEB302", "dense"),)
    assert make_plan(graph, accusation, None, probe()) == make_plan(
        graph, accusation, None, probe()
    )


def test_optimizer_whose_step_is_nan_is_replaced() -> None:
    lost = probe(calls={"dense": CallMeasurement(update_ratio=math.nan)})
    plan = make_plan(compiled(mlp(), "adafactor", 1e-3), (), None, lost)
    assert plan.optimizer is not None
    assert (plan.optimizer.value, plan.optimizer.current) == ("Adam", "Adafactor")
    assert "NaN" in plan.optimizer.reason
    assert plan.learning_rate is not None
    assert plan.learning_rate.value == 1e-3
    assert plan.learning_rate.current is None
    assert "keras.optimizers.Adam(" in plan.snippet


def test_gradient_of_nan_is_not_the_optimizers_doing() -> None:
    lost = probe(
        calls={"dense": CallMeasurement(update_ratio=math.nan)}, gradient_norm=norms(math.nan)
    )
    plan = make_plan(compiled(mlp(), "adafactor", 1e-3), (), None, lost)
    assert plan.optimizer is not None
    assert plan.optimizer.value == "Adafactor"


@pytest.mark.parametrize(
    ("optimizer", "ratio", "expected"),
    [("ftrl", 0.99, "Adam"), ("ftrl", 0.01, "Ftrl"), ("sgd", 0.99, "SGD")],
)
def test_optimizer_that_forgets_the_weights_is_replaced(optimizer, ratio, expected) -> None:
    calls = {name: CallMeasurement(update_ratio=ratio) for name in ("dense", "dense_1", "dense_2")}
    plan = make_plan(compiled(mlp(), optimizer, 1e-2), (), None, probe(calls=calls))
    assert plan.optimizer is not None
    assert plan.optimizer.value == expected


def test_scaled_loss_needs_no_other_precision() -> None:
    graph = compiled(mlp(), "adam", 1e-3)
    half = replace(graph, calls=tuple(replace(call, dtype="float16") for call in graph.calls))
    assert make_plan(half, (), None, None).precision is not None
    raw = {"optimizer": {"class_name": "LossScaleOptimizer", "config": {}}}
    wrapped = replace(half, compile=replace(half.compile, raw=raw))
    assert make_plan(wrapped, (), None, None).precision is None
