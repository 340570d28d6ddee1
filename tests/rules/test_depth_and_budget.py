"""GEB109 and GEB110: depth without anything that carries it, and cost over budget."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def stack(depth: int, *, every: int = 0, activation: str = "relu", **dense) -> LayerGraph:
    """Dense layers, a normalization after every so many."""
    build = GraphBuilder()
    x = build.input((32,))
    for index in range(depth):
        x = build.dense(x, 32, activation, **{"kernel": "he_normal", **dense})
        if every and index % every == 0:
            x = build.batch_norm(x)
    return build.graph(build.dense(x, 10, "softmax"), loss=SPARSE)


@pytest.mark.parametrize(("depth", "count"), [(30, 0), (31, 1)])
def test_more_than_thirty_hidden_layers(findings: Judge, depth: int, count: int) -> None:
    assert len(findings("GEB109", stack(depth))) == count


def test_normalization_now_and_then_is_enough(findings: Judge) -> None:
    assert findings("GEB109", stack(60, every=10)) == ()


def test_skips_are_enough(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((32,)), 32)
    for _ in range(40):
        x = build.add(Op.ADD, x, build.dense(x, 32, "relu", kernel="zeros"))
    assert findings("GEB109", build.graph(build.dense(x, 3), loss="mse")) == ()


def test_made_for_depth(findings: Judge) -> None:
    assert findings("GEB109", stack(50, activation="selu", kernel="lecun_normal")) == ()
    assert findings("GEB109", stack(50, activation="tanh", kernel="orthogonal")) == ()


def test_frozen_layers_do_not_count(findings: Judge) -> None:
    assert findings("GEB109", stack(50, trainable=False)) == ()


def test_a_trained_stack_shows_that_it_trains(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((32,))
    for _ in range(40):
        x = build.dense(x, 32, "relu", kernel="he_normal")
    graph = build.graph(build.dense(x, 3), loss="mse")
    assert findings("GEB109", graph)[0].severity is Severity.WARNING
    onnx = GraphBuilder(format_="onnx")
    x = onnx.input((32,))
    for _ in range(40):
        x = onnx.dense(x, 32, "relu")
    assert findings("GEB109", onnx.graph(onnx.dense(x, 3)))[0].severity is Severity.INFO


def test_depth_is_an_option(findings: Judge) -> None:
    assert len(findings("GEB109", stack(12), layers=10)) == 1


def test_no_budget_but_a_vast_one(findings: Judge) -> None:
    assert findings("GEB110", stack(5)) == ()


@pytest.mark.parametrize(
    ("option", "value", "layer"),
    [("parameters", 5000, "dense"), ("operations", 5000, "dense"), ("activation-memory", 1, None)],
)
def test_over_budget(findings: Judge, option: str, value: int, layer: str | None) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((300,)), 32, "relu")
    x = build.dense(x, 300_000, "relu") if layer is None else x
    (found,) = findings("GEB110", build.graph(build.dense(x, 2)), **{option: value})
    assert found.severity is Severity.WARNING
    assert found.layers == (layer or "dense_1",)


def test_zero_is_no_budget(findings: Judge) -> None:
    assert findings("GEB110", stack(5), parameters=0, **{"activation-memory": 0}) == ()


def test_billions_of_weights_by_accident(findings: Judge) -> None:
    """A Flatten before a Dense layer, of which only the architecture is saved."""
    build = GraphBuilder(values=False)
    x = build.flatten(build.conv(build.input((512, 512, 3)), 64, 3, "relu"))
    wide = build.graph(build.dense(build.dense(x, 1024, "relu"), 10, "softmax"))
    (found,) = findings("GEB110", wide)
    assert found.layers == ("dense",)
    assert "GiB" in found.message
    build = GraphBuilder(values=False)
    x = build.global_average(build.conv(build.input((512, 512, 3)), 64, 3, "relu"))
    mended = build.graph(build.dense(build.dense(x, 1024, "relu"), 10, "softmax"))
    assert findings("GEB110", mended) == ()
