"""GEB507: a loss that starts astronomically high, and whose doing it is."""

import math

import numpy as np
import pytest
from builders import GraphBuilder
from measured import norms, probe

from auditor.finding import Severity
from auditor.measurement import CallMeasurement


def regressor(kernel="he_normal"):
    build = GraphBuilder()
    call = build.dense(build.input((64,)), 64, "relu", kernel=kernel)
    return build.graph(build.dense(call, 1, kernel=kernel), loss="mean_squared_error")


def grown(factor: float) -> dict[str, CallMeasurement]:
    """What is measured where the signal that enters the last layer has grown."""
    return {"dense": CallMeasurement(rms=factor), "dense_1": CallMeasurement(rms=factor)}


def squared(loss: float, calls=None, **more):
    calls = grown(math.sqrt(loss)) if calls is None else calls
    return probe(
        loss="mean_squared_error", loss_at_start=loss, loss_expected=1.0, calls=calls, **more
    )


@pytest.mark.parametrize(
    ("loss", "severity"),
    [(1.5, None), (200.0, None), (300.0, Severity.WARNING), (2e3, Severity.ERROR)],
)
def test_squared_error_is_judged_by_its_root(findings, loss, severity) -> None:
    found = findings("GEB507", regressor(), squared(loss))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_cross_entropy_is_judged_as_it_is(findings) -> None:
    graph = regressor()
    assert findings("GEB507", graph, probe(loss_at_start=30.0)) == ()
    (warned,) = findings("GEB507", graph, probe(loss_at_start=40.0, calls=grown(17.0)))
    (accused,) = findings("GEB507", graph, probe(loss_at_start=100.0, calls=grown(43.0)))
    assert (warned.severity, accused.severity) == (Severity.WARNING, Severity.ERROR)


def test_a_head_too_far_out_for_a_gradient_is_judged_by_its_inputs(findings) -> None:
    """Keras bounds the cross-entropy of a sample: its value does not tell how far out it is."""
    flat = {"loss_at_start": 12.0, "gradient_norm": norms(0.0), "growth_points": 0}
    (accused,) = findings("GEB507", regressor(), probe(calls=grown(300.0), **flat))
    assert accused.severity is Severity.ERROR
    assert "300 times too large" in accused.message
    assert findings("GEB507", regressor(), probe(calls=grown(30.0), **flat)) == ()
    with_gradient = {**flat, "growth_points": 5}
    assert findings("GEB507", regressor(), probe(calls=grown(300.0), **with_gradient)) == ()


def test_a_head_that_the_trial_does_not_move_is_judged_so_as_well(findings) -> None:
    """One batch has no gradient, others have some."""
    stuck = {"loss_at_start": 12.0, "trial_losses": (12.0,) * 5, "trial_further": (12.0,) * 16}
    (accused,) = findings("GEB507", regressor(), probe(calls=grown(43.0), **stuck))
    assert accused.severity is Severity.ERROR
    assert findings("GEB507", regressor(), probe(calls=grown(9.0), **stuck)) == ()
    moving = {**stuck, "trial_losses": (12.0, 11.9, 11.9, 11.8, 11.8)}
    assert findings("GEB507", regressor(), probe(calls=grown(43.0), **moving)) == ()
    healthy = {**stuck, "loss_at_start": 2.4}
    assert findings("GEB507", regressor(), probe(calls=grown(43.0), **healthy)) == ()


def test_a_large_head_alone_is_a_warning(findings) -> None:
    """A loss far off with a signal that did not grow is the head's matter, and trains."""
    (finding,) = findings("GEB507", regressor(), probe(loss_at_start=400.0, calls=grown(1.0)))
    assert finding.severity is Severity.WARNING


def test_units_of_the_output_are_not_judged_on_synthetic_targets(findings) -> None:
    """A last bias at the targets' mean, or a Rescaling behind the head."""
    assert findings("GEB507", regressor(), squared(5e5, calls=grown(1.0))) == ()
    scaled = squared(5e5, calls=grown(1.0), data="prices.npz")
    (finding,) = findings("GEB507", regressor(), scaled)
    assert finding.severity is Severity.WARNING
    assert "too large" not in finding.message
    assert "last bias" in finding.remedy


def test_users_data_may_be_unscaled_without_an_error(findings) -> None:
    graph = regressor()
    (pixels,) = findings("GEB507", graph, squared(255.0**2, data="pixels.npz"))
    assert pixels.severity is Severity.WARNING
    assert "Normalization" in pixels.remedy
    inputs = {"dense": CallMeasurement(rms=4e3), "dense_1": CallMeasurement(rms=4e3)}
    (large,) = findings("GEB507", graph, squared(1e7, calls=inputs, data="raw.npz"))
    assert large.severity is Severity.WARNING


def test_a_signal_that_explodes_on_given_data_is_an_error(findings) -> None:
    build = GraphBuilder()
    call = build.dense(build.input((64,)), 64, "relu", kernel="he_normal")
    call = build.dense(call, 64, "exponential", kernel="he_normal")
    graph = build.graph(build.dense(call, 1, kernel="he_normal"), loss="mean_squared_error")
    calls = {"dense": CallMeasurement(rms=2.0), "dense_1": CallMeasurement(rms=4e3)}
    (found,) = findings("GEB507", graph, squared(1e7, calls=calls, data="own.npz"))
    assert found.severity is Severity.ERROR
    assert "too large" in found.message


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
