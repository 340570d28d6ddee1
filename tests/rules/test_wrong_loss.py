"""GEB604: losses that belong to another task."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder
from compiled import measured

from auditor.finding import Severity
from auditor.graph import LayerGraph, LossSettings, Op

Judge = Callable[..., tuple]


def headed(units: int, activation: str | None, loss: str, *, custom: bool = False) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((16,)), 32, "relu"), units, activation)
    return build.graph(x, loss=(LossSettings(name=loss, custom=custom),))


@pytest.mark.parametrize(
    "loss", ["mean_squared_error", "mean_absolute_error", "huber", "mean_absolute_percentage_error"]
)
def test_an_error_of_numbers_over_softmax(findings: Judge, loss: str) -> None:
    (found,) = findings("GEB604", headed(10, "softmax", loss))
    assert found.severity is Severity.WARNING
    assert findings("GEB604", headed(10, None, loss)) == ()


def test_over_sigmoid_it_takes_a_metric_to_tell(findings: Judge) -> None:
    graph = headed(1, "sigmoid", "mean_squared_error")
    # A least-squares discriminator, an autoencoder, a regression between 0 and 1.
    assert findings("GEB604", graph) == ()
    assert findings("GEB604", measured(graph, "mean_absolute_error")) == ()
    assert len(findings("GEB604", measured(graph, "accuracy"))) == 1


@pytest.mark.parametrize("name", ["accuracy", "sparse_categorical_accuracy"])
def test_decisions_have_no_gradient(findings: Judge, name: str) -> None:
    (found,) = findings("GEB604", headed(10, "softmax", name, custom=True))
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize("name", ["own>focal", "own>accuracy", "f1_score", "soft_dice"])
def test_other_custom_losses_are_their_authors_own(findings: Judge, name: str) -> None:
    assert findings("GEB604", headed(10, "softmax", name, custom=True)) == ()


def test_cosine_needs_more_than_one_number(findings: Judge) -> None:
    (found,) = findings("GEB604", headed(1, None, "cosine_similarity"))
    assert found.severity is Severity.ERROR
    assert findings("GEB604", headed(8, None, "cosine_similarity")) == ()


def test_ctc_needs_time(findings: Judge) -> None:
    (found,) = findings("GEB604", headed(12, None, "ctc"))
    assert found.severity is Severity.ERROR
    build = GraphBuilder()
    x = build.dense(build.lstm(build.input((40, 8)), 16, sequences=True), 12)
    assert findings("GEB604", build.graph(x, loss="ctc")) == ()


@pytest.mark.parametrize(
    ("activation", "count"), [(None, 1), ("tanh", 1), ("relu", 0), ("softplus", 0), ("sigmoid", 0)]
)
def test_logarithmic_error(findings: Judge, activation: str | None, count: int) -> None:
    graph = headed(1, activation, "mean_squared_logarithmic_error")
    assert len(findings("GEB604", graph)) == count


@pytest.mark.parametrize(("activation", "count"), [(None, 1), ("sigmoid", 0), ("softmax", 0)])
def test_overlap_is_of_probabilities(findings: Judge, activation: str | None, count: int) -> None:
    assert len(findings("GEB604", headed(3, activation, "dice"))) == count


def test_a_head_that_is_not_understood(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(Op.OPAQUE, build.dense(build.input((16,)), 4, "softmax"), kind="Lambda")
    assert findings("GEB604", build.graph(x, loss="mean_squared_error")) == ()


def test_each_output_has_its_loss(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 32, "relu")
    kind, size = build.dense(x, 4, "softmax"), build.dense(x, 1)
    losses = (
        LossSettings(name="mean_squared_error", output=kind),
        LossSettings(name="mean_squared_error", output=size),
    )
    (found,) = findings("GEB604", build.graph(kind, size, loss=losses))
    assert found.layers == (kind,)
