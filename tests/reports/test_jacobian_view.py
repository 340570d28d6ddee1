"""Local gains in short, and Jacobians left out, by reason."""

from dataclasses import replace

import measures_by_hand as by_hand
from report_samples import exploding_stack, founding_case, nasty_names, sequence_model

from auditor.reports.jacobian_view import by_reason, local_gains, unmeasured_jacobians


def test_gains_are_of_layers_with_a_kernel():
    result = exploding_stack(layers=30, rate=2.0)
    calls = dict(result.probe.calls)
    calls["input_layer"] = replace(calls["input_layer"], jacobian=by_hand.jacobian(100.0))
    gains = local_gains(replace(result, probe=replace(result.probe, calls=calls)))
    assert gains.kernels
    assert gains.count == 31
    assert gains.low == gains.median == gains.high == 2.0 * 0.98
    # The worst direction is that of any call.
    assert gains.where == "input_layer"


def test_the_middle_four_fifths_leaves_outliers_out():
    result = exploding_stack(layers=30)
    calls = {
        call_id: replace(call, jacobian=by_hand.jacobian(float(index)))
        for index, (call_id, call) in enumerate(result.probe.calls.items())
    }
    gains = local_gains(replace(result, probe=replace(result.probe, calls=calls)))
    assert (gains.low, gains.median, gains.high) == (4.0, 16.0, 28.0)


def test_what_is_not_finite_is_left_out():
    assert local_gains(founding_case()) is None
    gains = local_gains(nasty_names())
    assert gains.count < len(nasty_names().graph.calls)


def test_reasons_come_commonest_first():
    groups = by_reason({"a": "x", "b": "y", "c": "y"})
    assert [(group.reason, group.count, group.calls) for group in groups] == [
        ("y", 2, ("b", "c")),
        ("x", 1, ("a",)),
    ]
    assert sum(group.count for group in unmeasured_jacobians(sequence_model())) == 4


def test_very_many_calls_are_named_in_part():
    (group,) = by_reason({f"call{index}": "x" for index in range(5_000)})
    assert group.count == 5_000
    assert len(group.calls) < 100
