"""The table of layer calls: what each is, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from auditor.graph.cost import CallCost, ModelCost
from auditor.graph.layer_graph import LayerCall, Shape
from auditor.measurement import CallMeasurement
from auditor.result import AuditResult

from . import estimate_view, gain, printable, prose, quantity, wording
from .table import Cell, Column

#: Rows a page shows; beyond, calls that findings name come first.
MOST_ROWS = 2_000


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One call."""

    anchor: str
    index: int
    id: str
    kind: str
    what: str
    shape: str
    note: str
    severity: str
    codes: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """The table; only columns that some row has a number for."""

    columns: tuple[Column, ...]
    rows: tuple[LayerRow, ...]
    left_out: int


#: (label, title, value of a measured call, formatting)
Measure = tuple[str, str, Callable[[CallMeasurement], float | None], Callable[[float], str]]
MEASURES: tuple[Measure, ...] = (
    (
        "Gradient norm",
        "‖∂L/∂h‖₂ of the call's output h for one sample, median over samples and batches",
        lambda m: m.gradient_norm,
        quantity.number,
    ),
    (
        "GSC",
        "gradient scale coefficient from the call's output h to the model's y: ‖∂y/∂h‖ as a mean "
        "over directions, times ‖h‖/‖y‖, so that all scale is taken out; growth along the depth "
        "that no rescaling removes (Philipp et al. 2017)",
        lambda m: m.gsc,
        quantity.number,
    ),
    ("Output rms", "root mean square of the call's output", lambda m: m.rms, quantity.number),
    (
        "Update ratio",
        "‖Δw‖/‖w‖ of the declared optimizer's first step",
        lambda m: m.update_ratio,
        quantity.number,
    ),
    (
        "Dead",
        "share of units that are zero for every sample of every batch",
        lambda m: m.dead_share,
        quantity.share,
    ),
)


LOCAL_GAIN = Column(
    label="Local gain",
    title="‖J‖_F/√n, J the call's own Jacobian and n its inputs: the factor on the rms of a random "
    "gradient from output to input; 1 keeps it (He et al. 2022)",
)
SPECTRAL_NORM = Column(
    label="σ₁",
    title="largest singular value of the call's Jacobian, the growth in the worst direction; ≥ "
    "marks a lower bound, behind it what it may be too small by",
)
SATURATED = Column(
    label="Saturated", title="share of output values beyond 95 % of the activation's range"
)
#: Stands for a call that the probe did not reach.
NOT_MEASURED = CallMeasurement()


#: The same of what a call costs. Short labels: the table is wide.
Cost = tuple[str, str, Callable[[CallCost], int | None], Callable[[int], str]]
COSTS: tuple[Cost, ...] = (
    (
        "MACs",
        "multiply-adds for one sample",
        lambda cost: cost.multiply_adds or None,
        quantity.short,
    ),
    (
        "Memory",
        "bytes of the call's output for one sample",
        lambda cost: cost.activation_bytes,
        quantity.memory,
    ),
)


def layer_table(
    result: AuditResult,
    cost: ModelCost,
    anchors: Mapping[str, str],
    severities: Mapping[str, str],
) -> LayerTable:
    """The table of `result`'s calls; `anchors` says which calls get a row, and where."""
    rows = [call for call in result.graph.calls if call.id in anchors]
    columns = _columns(result, cost, rows)
    codes: dict[str, list[str]] = {}
    for finding in result.findings:
        for call_id in finding.layers:
            codes.setdefault(call_id, []).append(printable.name(finding.code))
    index_of = {call.id: index for index, call in enumerate(result.graph.calls, 1)}
    return LayerTable(
        columns=tuple(column for column, _ in columns),
        rows=tuple(
            LayerRow(
                anchor=anchors[call.id],
                index=index_of[call.id],
                id=printable.name(call.id),
                kind=printable.name(call.kind, 40),
                what=what(call),
                shape=shapes(call.out_shapes),
                note=printable.name(call.note, 300),
                severity=severities.get(call.id, ""),
                codes=tuple(dict.fromkeys(codes.get(call.id, ()))),
                cells=tuple(cells[call.id] for _, cells in columns),
            )
            for call in rows
        ),
        left_out=len(result.graph.calls) - len(rows),
    )


def row_anchors(result: AuditResult, prefix: str) -> Mapping[str, str]:
    """Anchors of the calls that get a row: all, or those findings name, then the first."""
    calls = result.graph.calls
    if len(calls) <= MOST_ROWS:
        chosen = {call.id for call in calls}
    else:
        named = dict.fromkeys(i for finding in result.findings for i in finding.layers)
        wanted = [*(i for i in named if i in result.graph.by_id), *(call.id for call in calls)]
        chosen = set(list(dict.fromkeys(wanted))[:MOST_ROWS])
    return {
        call.id: f"{prefix}-c{index}" for index, call in enumerate(calls, 1) if call.id in chosen
    }


