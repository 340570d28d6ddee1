"""GEB203: heads whose range or axis is not what the loss takes."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Confidence
from auditor.graph import LayerGraph, LossSettings

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def head(activation: str | None, loss: str, *, logits: bool = False, units: int = 10) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((16,)), 32, "relu"), units, activation)
    return build.graph(x, loss=loss, from_logits=logits)


def test_bounded_logits(findings: Judge) -> None:
    """Ten classes: e/(e + 9/e) = 0.45; one unit: e/(e + 1) = 0.73."""
    (many,) = findings("GEB203", head("tanh", SPARSE, logits=True))
    (one,) = findings("GEB203", head("tanh", "binary_crossentropy", logits=True, units=1))
    assert "0.45" in many.message
    assert "0.73" in one.message
    assert findings("GEB203", head(None, SPARSE, logits=True)) == ()
    assert findings("GEB203", head("tanh", "hinge", units=1)) == ()


@pytest.mark.parametrize("activation", ["elu", "selu", "gelu", "silu", "mish"])
def test_regression_from_an_activation_of_hidden_layers(findings: Judge, activation: str) -> None:
    (found,) = findings("GEB203", head(activation, "mean_squared_error", units=1))
    assert found.confidence is Confidence.LOW
    assert findings("GEB203", head("tanh", "mean_squared_error", units=1)) == ()


def softmax_along(axis: int, loss_axis: int = -1) -> LayerGraph:
    build = GraphBuilder()
    x = build.conv(build.input((8, 8, 3)), 8, 3)
    x = build.activation(x, "softmax", axis=axis)
    loss = LossSettings(name="categorical_crossentropy", config={"axis": loss_axis})
    return build.graph(x, loss=(loss,))


@pytest.mark.parametrize(
    ("axis", "loss_axis", "count"), [(-1, -1, 0), (3, -1, 0), (1, 1, 0), (1, -1, 1), (0, -1, 1)]
)
def test_softmax_along_the_classes(findings: Judge, axis: int, loss_axis: int, count: int) -> None:
    found = findings("GEB203", softmax_along(axis, loss_axis))
    assert len(found) == count
    assert all(("samples" in finding.message) is (axis == 0) for finding in found)


def test_ctc_squashes_by_itself(findings: Judge) -> None:
    def speech(activation: str | None) -> LayerGraph:
        build = GraphBuilder()
        x = build.lstm(build.input((50, 13)), 32, sequences=True)
        return build.graph(build.dense(x, 30, activation), loss="ctc")

    assert len(findings("GEB203", speech("softmax"))) == 1
    assert findings("GEB203", speech(None)) == findings("GEB203", speech("log_softmax")) == ()
