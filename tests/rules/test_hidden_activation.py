"""GEB202 and GEB207: hidden activations that belong elsewhere, or grow without bound."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Confidence
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def mlp(*hidden: str | None, trainable: bool = True) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((32,))
    for activation in hidden:
        x = build.dense(x, 64, activation, trainable=trainable)
    return build.graph(build.dense(x, 10, "softmax"), loss=SPARSE)


def test_softmax_within_the_model(findings: Judge) -> None:
    (found,) = findings("GEB202", mlp("softmax"))
    assert found.layers == ("dense",)
    assert "1/64" in found.message
    assert findings("GEB202", mlp("relu")) == ()


def test_softmax_as_a_layer_behind_dropout(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((32,)), 64), "softmax", axis=-1)
    x = build.dense(build.dropout(x, 0.2), 10, "softmax")
    assert findings("GEB202", build.graph(x, loss=SPARSE))[0].layers == ("activation",)


def test_softmax_as_weights_of_something(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((32,))
    gated = build.add(Op.MULTIPLY, x, build.dense(x, 32, "softmax"))
    assert findings("GEB202", build.graph(build.dense(gated, 2, "softmax"), loss=SPARSE)) == ()


def test_predictions_of_a_frozen_model_may_be_read(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((32,)), 3, "softmax", trainable=False)
    assert findings("GEB202", build.graph(build.dense(x, 2), loss="mse")) == ()


def test_an_output_that_another_output_reads(findings: Judge) -> None:
    build = GraphBuilder()
    coarse = build.dense(build.input((32,)), 3, "softmax")
    assert findings("GEB202", build.graph(coarse, build.dense(coarse, 9), loss="mse")) == ()


@pytest.mark.parametrize(
    ("hidden", "confidence"),
    [
        (("exponential", "exponential"), Confidence.HIGH),
        (("relu", "exponential"), Confidence.MEDIUM),
        (("exponential", "tanh"), None),
        (("softplus", "softplus"), None),
    ],
)
def test_exponentials(findings: Judge, hidden: tuple, confidence: Confidence | None) -> None:
    found = findings("GEB207", mlp(*hidden))
    assert [finding.confidence for finding in found] == ([confidence] if confidence else [])


def test_an_exponential_head_is_for_rates(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((8,)), 16, "relu"), 1, "exponential")
    assert findings("GEB207", build.graph(x, loss="poisson")) == ()


def powers(*kinds: str, normalized: bool = False) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((32,))
    for kind in kinds:
        x = build.add(
            Op.ELEMENTWISE, build.dense(x, 32), kind=kind, config={"arguments": [None, 3]}
        )
        x = build.normalization(Op.LAYER_NORM, x) if normalized else x
    return build.graph(build.dense(x, 1), loss="mse")


@pytest.mark.parametrize(
    ("kinds", "count"),
    [(("Square",) * 2, 0), (("Square",) * 3, 1), (("Power",) * 2, 1), (("Sqrt",) * 4, 0)],
)
def test_powers_multiply(findings: Judge, kinds: tuple[str, ...], count: int) -> None:
    assert len(findings("GEB207", powers(*kinds))) == count
    assert findings("GEB207", powers(*kinds, normalized=True)) == ()


def test_degree_is_an_option(findings: Judge) -> None:
    assert len(findings("GEB207", powers("Square", "Square"), degree=4.0)) == 1


def test_sampling_of_an_autoencoder_multiplies(findings: Judge) -> None:
    build = GraphBuilder()
    x, noise = build.dense(build.input((32,)), 8), build.input((8,))
    spread = build.activation(build.dense(x, 8), "exponential")
    x = build.add(Op.ADD, x, build.add(Op.MULTIPLY, spread, noise))
    assert findings("GEB207", build.graph(build.dense(x, 32, "sigmoid"), loss="mse")) == ()
