"""GEB507: a loss that starts astronomically high, and whose doing it is."""

import math

import numpy as np
import pytest
from builders import GraphBuilder
from measured import probe

from auditor.finding import Severity
from auditor.measurement import CallMeasurement


def regressor(kernel="he_normal"):
    build = GraphBuilder()
    call = build.dense(build.input((64,)), 64, "relu", kernel=kernel)
    return build.graph(build.dense(call, 1, kernel=kernel), loss="mean_squared_error")


def squared(loss: float, **more):
    return probe(loss="mean_squared_error", loss_at_start=loss, loss_expected=1.0, **more)


@pytest.mark.parametrize(
    ("loss", "severity"),
    [(1.5, None), (500.0, None), (2e3, Severity.WARNING), (3e5, Severity.ERROR)],
)
def test_squared_error_is_judged_by_its_root(findings, loss, severity) -> None:
    found = findings("GEB507", regressor(), squared(loss))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_cross_entropy_is_judged_as_it_is(findings) -> None:
    graph = regressor()
    assert findings("GEB507", graph, probe(loss_at_start=40.0)) == ()
    (warned,) = findings("GEB507", graph, probe(loss_at_start=100.0))
    (accused,) = findings("GEB507", graph, probe(loss_at_start=400.0))
    assert (warned.severity, accused.severity) == (Severity.WARNING, Severity.ERROR)


def test_users_data_may_be_unscaled_without_an_error(findings) -> None:
    graph = regressor()
    (pixels,) = findings("GEB507", graph, squared(255.0**2, data="pixels.npz"))
    assert pixels.severity is Severity.WARNING
    assert "Normalization" in pixels.remedy
    (huge,) = findings("GEB507", graph, squared(1e7, data="raw.npz"))
    assert huge.severity is Severity.ERROR


def test_trained_weights_are_judged_on_their_own_data_alone(findings) -> None:
    trained = regressor(kernel=np.full((64, 64), 3.0, np.float32))
    assert findings("GEB507", trained, squared(1e9)) == ()
    assert findings("GEB507", trained, squared(1e9, data="own.npz")) != ()


def test_call_that_makes_it_is_named(findings) -> None:
    calls = {"dense": CallMeasurement(rms=4e3), "dense_1": CallMeasurement(rms=5e3)}
    (finding,) = findings("GEB507", regressor(), squared(1e7, calls=calls))
    assert finding.layers[0] == "dense"
    assert "`dense`" in finding.message


def test_growth_that_is_spread_names_no_single_call(findings) -> None:
    calls = {"dense": CallMeasurement(rms=20.0), "dense_1": CallMeasurement(rms=3e3)}
    (finding,) = findings("GEB507", regressor(), squared(1e7, calls=calls))
    assert finding.layers == ("dense_1",)


@pytest.mark.parametrize(("loss", "expected"), [(math.inf, 1.0), (3.0, None), (3.0, 0.0)])
def test_what_cannot_be_compared_is_skipped(findings, loss, expected) -> None:
    assert findings("GEB507", regressor(), probe(loss_at_start=loss, loss_expected=expected)) == ()
