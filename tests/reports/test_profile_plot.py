"""The signal propagation plot: every block is a point, and no value goes missing unsaid."""

from dataclasses import replace

import pytest
from measures_by_hand import block
from report_samples import exploding_stack, nasty_names, resnet

from auditor.reports.profile_plot import MOST_BLOCKS, profile_plot


def profiled(*blocks):
    result = resnet()
    return replace(result, probe=replace(result.probe, residual_profile=blocks))


def test_every_value_is_a_point_inside_the_panel():
    plot = profile_plot(resnet(), {})
    assert [(line.key, len(line.points)) for line in plot.wide.lines] == [
        ("variance", 16),
        ("branch", 15),  # the first block's branch was not measured
        ("mean", 16),
    ]
    for panel in (plot.wide, plot.narrow):
        for line in panel.lines:
            for point in line.points:
                assert panel.left <= point.x <= panel.right
                assert panel.top <= point.y <= panel.bottom
    assert plot.lost == 0


def test_height_is_the_logarithm():
    variance = profile_plot(
        profiled(*(block(f"b{i}", None, 10.0**i, None) for i in range(3))), {}
    ).wide.lines[0]
    first, second, third = (point.y for point in variance.points)
    assert second - third == pytest.approx(first - second)
    assert first > second


def test_a_line_breaks_where_there_is_no_value():
    values = (1.0, 2.0, float("inf"), 3.0, float("nan"), 4.0)
    plot = profile_plot(profiled(*(block("b", None, value, None) for value in values)), {})
    assert plot.wide.lines[0].path.count("M") == 3
    assert plot.lost == 4  # variance and squared mean of two blocks


def test_a_mean_of_rounding_alone_does_not_stretch_the_axis():
    first, last = (replace(block("b", None, 1.0, None), squared_mean=m) for m in (1e-14, 0.5))
    plot = profile_plot(profiled(first, last), {})
    mean = plot.wide.lines[-1]
    assert [point.mark for point in mean.points] == ["zero", "dot"]
    assert mean.points[0].y == plot.wide.bottom
    assert mean.path.count("L") == 0
    assert plot.none
    assert not plot.lost
    assert not profile_plot(profiled(last), {}).none


def test_one_block_is_enough_and_none_is_no_plot():
    assert profile_plot(profiled(block("b", None, 1.0, None)), {}) is not None
    assert profile_plot(exploding_stack(), {}) is None
    assert profile_plot(profiled(block("b", None, 0.0, 0.0)), {}) is None


def test_of_very_many_blocks_some_are_drawn():
    plot = profile_plot(profiled(*(block("b", None, 1.0, 1.0) for _ in range(1_900))), {})
    assert plot.step == 4
    assert len(plot.wide.lines[0].points) == 475 <= MOST_BLOCKS


def test_absurd_values_are_counted():
    assert profile_plot(nasty_names(), {}).lost > 0
