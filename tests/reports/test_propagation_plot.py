"""The plot: its line has the measured slope, its ticks are round, and no value goes missing."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import (
    empty_graph,
    exploding_stack,
    nasty_names,
    onnx_unknown,
    resnet,
    sequence_model,
)

from auditor.graph.paths import kernel_depth
from auditor.reports.log_axis import LogAxis
from auditor.reports.propagation_plot import propagation_plot


def numbers(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def test_the_line_has_the_slope_of_the_growth_rate():
    audit = exploding_stack(layers=30, rate=3.62)
    panel = propagation_plot(audit, {}).wide[0]
    x0, y0, x1, y1 = numbers(panel.trend)
    depth = max(kernel_depth(audit.graph).values())
    dots = {round(point.x, 1): point.y for point in panel.points}
    # The sample's gradient is 3.62^depth within 6 % noise a call: about a pixel on this axis.
    assert dots[x0] == pytest.approx(y0, abs=2)
    assert dots[x1] == pytest.approx(y1, abs=2)
    pixels_a_decade = (panel.ticks[0].at - panel.ticks[1].at) / 5  # ticks five decades apart
    assert (y1 - y0) / pixels_a_decade == pytest.approx(
        (x1 - x0) / (panel.depths[-1].at - panel.depths[0].at) * 30 * math.log10(3.62), rel=0.02
    )
    assert depth == 31


def test_every_measured_call_is_a_point():
    audit = resnet()
    jacobians = sum(call.jacobian is not None for call in audit.probe.calls.values())
    of = {"gradient": len(audit.graph.calls), "activation": len(audit.graph.calls)}
    for panel in propagation_plot(audit, {}).wide:
        assert len(panel.points) == of.get(panel.key, jacobians)
        for point in panel.points:
            assert panel.left <= point.x <= panel.right
            assert panel.top <= point.y <= panel.bottom


def test_local_gains_reach_up_to_the_spectral_norm():
    audit = exploding_stack(layers=30, rate=3.62)
    panel = propagation_plot(audit, {}).wide[-1]
    assert panel.key == "local"
    assert len(panel.points) == 31
    decade = panel.one - panel.points[0].y
    for point in panel.points:
        # Pixels are linear in the logarithm: gain 0.98·3.62, σ₁ 2.3·3.62, from the line at 1.
        assert (panel.one - point.peak) / decade == pytest.approx(
            math.log(2.3 * 3.62) / math.log(0.98 * 3.62), rel=1e-6
        )
        assert panel.top <= point.peak < point.y < panel.one <= panel.bottom
    assert "σ₁ ≥ 8.33 + 0.11" in panel.points[0].tooltip


def test_panels_have_one_depth_axis():
    # The sequence model has one Jacobian, in the middle of the net.
    gradient, *_, local = propagation_plot(sequence_model(), {}).wide
    assert gradient.depths == local.depths
    assert len(local.points) == 1


def test_what_is_no_number_is_marked():
    marks = {
        point.mark for panel in propagation_plot(nasty_names(), {}).wide for point in panel.points
    }
    assert marks == {"dot", "nonfinite", "zero"}


def test_without_a_probe_the_forecast_is_shown_and_called_so():
    plot = propagation_plot(onnx_unknown(), {})
    assert [panel.key for panel in plot.wide] == ["activation"]
    assert "not measured" in plot.source
    assert propagation_plot(replace(onnx_unknown(), forecast=None), {}) is None
    assert propagation_plot(empty_graph(), {}) is None


positive = st.floats(min_value=1e-300, max_value=1e300)


@given(st.lists(positive, min_size=1, max_size=20))
def test_axis_holds_its_values_and_has_few_ticks(values):
    axis = LogAxis.over(values)
    assert all(0 < axis.at(math.log10(value)) < 1 for value in values)
    ticks = axis.ticks(5)
    assert 1 <= len(ticks) <= 8
    assert all(0 <= place <= 1 for place, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)
