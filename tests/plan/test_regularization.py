import pytest
from builders import GraphBuilder
from plan.plan_samples import compiled, finding, mlp, probe

from auditor.measurement import CallMeasurement
from auditor.plan.case import Case
from auditor.plan.regularization import regularization


def decay_of(case: Case, *, redrawn: bool = False):
    advice = regularization(case, trainable=True, redrawn=redrawn)
    return next((s for s in advice.settings if s.name == "weight_decay"), None), advice.notes


def test_decay_takes_its_stated_share_of_the_measured_step() -> None:
    measured = probe(calls={"dense": CallMeasurement(update_ratio=8e-3)})
    setting, _ = decay_of(Case(graph=compiled(mlp(), "adam", 1e-3), probe=measured))
    assert setting is not None
    # a step at unit rate is 8 times the weights; a thousandth of that
    assert setting.value == pytest.approx(8e-3)
    assert setting.low == pytest.approx(8e-4)
    assert setting.high == pytest.approx(8e-2)


def test_declared_decay_inside_the_interval_is_kept() -> None:
    setting, _ = decay_of(
        Case(graph=compiled(mlp(), "adamw", 1e-3, weight_decay=0.01), probe=probe())
    )
    assert setting is not None
    assert setting.value == 0.01
    assert "inside the interval" in setting.reason


def test_decay_far_above_the_step_is_lowered() -> None:
    setting, _ = decay_of(
        Case(graph=compiled(mlp(), "adamw", 1e-3, weight_decay=5.0), probe=probe())
    )
    assert setting is not None
    assert isinstance(setting.value, float)
    assert setting.value < 0.1
    assert setting.current == 5.0


def test_regularized_model_gets_no_decay_on_top() -> None:
    build = GraphBuilder()
    hidden = build.dropout(build.dense(build.input((8,)), 16, "relu"), 0.3)
    graph = build.graph(build.dense(hidden, 4, "softmax"), loss="mse")
    setting, notes = decay_of(Case(graph=graph, probe=probe()))
    assert setting is None
    assert any("dropout" in note for note in notes)


def test_dropout_by_place() -> None:
    build = GraphBuilder()
    first = build.dropout(build.input((8,)), 0.8)
    hidden = build.dropout(build.dense(first, 16, "relu"), 0.9)
    last = build.dropout(build.dense(hidden, 4, "softmax"), 0.5)
    accusations = (finding("GEB402", first), finding("GEB402", hidden), finding("GEB402", last))
    case = Case(graph=build.graph(last), findings=accusations)
    rates = {s.layers: s for s in regularization(case, trainable=False, redrawn=False).settings}
    assert {layers: s.value for layers, s in rates.items()} == {
        (first,): 0.2,
        (hidden,): 0.5,
        (last,): 0.0,
    }
    assert rates[(hidden,)].because == (accusations[1].fingerprint,)
    assert rates[(hidden,)].current == 0.9


def test_innocent_dropout_is_left_alone() -> None:
    build = GraphBuilder()
    hidden = build.dropout(build.dense(build.input((8,)), 16, "relu"), 0.9)
    case = Case(graph=build.graph(build.dense(hidden, 4)))
    assert not regularization(case, trainable=False, redrawn=False).settings


def test_measured_sparsity_is_told() -> None:
    _, notes = decay_of(Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe()))
    assert any("50%" in note for note in notes)
