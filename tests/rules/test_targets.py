"""GEB108, GEB702 and GEB703: what is an error, a warning, an information, or skipped."""

import numpy as np
import pytest
from builders import GraphBuilder
from surveyed import surveyed

from auditor.finding import Severity

N = 400
X = np.zeros((N, 3))
IDS = np.arange(N) % 4


def graph(units=4, activation="softmax", loss="sparse_categorical_crossentropy"):
    build = GraphBuilder()
    return build.graph(build.dense(build.input((3,)), units, activation), loss=loss)


@pytest.fixture
def told(findings):
    def of(code, model, y, **options):
        return findings(code, model, None, surveyed(model, X, y), **options)

    return of


def test_one_fault_is_told_once(told) -> None:
    model = graph()
    (finding,) = told("GEB703", model, IDS + 1)
    assert finding.severity is Severity.ERROR
    assert "from 1 to 4" in finding.message
    assert "y = y - 1" in finding.remedy
    assert told("GEB108", model, IDS + 1) == told("GEB702", model, IDS + 1) == ()


def test_more_classes_than_units(told) -> None:
    (finding,) = told("GEB108", graph(3), IDS)
    assert finding.severity is Severity.ERROR
    assert finding.layers == ("dense",)


def test_more_units_than_classes_are_an_information(told) -> None:
    (finding,) = told("GEB108", graph(10), IDS)
    assert finding.severity is Severity.INFO


def test_several_labels_a_row_are_a_warning(told) -> None:
    rows = np.clip(np.eye(4)[IDS] + np.eye(4)[(IDS + 1) % 4], 0, 1)
    (finding,) = told("GEB703", graph(loss="categorical_crossentropy"), rows)
    assert finding.severity is Severity.WARNING
    assert "binary_crossentropy" in finding.remedy


@pytest.mark.parametrize(
    ("outside", "options", "severity"),
    [
        (0, {}, None),
        (2, {}, Severity.WARNING),
        (40, {}, Severity.ERROR),
        (40, {"share": 0.2}, Severity.WARNING),
        (2, {"share": 0.0}, Severity.ERROR),
    ],
)
def test_share_out_of_range_decides(told, outside, options, severity) -> None:
    y = np.where(np.arange(N) < outside, 3.0, 0.5)
    found = told("GEB702", graph(1, "tanh", "mean_squared_error"), y, **options)
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_bytes_are_told_to_be_scaled(told) -> None:
    y = np.resize(np.arange(256.0), N)
    (finding,) = told("GEB702", graph(1, "sigmoid", "mean_squared_error"), y)
    assert "y / 255" in finding.remedy


def test_without_data_targets_or_a_loss_they_are_skipped(findings, skipped) -> None:
    reasons = skipped(graph())
    assert all("no data were given" in reasons[code] for code in ("GEB108", "GEB702", "GEB703"))
    uncompiled = graph(loss=None)
    assert findings("GEB703", uncompiled, None, surveyed(uncompiled, X, np.eye(4)[IDS])) == ()
    assert findings("GEB703", graph(), None, surveyed(graph(), X)) == ()
