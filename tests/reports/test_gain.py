"""Gains come only from gradients that belong to one call, and shades from gains."""

import math
from dataclasses import replace

import pytest
from measures_by_hand import jacobian
from report_samples import Builder, exploding_stack, probe, result

from auditor.graph.operators import Op
from auditor.measurement import CallMeasurement
from auditor.reports import gain
from auditor.result import Verdict


def audited(builder, norms):
    graph = builder.graph()
    calls = {
        name: CallMeasurement(gradient_norm=norm, rms=1.0, finite_backward=norm != math.inf)
        for name, norm in norms.items()
    }
    return result(graph, path="m", verdict=Verdict.STABLE, probe=probe(graph, calls))


def chain():
    b = Builder()
    b.add("c", Op.DENSE, b.add("b", Op.DENSE, b.add("a", Op.INPUT)))
    return b


def test_gain_is_the_gradient_before_over_the_gradient_behind():
    assert gain.gains(audited(chain(), {"a": 6.0, "b": 3.0, "c": 1.0})) == pytest.approx(
        {"b": 2.0, "c": 3.0}
    )


def test_no_gain_where_the_input_feeds_others():
    b = Builder()
    x = b.add("x", Op.INPUT)
    b.add("sum", Op.ADD, x, b.add("d", Op.DENSE, x))
    found = gain.gains(audited(b, {"x": 5.0, "d": 1.0, "sum": 1.0}))
    assert found == {}


def test_a_jacobian_stands_in_where_the_input_feeds_others():
    b = Builder()
    x = b.add("x", Op.INPUT)
    b.add("sum", Op.ADD, x, b.add("d", Op.DENSE, x))
    audit = audited(b, {"x": 5.0, "d": 1.0, "sum": 1.0})
    calls = {
        # ‖J‖_F = 2·√16; a random gradient of 4 values grows by 2·√16/√4. The sum has two inputs.
        name: replace(call, jacobian=jacobian(2.0, inputs=16, outputs=4))
        for name, call in audit.probe.calls.items()
    }
    audit = replace(audit, probe=replace(audit.probe, calls=calls))
    assert gain.random_gains(audit) == pytest.approx({"d": 4.0})
    assert gain.gains(audit) == {}
    assert gain.shades(audit)["d"].gain == gain.shade(4.0, gain.GAIN_STEPS)
    assert gain.shades(audit)["sum"].gain == gain.UNKNOWN


def test_a_jacobian_does_not_stand_in_for_a_measured_gain():
    audit = exploding_stack()
    assert len(gain.gains(audit)) == 31
    assert gain.random_gains(audit) == {}


@pytest.mark.parametrize("norm", [0.0, math.nan, math.inf, None])
def test_no_gain_from_a_gradient_that_is_no_number(norm):
    assert "c" not in gain.gains(audited(chain(), {"a": 1.0, "b": norm, "c": 1.0}))


def test_gains_that_overflow_are_none():
    assert gain.gains(audited(chain(), {"b": 1e300, "c": 1e-300})) == {}


@pytest.mark.parametrize(
    ("value", "shade"),
    [
        (1.0, "0"),
        (1.19, "0"),
        (1.3, "u1"),
        (1 / 1.3, "d1"),
        (20.0, "u5"),
        (0.05, "d5"),
        (0.0, "d5"),
        (None, "na"),
        (math.nan, "nf"),
        (math.inf, "nf"),
    ],
)
def test_shade(value, shade):
    assert gain.shade(value, gain.GAIN_STEPS) == shade


def test_a_call_with_nan_is_shaded_so():
    shades = gain.shades(audited(chain(), {"a": 1.0, "b": math.inf, "c": 1.0}))
    assert shades["b"].gain == shades["b"].gradient == gain.NONFINITE
    assert shades["a"].gradient == "0"
