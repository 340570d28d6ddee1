"""The signal propagation plot: mean and variance behind each residual block (Brock et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auditor.measurement import BlockProfile
from auditor.result import AuditResult

from . import printable, quantity
from .log_axis import LogAxis
from .plot_frame import BOTTOM, LEFT, RIGHT, TOP, Tick, steps

#: Blocks plotted; beyond, every second, third, … block.
MOST_BLOCKS = 600
#: What is below this share of all variances counts as none: after BatchNormalization a mean is
#: rounding alone, and ten decades of it would leave the variances no room.
NONE = 1e-3
Measure = Callable[[BlockProfile], float | None]
#: Class, name and value of each line.
LINES: tuple[tuple[str, str, Measure], ...] = (
    ("variance", "variance", lambda block: block.variance),
    ("branch", "variance of the branch", lambda block: block.branch_variance),
    ("mean", "squared mean", lambda block: block.squared_mean),
)


@dataclass(frozen=True, kw_only=True)
class ProfilePoint:
    """One value of a block, pixels. `mark` is "dot", or "zero" (at the bottom) for next to none."""

    x: float
    y: float
    mark: str
    tooltip: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class ProfileLine:
    """One measure over the blocks; `path` is SVG path data, broken where there is no value."""

    key: str
    label: str
    path: str
    points: tuple[ProfilePoint, ...]


@dataclass(frozen=True, kw_only=True)
class ProfilePanel:
    """The plot at one width."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: tuple[Tick, ...]
    blocks: tuple[Tick, ...]
    lines: tuple[ProfileLine, ...]


@dataclass(frozen=True, kw_only=True)
class ProfilePlot:
    """The plot for wide and for narrow pages. `lost` counts values that are not finite.

    `none` tells whether some values are next to none, and at the bottom.
    """

    wide: ProfilePanel
    narrow: ProfilePanel
    blocks: int
    step: int
    none: bool
    lost: int


def profile_plot(result: AuditResult, anchors: Mapping[str, str]) -> ProfilePlot | None:
    """The plot of a residual net; None for others, and where no value can stand on a log axis."""
    profile = result.probe.residual_profile if result.probe is not None else ()
    step = max(1, -(-len(profile) // MOST_BLOCKS))
    chosen = [(index, block) for index, block in enumerate(profile, 1) if (index - 1) % step == 0]
    blocks = [block for _, block in chosen]
    values = [value for block in blocks for _, _, of in LINES if (value := of(block)) is not None]
    told = [value for value in values if math.isfinite(value) and value >= 0]
    variances = [value for block in blocks for value in (block.variance, block.branch_variance)]
    floor = NONE * min((v for v in variances if v and math.isfinite(v) and v > 0), default=0.0)
    usable = [value for value in told if value > floor]
    if not usable:
        return None
    axis = LogAxis.over(usable)
    return ProfilePlot(
        wide=_panel(chosen, anchors, axis, floor, (1060, 230, 20)),
        narrow=_panel(chosen, anchors, axis, floor, (344, 210, 6)),
        blocks=len(profile),
        step=step,
        none=len(usable) < len(told),
        lost=len(values) - len(told),
    )


def _panel(
    blocks: list[tuple[int, BlockProfile]],
    anchors: Mapping[str, str],
    axis: LogAxis,
    floor: float,
    size: tuple[float, float, int],
) -> ProfilePanel:
    width, height, most = size
    right, bottom = width - RIGHT, height - BOTTOM
    last = max(blocks[-1][0], 2)

    def x(index: float) -> float:
        return LEFT + 8 + (right - LEFT - 16) * (index - 1) / (last - 1)

    def y(value: float) -> float:
        if value <= floor:
            return bottom
        return bottom - (bottom - TOP) * axis.at(math.log10(value))

    lines = []
    for key, label, value_of in LINES:
        points, path, pen = [], [], "M"
        for index, block in blocks:
            value = value_of(block)
            if value is None or not math.isfinite(value) or value < 0:
                pen = "M"
                continue
            point = ProfilePoint(
                x=x(index),
                y=y(value),
                mark="dot" if value > floor else "zero",
                tooltip=f"{printable.name(block.call)}: {label} {quantity.number(value)}",
                anchor=anchors.get(block.call, ""),
            )
            points.append(point)
            if value > floor:
                path.append(f"{pen}{point.x:.1f} {point.y:.1f}")
            pen = "L" if value > floor else "M"
        if points:
            lines.append(
                ProfileLine(key=key, label=label, path="".join(path), points=tuple(points))
            )
    return ProfilePanel(
        width=width,
        height=height,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        ticks=tuple(
            Tick(at=bottom - (bottom - TOP) * place, label=text) for place, text in axis.ticks(5)
        ),
        blocks=tuple(
            Tick(at=x(index), label=f"{index:,}")
            for index in dict.fromkeys(max(index, 1) for index in steps(last, most))
        ),
        lines=tuple(lines),
    )
