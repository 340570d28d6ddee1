"""The risk: its measures, its domain, its reasons, and that nothing but a fault can raise it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import GraphBuilder, Stored
from measured import norms, probe

from auditor.graph.compile_settings import CompileSettings, OptimizerSettings
from auditor.measurement import CallMeasurement
from auditor.risk import Risk, assess, rate_too_high
from auditor.risk.assess import REASONS
from auditor.risk.calibration import calibration
from auditor.risk.measures import FAR, LEAST_SHARE, MEASURES, risk_measures

ADAM = OptimizerSettings(name="adam", learning_rate=1e-3)
LEARNING = tuple(2.4 * 0.7**step for step in range(21))
HEALTHY = probe(
    depth=10,
    trial_losses=LEARNING[:5],
    trial_further=LEARNING[5:],
    trial_constant=2.2,
    calls={"dense": CallMeasurement(update_ratio=3e-3)},
)
STILL = replace(
    HEALTHY,
    gradient_ratio=1e-7,
    trial_losses=(2.31,) * 5,
    trial_further=(2.3,) * 16,
    trial_long=(2.3,) * 180,
    calls={"dense": CallMeasurement(update_ratio=1e-6)},
)


def graph(optimizer=ADAM, *, outputs=1, scale=1.0):
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 64, "relu")
    kernel = build.calls[-1].weights[0]
    trained = replace(kernel, read=Stored(scale * np.asarray(kernel.read.values)))
    build.calls[-1] = replace(build.calls[-1], weights=(trained,))
    heads = [build.dense(x, 10, "softmax") for _ in range(outputs)]
    made = build.graph(*heads, loss="sparse_categorical_crossentropy")
    return replace(made, compile=replace(made.compile or CompileSettings(), optimizer=optimizer))


def test_a_model_that_learns_is_told_from_one_that_stands_still() -> None:
    healthy, still = assess(graph(), HEALTHY), assess(graph(), STILL)
    assert isinstance(healthy, Risk)
    assert isinstance(still, Risk)
    assert healthy.probability < 0.1
    assert still.probability > 0.9
    for risk in (healthy, still):
        assert 0 <= risk.low <= risk.probability <= risk.high <= 1
    assert any("1e-07" in reason for reason in still.reasons)
    assert "300 steps" in still.calibration


def test_the_measures_are_logarithms_of_what_was_measured() -> None:
    sgd = OptimizerSettings(name="sgd", learning_rate=0.1, config={"momentum": 0.9})
    measured = replace(
        HEALTHY,
        gradient_ratio=10.0,
        loss_at_start=4.6,
        step_slope=-2.0,
        step_curvature=80.0,
        trial_losses=(2.0, 4.0, 1.0),
        trial_further=(),
        trial_constant=2.0,
    )
    found = risk_measures(measured, sgd)
    assert found["ratio"] == pytest.approx(math.log(10))
    assert found["excess"] == pytest.approx(math.log(2))
    assert found["step"] == pytest.approx(math.log(3e-2))  # ten such steps add up
    assert found["overshoot"] == pytest.approx(math.log(0.1 * 80 / 4))
    assert found["trial_rise"] == pytest.approx(math.log(2))
    assert found["trial_end"] == found["learned"] == pytest.approx(math.log(0.5))
    assert found["learning"] == pytest.approx(math.log(0.75))
    assert set(found) <= set(MEASURES)


def test_a_long_trial_tells_what_it_takes_off_and_nothing_where_there_was_none() -> None:
    assert "late" not in risk_measures(HEALTHY, ADAM)
    late = replace(STILL, trial_long=(*(2.3,) * 90, *(1.76,) * 90))
    assert risk_measures(late, ADAM)["late"] == pytest.approx(math.log((2.3 - 1.76) / 2.3))
    assert risk_measures(STILL, ADAM)["late"] == pytest.approx(math.log(LEAST_SHARE))
    slow, never = assess(graph(), late), assess(graph(), STILL)
    assert isinstance(slow, Risk)
    assert isinstance(never, Risk)
    assert slow.probability < never.probability
    assert any("two hundred steps" in reason for reason in never.reasons)


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_lost_loss_is_as_far_as_can_be(lost: float) -> None:
    found = risk_measures(replace(HEALTHY, trial_losses=(2.4, lost), trial_further=()), ADAM)
    assert found["trial_rise"] == found["trial_end"] == FAR
    assert "learning" not in found


def test_what_was_not_measured_is_left_out_and_says_nothing() -> None:
    bare = probe(gradient_ratio=None, gsc=None, trial_losses=(), step_slope=None, calls={})
    found = risk_measures(bare, ADAM)
    assert set(found) == {"excess", "depth"}
    assert calibration().risk.probability({})[0] < 0.1


@pytest.mark.parametrize(
    ("change", "measured", "reason"),
    [
        ({}, None, "no probe ran"),
        ({"optimizer": None}, HEALTHY, "declares no optimizer"),
        ({"optimizer": replace(ADAM, schedule="CosineDecay")}, HEALTHY, "constant learning rates"),
        ({"optimizer": replace(ADAM, name="ftrl")}, HEALTHY, "not calibrated for ftrl"),
        ({"outputs": 2}, HEALTHY, "one output"),
        ({"scale": 9.0}, HEALTHY, "fresh weights"),
        ({}, replace(HEALTHY, incomplete="time"), "did not come to its end"),
        ({}, replace(HEALTHY, loss="poisson"), "one of these losses"),
        ({}, replace(HEALTHY, depth=500), "500 layers with a kernel deep"),
        ({}, replace(HEALTHY, trial_further=()), "too costly"),
        ({"optimizer": replace(ADAM, name="ftrl")}, STILL, "not calibrated for ftrl"),
        ({}, replace(HEALTHY, nonfinite_data=("x: 1 of 4",)), "not finite"),
    ],
)
def test_what_it_is_not_calibrated_for_has_a_reason_and_no_number(change, measured, reason) -> None:
    made = graph(**change)
    told = assess(made, measured)
    assert isinstance(told, str)
    assert reason in told
    if measured is not None:
        assert rate_too_high(made, measured) is None


def test_without_the_long_trial_it_stays_open_whether_a_model_learns() -> None:
    short = replace(STILL, trial_long=())
    told = assess(graph(), short)
    assert isinstance(told, str)
    assert "too costly for two hundred" in told
    # The rate's regression needs no more than twenty steps.
    assert rate_too_high(graph(), short) is not None
    assert isinstance(assess(graph(), replace(HEALTHY, trial_long=())), Risk)


def test_no_measure_can_lower_the_risk() -> None:
    """So what adds to it can be told as a reason."""
    for logistic in (calibration().risk, calibration().rate):
        assert all(coefficient > 0 for coefficient in logistic.coefficients)
        assert np.allclose(logistic.covariance, logistic.covariance.T)
        assert np.linalg.eigvalsh(logistic.covariance).min() > 0
        assert all(abs(term.side) == 1 for term in logistic.terms)
    assert all((term.measure, term.side) in REASONS for term in calibration().risk.terms)


def test_a_rate_a_thousand_times_too_high_is_told() -> None:
    wild = replace(
        HEALTHY,
        trial_losses=(2.4, 9.0, 14.0, 15.0, 15.0),
        trial_further=(15.0,) * 16,
        gradient_norm=norms(3.0),
        calls={"dense": CallMeasurement(update_ratio=3.0)},
        step_slope=-1.0,
        step_curvature=1e6,
    )
    healthy, too_high = rate_too_high(graph(), HEALTHY), rate_too_high(graph(), wild)
    assert healthy is not None
    assert too_high is not None
    assert healthy < 0.1
    assert too_high > 0.8
