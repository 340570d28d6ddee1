import math
from dataclasses import replace

import pytest
from builders import GraphBuilder, Stored, constant, normal
from plan.plan_samples import finding, mlp

from auditor.graph import Initializer, LayerGraph, Op
from auditor.graph.initializers import weight_law
from auditor.plan.case import Case
from auditor.plan.initialization import initialization


def laws(graph: LayerGraph, *findings) -> dict[tuple[str, str], tuple[str, ...]]:
    settings = initialization(Case(graph=graph, findings=findings)).settings
    return {(setting.name, str(setting.value)): setting.layers for setting in settings}


@pytest.mark.parametrize(
    ("activation", "law"),
    [
        ("relu", "he_normal"),
        ("gelu", "he_normal"),
        ("selu", "lecun_normal"),
        ("tanh", "glorot_uniform"),
        ("sigmoid", "glorot_uniform"),
    ],
)
def test_law_by_activation(activation: str, law: str) -> None:
    graph = mlp(3, normal(0.9), activation)
    accused = finding("GEB302", "dense", "dense_1")
    assert laws(graph, accused) == {("kernel_initializer", law): ("dense", "dense_1")}


def test_head_wants_glorot_and_innocent_layers_nothing() -> None:
    graph = mlp(3, normal(0.9))
    assert laws(graph, finding("GEB301", "dense_2")) == {
        ("kernel_initializer", "glorot_uniform"): ("dense_2",)
    }
    assert laws(graph) == {}


def test_activation_is_seen_through_normalization() -> None:
    build = GraphBuilder()
    hidden = build.dense(build.input((8,)), 16, kernel=constant(0.0))
    hidden = build.activation(build.batch_norm(hidden), "relu")
    graph = build.graph(build.dense(hidden, 4))
    assert ("kernel_initializer", "he_normal") in laws(graph, finding("GEB301", "dense"))


def test_explosion_redraws_what_is_drawn_too_large_only() -> None:
    build = GraphBuilder()
    call = build.dense(build.input((256,)), 256, "relu", kernel=normal(0.2))
    call = build.dense(call, 256, "relu", kernel="he_normal")
    graph = build.graph(build.dense(call, 10, "softmax"))
    assert laws(graph, finding("GEB501", "dense_1")) == {
        ("kernel_initializer", "he_normal"): ("dense",)
    }
    assert laws(graph, finding("GEB502", "dense_1")) == {}


def test_vanishing_sigmoid_stack_has_no_initialization_and_a_note() -> None:
    graph = mlp(20, "glorot_uniform", "sigmoid")
    advice = initialization(Case(graph=graph, findings=(finding("GEB502", "dense"),)))
    assert advice.settings == ()
    assert "sigmoid" in advice.notes[0]


def test_vanishing_relu_stack_under_glorot_wants_he() -> None:
    graph = mlp(30, "glorot_uniform")
    assert list(laws(graph, finding("GEB502", "dense"))) == [("kernel_initializer", "he_normal")]


def test_depthwise_kernel_is_given_its_own_deviation() -> None:
    build = GraphBuilder()
    call = build.conv(build.input((8, 8, 32)), 32, activation="relu", depthwise=True)
    graph = build.graph(build.dense(build.global_average(call), 10))
    (setting,) = initialization(Case(graph=graph, findings=(finding("GEB302", call),))).settings
    assert setting.name == "depthwise_initializer"
    # Var w = 2/9 once cut at two deviations; Keras' he_normal would count 32 × 9 inputs
    cut = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    assert setting.config["stddev"] == pytest.approx(math.sqrt(2 / 9 / cut), rel=1e-3)


def test_recurrent_kernel_is_orthogonal() -> None:
    build = GraphBuilder()
    graph = build.graph(build.dense(build.lstm(build.input((8, 4)), 16), 10))
    drawn = laws(graph, finding("GEB301", "lstm"))
    assert ("recurrent_initializer", "orthogonal") in drawn
    assert ("kernel_initializer", "glorot_uniform") in drawn


def test_dead_layer_also_gets_its_bias_back() -> None:
    assert ("bias_initializer", "zeros") in laws(mlp(3), finding("GEB205", "dense"))


def test_frozen_layers_stay() -> None:
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu", kernel=normal(3.0), trainable=False)
    assert laws(build.graph(build.dense(call, 2)), finding("GEB302", "dense")) == {}


def test_span_of_a_finding_spares_its_rightly_drawn_layers() -> None:
    build = GraphBuilder()
    call = build.dense(build.input((64,)), 64, "relu", kernel=normal(0.4))
    call = build.dense(call, 64, "relu", kernel="he_normal")
    graph = build.graph(build.dense(call, 10, "softmax"))
    assert laws(graph, finding("GEB302", "dense", "dense_1", "dense_2")) == {
        ("kernel_initializer", "he_normal"): ("dense",)
    }


def test_trained_weights_are_not_redrawn_for_a_finding_on_propagation() -> None:
    build = GraphBuilder()
    call = build.dense(build.input((64,)), 64, "relu", kernel=normal(0.4))
    graph = build.graph(build.dense(call, 10, "softmax"))
    first = graph.by_id["dense"]
    kernel = first.weights[0]
    assert kernel.read is not None
    trained = replace(kernel, read=Stored(kernel.read() * 3))
    moved = replace(first, weights=(trained, *first.weights[1:]))
    after = replace(graph, calls=tuple(moved if c.id == "dense" else c for c in graph.calls))
    assert laws(graph, finding("GEB501", "dense")) != {}
    assert laws(after, finding("GEB501", "dense")) == {}


def residual(*, activated: bool = False):
    build = GraphBuilder()
    call = build.dense(build.input((16,)), 16)
    for _ in range(9):
        branch = build.dense(call, 16, "relu", kernel="he_normal")
        branch = build.dense(branch, 16, "relu" if activated else None, kernel="he_normal")
        call = build.add(Op.ADD, call, branch)
    return build.graph(build.dense(call, 10, "softmax"), loss="mse")


def test_exploding_sums_start_their_branches_at_nothing() -> None:
    accused = (finding("GEB501", "dense_1"),)
    (setting,) = initialization(Case(graph=residual(), findings=accused)).settings
    assert (setting.value, setting.current) == ("zeros", "he_normal")
    # The last kernel of each branch, and no other.
    assert setting.layers == tuple(f"dense_{index}" for index in range(2, 19, 2))
    assert setting.because == (accused[0].fingerprint,)


def test_branches_that_end_in_an_activation_are_scaled_by_their_number() -> None:
    accused = (finding("GEB501", "dense_1"),)
    (setting,) = initialization(Case(graph=residual(activated=True), findings=accused)).settings
    assert setting.value == "truncated_normal"
    law = weight_law(Initializer(name="truncated_normal", config=setting.config), (16, 16))
    assert law is not None
    assert law.variance == pytest.approx(2 / 16 / 9, rel=1e-3)


def test_healthy_sums_are_left_alone() -> None:
    assert initialization(Case(graph=residual())).settings == ()
