import math

import pytest
from builders import GraphBuilder
from plan.plan_samples import compiled, finding, mlp, norms, probe

from auditor.plan.case import Case
from auditor.plan.clipping import clipping


def test_steady_gradients_are_not_clipped_and_the_note_says_why() -> None:
    advice = clipping(Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe()), redrawn=False)
    assert advice.setting is None
    assert "2" in advice.notes[0]
    assert "not needed" in advice.notes[0]


def test_recurrent_model_is_clipped_between_the_measured_ends() -> None:
    build = GraphBuilder()
    graph = build.graph(build.dense(build.lstm(build.input((8, 4)), 16), 10, "softmax"), loss="mse")
    setting = clipping(Case(graph=graph, probe=probe()), redrawn=False).setting
    assert setting is not None
    assert setting.name == "global_clipnorm"
    assert setting.low == pytest.approx(1.8)
    assert setting.high == pytest.approx(10 * (1.8 + 2.0 + 2.4) / 3, rel=0.05)
    assert setting.value == pytest.approx(math.sqrt(setting.low * setting.high), rel=0.05)
    assert "2.4" in setting.reason


def test_heavy_tail_is_clipped() -> None:
    spiky = probe(gradient_norm=norms(1.0, 1.1, 0.9, 30.0))
    setting = clipping(Case(graph=mlp(), probe=spiky), redrawn=False).setting
    assert setting is not None
    assert "heavy-tailed" in setting.reason


def test_explosion_by_initialization_asks_for_a_redraw_first() -> None:
    exploding = finding("GEB501", "dense")
    case = Case(
        graph=mlp(), findings=(exploding,), probe=probe(gradient_norm=norms(1e12, 2e12, 3e12))
    )
    setting = clipping(case, redrawn=True).setting
    assert setting is not None
    assert setting.value == 1.0
    assert "redraw the weights first" in setting.reason
    assert setting.because == (exploding.fingerprint,)


@pytest.mark.parametrize("mode", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_declared_clip_is_kept_in_its_mode(mode: str) -> None:
    graph = compiled(mlp(), "adam", 1e-3, **{mode: 0.5})
    setting = clipping(Case(graph=graph, probe=probe()), redrawn=False).setting
    assert setting is not None
    assert (setting.name, setting.value) == (mode, 0.5)


def test_clip_orders_below_every_norm_is_replaced() -> None:
    graph = compiled(mlp(), "sgd", 0.1, global_clipnorm=1e-4)
    setting = clipping(Case(graph=graph, probe=probe()), redrawn=False).setting
    assert setting is not None
    assert isinstance(setting.value, float)
    assert setting.value > 1.8
    assert setting.current == 1e-4


def test_non_finite_norms_do_not_reach_the_setting() -> None:
    broken = probe(gradient_norm=norms(math.inf, math.inf, math.inf))
    case = Case(graph=mlp(), findings=(finding("GEB503", "dense"),), probe=broken)
    setting = clipping(case, redrawn=False).setting
    assert setting is not None
    assert setting.value == 1.0


def test_adams_invariance_is_told() -> None:
    case = Case(graph=compiled(mlp(), "adam", 1e-3), findings=(finding("GEB501"),), probe=probe())
    assert any("adam divides" in note for note in clipping(case, redrawn=False).notes)


def test_exploded_norms_are_no_measure_of_a_spike() -> None:
    wild = probe(gradient_norm=norms(2e6, 3e6, 2.6e12))
    case = Case(graph=mlp(), findings=(finding("GEB507"),), probe=wild)
    setting = clipping(case, redrawn=False).setting
    assert setting is not None
    assert setting.value == 1.0


def test_depth_of_normalized_layers_asks_for_no_clip() -> None:
    build = GraphBuilder()
    call = build.input((16,))
    for _ in range(10):
        call = build.activation(build.batch_norm(build.dense(call, 16)), "relu")
    graph = build.graph(build.dense(call, 3, "softmax"), loss="mse")
    accused = (finding("GEB501"),)
    assert (
        clipping(Case(graph=graph, findings=accused, probe=probe()), redrawn=False).setting is None
    )
    plain = clipping(Case(graph=mlp(), findings=accused, probe=probe()), redrawn=False)
    assert plain.setting is not None


def test_nan_is_not_clipped() -> None:
    lost = probe(gradient_norm=norms(math.nan, math.nan, math.nan))
    case = Case(graph=mlp(), findings=(finding("GEB503"),), probe=lost)
    assert clipping(case, redrawn=False).setting is None