def what(call: LayerCall) -> str:
    """What a call does, in words: its operator, and its activation where it has one."""
    operator = wording.words(call.op.value)
    if call.activation is None:
        return operator
    activation = wording.ACTIVATIONS.get(call.activation, printable.name(call.activation, 40))
    return activation if call.op.value == "activation" else f"{operator}, {activation}"


def shapes(several: tuple[Shape | None, ...]) -> str:
    """Shapes without their batch dimension: 28 × 28 × 1; several apart by a semicolon."""
    shown = "; ".join(shape(one) for one in several[:4])
    return f"{shown}; …" if len(several) > 4 else shown or quantity.ABSENT


def shape(one: Shape | None) -> str:
    """One shape; an unknown dimension is a question mark."""
    if one is None:
        return "unknown"
    values = one[1:]
    return " × ".join("?" if v is None else printable.name(v, 24) for v in values) or "scalar"


Cells = Mapping[str, Cell]
Number = TypeVar("Number", int, float)


def _columns(
    result: AuditResult, cost: ModelCost, rows: list[LayerCall]
) -> list[tuple[Column, Cells]]:
    factors = gain.gains(result)
    shades = gain.shades(result)
    source = "measured" if result.probe is not None else "forecast, not measured"
    calls = result.probe.calls if result.probe is not None else {}
    measured = [(call.id, calls.get(call.id, NOT_MEASURED)) for call in rows]
    columns: list[tuple[Column, Cells]] = [
        (
            Column(
                label="Gain",
                title="factor on the gradient's norm from the call's output to its input "
                f"({source}); none where the input also feeds other calls",
            ),
            {
                call.id: _cell(factors.get(call.id), quantity.factor, shades[call.id].gain)
                for call in rows
            },
        ),
        (LOCAL_GAIN, {call_id: _local_gain(call) for call_id, call in measured}),
        (SPECTRAL_NORM, {call_id: _spectral_norm(call) for call_id, call in measured}),
        *(
            (
                Column(label=label, title=title),
                {call_id: _cell(value(call), formatted) for call_id, call in measured},
            )
            for label, title, value, formatted in MEASURES
        ),
        (SATURATED, {call_id: _saturated(call) for call_id, call in measured}),
        (
            Column(label="Parameters", title="values in the layer's weights"),
            {call.id: _cell(call.parameters or None, quantity.number) for call in rows},
        ),
        *(
            (
                Column(label=label, title=title),
                {call.id: _cell(value(cost.calls[call.id]), formatted) for call in rows},
            )
            for label, title, value, formatted in COSTS
        ),
    ]
    if result.probe is None and result.forecast is not None:
        forecast = result.forecast.calls
        cells = {
            call.id: _cell(
                math.sqrt(max(forecast[call.id].variance, 0.0)) if call.id in forecast else None,
                quantity.number,
            )
            for call in rows
        }
        columns.append(
            (Column(label="Forecast rms", title="root of the forecast mean square output"), cells)
        )
    return [
        (column, cells)
        for column, cells in columns
        if any(cell.text != quantity.ABSENT for cell in cells.values())
    ]


def _local_gain(call: CallMeasurement) -> Cell:
    jacobian = call.jacobian
    if jacobian is None:
        return Cell(text=quantity.ABSENT, sort="", title=prose.plain(call.jacobian_skipped or ""))
    gained = jacobian.backward_gain
    apart = "of a whole batch, whose samples it couples; " if jacobian.couples_samples else ""
    norm = jacobian.frobenius_norm
    return Cell(
        text=quantity.factor(gained),
        sort=f"{gained:.6g}",
        shade=gain.shade(gained, gain.GAIN_STEPS),
        title=f"{apart}forward {quantity.factor(jacobian.forward_gain)}; ‖J‖_F "
        f"{estimate_view.value(norm)}, {estimate_view.how(norm)}",
    )


def _spectral_norm(call: CallMeasurement) -> Cell:
    if call.jacobian is None:
        return Cell(text=quantity.ABSENT, sort="")
    isometry = call.jacobian.isometry
    return estimate_view.cell(
        call.jacobian.spectral_norm,
        "" if isometry is None else f"mean σ²/σ₁² = {quantity.number(isometry, 2)}",
    )


def _saturated(call: CallMeasurement) -> Cell:
    over = call.saturation
    title = (
        ""
        if over is None
        else f"distance from the middle over the half range: median {quantity.number(over.p50)}, "
        f"90th percentile {quantity.number(over.p90)}, largest {quantity.number(over.max)}"
    )
    return replace(_cell(call.saturated_share, quantity.share), title=title)


def _cell(value: Number | None, formatted: Callable[[Number], str], shade: str = "") -> Cell:
    if value is None:
        return Cell(text=quantity.ABSENT, sort="")
    return Cell(text=formatted(value), sort=f"{value:.6g}", shade=shade)
