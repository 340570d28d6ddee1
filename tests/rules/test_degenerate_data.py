"""GEB705 and GEB608: what the data hold, and how many samples they are."""

import numpy as np
import pytest
from builders import GraphBuilder
from surveyed import surveyed

from auditor.finding import Severity

RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (1000, 6))


def graph(units=1, activation="sigmoid", loss="binary_crossentropy", *, norm=False, batch=None):
    from dataclasses import replace

    build = GraphBuilder()
    call = build.dense(build.input((6,)), 8, "relu")
    if norm:
        call = build.batch_norm(call)
    model = build.graph(build.dense(call, units, activation), loss=loss)
    if batch is None:
        return model
    specs = tuple(replace(spec, shape=(batch, 6)) for spec in model.inputs)
    return replace(model, inputs=specs)


@pytest.fixture
def told(findings):
    def of(code, model, x, y=None, **options):
        found = findings(code, model, None, surveyed(model, x, y), **options)
        return [finding.severity for finding in found]

    return of


def few(positive: int):
    return (np.arange(1000) < positive).astype(int)


@pytest.mark.parametrize(
    ("y", "options", "fires"),
    [
        (few(500), {}, False),
        (few(30), {}, False),
        (few(15), {}, True),
        (few(15), {"majority": 0.99}, False),
        (few(1000), {}, True),
        (few(0), {}, True),
    ],
)
def test_classes(told, y, options, fires) -> None:
    assert told("GEB705", graph(), X, y, **options) == [Severity.WARNING] * fires


def test_rows_and_regression(told) -> None:
    by_rows = graph(3, "softmax", "categorical_crossentropy")
    assert told("GEB705", by_rows, X, np.eye(3)[np.arange(1000) % 3]) == []
    assert told("GEB705", by_rows, X, np.eye(3)[few(5)]) == [Severity.WARNING]
    counts = graph(1, None, "mean_squared_error")
    assert told("GEB705", counts, X, few(5)) == [], "rare events are no classes here"
    assert told("GEB705", counts, X, np.full(1000, 3.3)) == [Severity.WARNING]


def test_pixels_of_a_mask_may_be_rare(told) -> None:
    build = GraphBuilder()
    model = build.graph(build.conv(build.input((4, 4, 1)), 1, 1, "sigmoid"), loss="dice")
    mask = np.zeros((1000, 4, 4, 1))
    mask[::7, 1, 1] = 1
    assert told("GEB705", model, RNG.normal(0, 1, (1000, 4, 4, 1)), mask) == []


@pytest.mark.parametrize(
    ("constant", "severities"),
    [(0, []), (2, [Severity.INFO]), (3, [Severity.WARNING]), (6, [Severity.WARNING])],
)
def test_constant_features(told, constant, severities) -> None:
    x = X.copy()
    x[:, :constant] = 4.0
    assert told("GEB705", graph(), x, few(400)) == severities


def test_the_margin_of_images_is_constant(told) -> None:
    build = GraphBuilder()
    call = build.flatten(build.input((4, 4)))
    model = build.graph(build.dense(call, 1, "sigmoid"), loss="binary_crossentropy")
    x = RNG.normal(0, 1, (1000, 4, 4))
    x[:, 0] = 0.0
    assert told("GEB705", model, x, few(400)) == []


@pytest.mark.parametrize(
    ("samples", "severities"), [(96, []), (100, [Severity.WARNING]), (20, [Severity.WARNING])]
)
def test_fixed_batches(told, samples, severities) -> None:
    assert told("GEB608", graph(batch=32), X[:samples]) == severities
    assert told("GEB608", graph(), X[:samples]) == []


def test_batch_normalization_and_few_samples(told) -> None:
    assert told("GEB608", graph(norm=True), X) == []
    assert told("GEB608", graph(norm=True), X[:961]) == [Severity.INFO], "a last batch of one"
    assert told("GEB608", graph(norm=True), X[:60]) == [Severity.INFO]
    assert told("GEB608", graph(norm=True), X[:60], **{"batch-size": 8}) == []
    assert told("GEB608", graph(), X[:961]) == []
