"""The propagation plot: gradient and activation scale of every call against depth, log axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.paths import kernel_depth
from auditor.measurement import CallMeasurement, ProbeResult
from auditor.result import AuditResult

from . import printable, quantity
from .log_axis import LogAxis

#: Calls plotted; beyond, every second, third, … call.
MOST_POINTS = 1_500
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 24.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """A call in the plot, pixels. `mark` is "dot", "nonfinite" (at the top) or "zero" (below)."""

    x: float
    y: float
    mark: str
    tooltip: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick: pixels along its axis, and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity against depth. `trend` and `band` are SVG path data, or empty."""

    key: str
    title: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: tuple[Tick, ...]
    depths: tuple[Tick, ...]
    points: tuple[Point, ...]
    trend: str
    band: str
    trend_label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Panels for wide and for narrow pages; `source` says what the numbers are."""

    wide: tuple[Panel, ...]
    narrow: tuple[Panel, ...]
    source: str
    step: int


@dataclass(frozen=True, kw_only=True)
class _Value:
    call_id: str
    depth: float
    value: float | None


def propagation_plot(result: AuditResult, anchors: Mapping[str, str]) -> Plot | None:
    """The plot of what was measured, else of what was forecast; None where there is neither."""
    depths = _spread_depths(result.graph)
    step = 1
    series: list[tuple[str, str, list[_Value]]] = []
    if result.probe is not None:
        step = -(-len(result.probe.calls) // MOST_POINTS)
        calls = {
            call.id: result.probe.calls[call.id]
            for call in result.graph.calls
            if call.id in result.probe.calls
        }
        chosen = dict(list(calls.items())[::step]) if step else {}
        series.append(("gradient", "Gradient norm ‖∂L/∂h‖", _values(chosen, depths, _gradient)))
        series.append(("activation", "Output rms", _values(chosen, depths, _rms)))
        source = "measured"
    elif result.forecast is not None:
        forecast = result.forecast.calls
        step = -(-len(forecast) // MOST_POINTS)
        values = [
            _Value(
                call_id=call.id,
                depth=depths[call.id],
                value=math.sqrt(max(forecast[call.id].variance, 0.0)),
            )
            for call in result.graph.calls
            if call.id in forecast
        ][:: max(step, 1)]
        series.append(("activation", "Forecast output rms", values))
        source = "forecast from the weights, not measured"
    else:
        return None
    series = [part for part in series if any(_plottable(value.value) for value in part[2])]
    if not series:
        return None

    def panels(width: float, height: float, depth_ticks: int) -> tuple[Panel, ...]:
        return tuple(
            _panel(
                key,
                title,
                values,
                anchors,
                result.probe if key == "gradient" else None,
                (width, height, depth_ticks),
            )
            for key, title, values in series
        )

    return Plot(
        wide=panels(1060, 250, 14), narrow=panels(344, 210, 6), source=source, step=max(step, 1)
    )


def _gradient(call: CallMeasurement) -> float | None:
    if not call.finite_backward:
        return math.nan
    return call.gradient_norm


def _rms(call: CallMeasurement) -> float | None:
    return call.rms if call.finite_forward else math.nan


def _values(
    calls: Mapping[str, CallMeasurement],
    depths: Mapping[str, float],
    value: Callable[[CallMeasurement], float | None],
) -> list[_Value]:
    return [
        _Value(call_id=call_id, depth=depths[call_id], value=value(call))
        for call_id, call in calls.items()
        if value(call) is not None
    ]


def _spread_depths(graph: LayerGraph) -> Mapping[str, float]:
    """Kernel depth of every call, calls of one depth spread over the way to the next."""
    at: dict[int, list[str]] = {}
    for call_id, depth in kernel_depth(graph).items():
        at.setdefault(depth, []).append(call_id)
    return {
        call_id: depth + 0.8 * place / len(ids)
        for depth, ids in at.items()
        for place, call_id in enumerate(ids)
    }


def _plottable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _panel(
    key: str,
    title: str,
    values: list[_Value],
    anchors: Mapping[str, str],
    probe: ProbeResult | None,
    size: tuple[float, float, int],
) -> Panel:
    width, height, depth_ticks = size
    axis = LogAxis.over([v.value for v in values if v.value is not None and _plottable(v.value)])
    last = max(1.0, max(value.depth for value in values))
    right, bottom = width - RIGHT, height - BOTTOM

    def x(depth: float) -> float:
        return LEFT + 8 + (right - LEFT - 16) * depth / last

    def y(exponent: float) -> float:
        return bottom - (bottom - TOP) * axis.at(exponent)

    trend, band, label = _trend(values, probe, x, y)
    return Panel(
        key=key,
        title=title,
        width=width,
        height=height,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        ticks=tuple(
            Tick(at=bottom - (bottom - TOP) * place, label=text) for place, text in axis.ticks(5)
        ),
        depths=tuple(Tick(at=x(depth), label=f"{depth:,}") for depth in _steps(last, depth_ticks)),
        points=tuple(_points(values, anchors, x, y, bottom)),
        trend=trend,
        band=band,
        trend_label=label,
    )


def _points(
    values: list[_Value],
    anchors: Mapping[str, str],
    x: Callable[[float], float],
    y: Callable[[float], float],
    bottom: float,
) -> Iterator[Point]:
    for value in values:
        mark, height = "dot", bottom
        if value.value is None or not math.isfinite(value.value) or value.value < 0:
            mark, height = "nonfinite", TOP
        elif value.value == 0:
            mark = "zero"
        else:
            height = y(math.log10(value.value))
        yield Point(
            x=x(value.depth),
            y=height,
            mark=mark,
            tooltip=f"{printable.name(value.call_id)}: "
            + ("NaN or infinite" if mark == "nonfinite" else quantity.number(value.value)),
            anchor=anchors.get(value.call_id, ""),
        )


def _trend(
    values: list[_Value],
    probe: ProbeResult | None,
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> tuple[str, str, str]:
    """The line of the probe's growth rate through the middle of the points, and its interval.

    The regression allows an intercept for each stage of equal shape; the one line drawn has its
    slope and the median intercept.
    """
    rate = probe.growth_rate if probe is not None else None
    shown = [(v.depth, math.log10(v.value)) for v in values if v.value and _plottable(v.value)]
    if probe is None or rate is None or not math.isfinite(rate) or rate <= 0 or len(shown) < 2:
        return "", "", ""
    first, last = min(depth for depth, _ in shown), max(depth for depth, _ in shown)
    pivot = fmean(depth for depth, _ in shown)
    slope = -math.log10(rate)
    height = median(size - slope * (depth - pivot) for depth, size in shown)

    def line(slope: float, depth: float) -> str:
        return f"{x(depth):.1f} {y(height + slope * (depth - pivot)):.1f}"

    label = f"{quantity.factor(rate)} a layer"
    band = ""
    interval = probe.growth_interval
    if interval is not None and all(math.isfinite(end) and end > 0 for end in interval):
        low, high = (-math.log10(end) for end in interval)
        band = f"M{line(low, first)}L{line(low, last)}L{line(high, last)}L{line(high, first)}Z"
        label += f" (95 %: {quantity.interval(*interval)})"
    return f"M{line(slope, first)}L{line(slope, last)}", band, label


def _steps(last: float, most: int) -> range:
    step = next(
        s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if last / s <= most
    )
    return range(0, int(last) + 1, step)
