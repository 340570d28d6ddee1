"""GEB105: a Dense output layer at every position."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Confidence, Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def cnn(*, flatten: bool, strides: int = 2, loss: str = SPARSE, head: str = "dense") -> LayerGraph:
    build = GraphBuilder()
    x = build.conv(build.input((28, 28, 1)), 16, 3, "relu", strides=strides)
    if flatten:
        x = build.flatten(x)
    x = build.dense(x, 10, "softmax") if head == "dense" else build.conv(x, 10, 1, "softmax")
    return build.graph(x, loss=loss)


@pytest.mark.parametrize("loss", [SPARSE, "mean_squared_error", "binary_crossentropy"])
def test_cnn_without_flatten(findings: Judge, loss: str) -> None:
    (found,) = findings("GEB105", cnn(flatten=False, loss=loss))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert "(14, 14, 10)" in found.message
    assert findings("GEB105", cnn(flatten=True, loss=loss)) == ()


def test_a_prediction_for_each_pixel_is_a_segmentation(findings: Judge) -> None:
    assert findings("GEB105", cnn(flatten=False, strides=1)) == ()


def test_a_convolution_for_a_head_says_what_it_means(findings: Judge) -> None:
    assert findings("GEB105", cnn(flatten=False, head="convolution")) == ()


def test_uncompiled_models_and_custom_losses_are_not_judged(findings: Judge) -> None:
    assert findings("GEB105", cnn(flatten=False, loss=None)) == ()


def sequence(*, mixed: bool = False, shape: tuple = (28, 28), loss: str = SPARSE) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input(shape), 16, "relu")
    if mixed:
        x = build.lstm(x, 16, sequences=True)
    return build.graph(build.dense(x, 5, "softmax"), loss=loss)


def test_rows_of_an_image_by_themselves(findings: Judge) -> None:
    (found,) = findings("GEB105", sequence())
    assert found.confidence is Confidence.MEDIUM


def test_steps_by_themselves_may_be_meant(findings: Judge) -> None:
    (found,) = findings("GEB105", sequence(shape=(30, 8)))
    assert found.confidence is Confidence.LOW
    assert findings("GEB105", sequence(shape=(None, 8))) == ()
    assert findings("GEB105", sequence(shape=(30, 8), loss="mean_squared_error")) == ()


def test_recurrence_makes_it_a_tagger(findings: Judge) -> None:
    assert findings("GEB105", sequence(mixed=True)) == ()


def text(units: int, *, pooled: bool = False) -> LayerGraph:
    build = GraphBuilder()
    x = build.embedding(build.input((40,), "int32"), 500, 16)
    if pooled:
        x = build.add(Op.GLOBAL_AVERAGE_POOL, x, shape=(None, 16))
    return build.graph(build.dense(x, units, "sigmoid"), loss="binary_crossentropy")


def test_tokens_by_themselves(findings: Judge) -> None:
    assert len(findings("GEB105", text(1))) == 1
    assert findings("GEB105", text(1, pooled=True)) == ()


def test_a_score_for_each_token_of_the_vocabulary_is_a_language_model(findings: Judge) -> None:
    assert findings("GEB105", text(500)) == ()
