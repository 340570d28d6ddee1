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

from . import estimate_view, printable, quantity
from .log_axis import LogAxis
from .plot_frame import BOTTOM, LEFT, RIGHT, TOP, Tick, steps

#: Calls plotted; beyond, every second, third, … call.
MOST_POINTS = 1_500
#: What the panel of local gains draws of a call, by the class of its mark.
GAIN_KEYS = (("dot", "gain of a random gradient"), ("reach", "up to σ₁, the worst direction"))


@dataclass(frozen=True, kw_only=True)
class Point:
    """A call in the plot, pixels. `mark` is "dot", "nonfinite" (at the top) or "zero" (below).

    `peak` is the height of a second, larger value of the call, or None.
    """

    x: float
    y: float
    mark: str
    tooltip: str
    anchor: str
    peak: float | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity against depth. `trend` and `band` are SVG path data, or empty.

    `one` is the height of 1 where that is what healthy is, or None; `keys` says what is drawn
    where it is more than dots.
    """

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
    one: float | None = None
    keys: tuple[tuple[str, str], ...] = ()


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
    peak: float | None = None
    said: str = ""


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
        series.append(("local", "Local gain ‖J‖/√n", _gains(chosen, depths)))
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
    deepest = max(1.0, max(value.depth for _, _, values in series for value in values))

    def panels(width: float, height: float, depth_ticks: int) -> tuple[Panel, ...]:
        return tuple(
            _panel(
                key,
                title,
                values,
                anchors,
                result.probe if key == "gradient" else None,
                (width, height, depth_ticks),
                deepest,
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


def _gains(calls: Mapping[str, CallMeasurement], depths: Mapping[str, float]) -> list[_Value]:
    """Backward gains with σ₁ above them: σ₁ is never below, as no root mean square exceeds it."""
    values = []
    for call_id, call in calls.items():
        jacobian = call.jacobian
        if jacobian is None:
            continue
        gain, peak = jacobian.backward_gain, jacobian.spectral_norm
        said = (
            f"local gain {quantity.number(gain)}, σ₁ {estimate_view.value(peak)} "
            f"{estimate_view.error(peak)}"
        )
        values.append(
            _Value(
                call_id=call_id,
                depth=depths[call_id],
                value=gain,
                peak=peak.value if _plottable(peak.value) else None,
                said=said.rstrip(),
            )
        )
    return values


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
    last: float,
) -> Panel:
    width, height, depth_ticks = size
    local = key == "local"
    shown = [number for v in values for number in (v.value, v.peak)]
    axis = LogAxis.over(
        [number for number in shown if number is not None and _plottable(number)]
        + ([1.0] if local else [])
    )
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
        depths=tuple(Tick(at=x(depth), label=f"{depth:,}") for depth in steps(last, depth_ticks)),
        points=tuple(_points(values, anchors, x, y, bottom)),
        trend=trend,
        band=band,
        trend_label=label,
        one=y(0.0) if local else None,
        keys=GAIN_KEYS if local else (),
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
            + (
                value.said or quantity.number(value.value)
                if mark != "nonfinite"
                else "NaN or infinite"
            ),
            anchor=anchors.get(value.call_id, ""),
            peak=y(math.log10(value.peak)) if mark == "dot" and value.peak else None,
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
