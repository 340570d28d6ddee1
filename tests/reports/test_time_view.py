"""Growth along time, and what it comes to over a sequence."""

from dataclasses import replace

import pytest
from measures_by_hand import time_growth
from report_samples import resnet, sequence_model

from auditor.reports import quantity
from auditor.reports.time_view import furthest, reach, time_table


def with_times(**times):
    result = sequence_model()
    calls = {
        call_id: replace(call, time=times.get(call_id))
        for call_id, call in result.probe.calls.items()
    }
    return replace(result, probe=replace(result.probe, calls=calls))


def test_only_recurrent_layers_have_a_row():
    assert [row.name for row in time_table(sequence_model(), {}).rows] == ["lstm", "gru"]
    assert time_table(resnet(), {}) is None


def test_the_sequence_compounds_the_growth_and_its_error():
    growth, length, whole = time_table(with_times(lstm=time_growth(0.5, 0.1, 10)), {}).rows[0].cells
    assert (growth.text, growth.error) == ("×0.5", "± 0.1")
    assert length.text == "10 steps"
    assert whole.text == f"×{quantity.number(0.5**10)}"
    assert whole.error == f"(×{quantity.number(0.4**10)} to ×{quantity.number(0.6**10)})"


@pytest.mark.parametrize(
    ("growth", "error", "said"),
    [
        (0.93, 0.01, "shrinks to 37 % every 14 steps"),
        (1.1, 0.01, "grows by e = 2.72 every 10 steps"),
        (1.01, 0.02, "Keeps the gradient, within the error"),
        (0.0, 0.0, "Nothing of the gradient"),
        (float("nan"), 0.0, "not finite"),
    ],
)
def test_what_it_means(growth, error, said):
    row = time_table(with_times(gru=time_growth(growth, error, 100)), {}).rows[0]
    assert said in row.remark


def test_a_sequence_run_in_part_says_so():
    row = time_table(sequence_model(), {}).rows[0]
    assert row.remark.endswith("Run over its first 128 steps.")


def test_no_power_overflows():
    assert reach(time_growth(1e300, 0.0, 10**9)) == "×10³⁰⁰⁰⁰⁰⁰⁰⁰⁰⁰⁰ over 1,000,000,000 steps"


def test_the_headline_is_of_the_layer_that_changes_most_over_its_sequence():
    times = {"lstm": time_growth(0.5, 0.0, 4), "gru": time_growth(1.1, 0.0, 400)}
    assert furthest(with_times(**times))[0] == "gru"
    assert furthest(with_times()) is None
