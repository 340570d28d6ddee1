"""Recurrent layers along time: growth a step, and what it comes to over a sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from auditor.measurement import TimeGrowth
from auditor.result import AuditResult

from . import estimate_view, printable, prose, quantity, wording
from .table import Cell, Column, MeasureTable, Row

LEAD = (
    "A step back in time multiplies the gradient for a recurrent state by the factor below, and a "
    "sequence multiplies it as often as it has steps. 1 keeps it. Less is usual at the start (the "
    "cell of a fresh Keras LSTM forgets to σ(1) = 0.73 a step) and says how far back a step is "
    "felt; more, over a long sequence, explodes (Pascanu et al. 2013, arXiv:1211.5063)."
)
COLUMNS = (
    Column(
        label="Growth a step",
        title="factor on ‖∂L/∂s‖ a step back in time, s all of the cell's state, by regression of "
        "its logarithm on time; ± 95 %",
    ),
    Column(label="Sequence", title="steps that a sequence of the batch has"),
    Column(
        label="Over the sequence",
        title="growth a step to the power of the sequence's length, at both ends of its error",
    ),
)


def time_table(result: AuditResult, anchors: Mapping[str, str]) -> MeasureTable | None:
    """The recurrent layers; None where none was measured along time."""
    calls = result.probe.calls if result.probe is not None else {}
    rows = tuple(
        _row(call_id, call.time, anchors)
        for call_id, call in calls.items()
        if call.time is not None
    )
    if not rows:
        return None
    return MeasureTable(
        title="Along time", lead=prose.spans(LEAD), named="Layer", columns=COLUMNS, rows=rows
    )


def furthest(result: AuditResult) -> tuple[str, TimeGrowth] | None:
    """The recurrent layer that changes a gradient most over its sequence, and its growth."""
    calls = result.probe.calls if result.probe is not None else {}
    measured = [
        (call_id, call.time)
        for call_id, call in calls.items()
        if call.time is not None and math.isfinite(call.time.growth.value)
    ]
    return max(measured, key=lambda pair: abs(_exponent(pair[1])), default=None)


def reach(time: TimeGrowth) -> str:
    """How far the growth carries over a sequence, in a few words."""
    length = wording.plural(time.length, "step", "steps")
    if not 0 < time.growth.value < 1:
        return f"{over_sequence(time)} over {length}"
    return f"37 % left after {_efold(time.growth.value)} of {length}"


def over_sequence(time: TimeGrowth) -> str:
    """Growth to the power of the sequence's length, as a factor: ×0.13."""
    return quantity.compounded(time.growth.value, time.length)


def _row(call_id: str, time: TimeGrowth, anchors: Mapping[str, str]) -> Row:
    growth = time.growth
    ran = "" if time.steps >= time.length else f", of which the first {time.steps:,} were run"
    whole = over_sequence(time)
    ends = [quantity.compounded(end, time.length) for end in _ends(time) or ()]
    apart = f"({ends[0]} to {ends[1]})" if ends and set(ends) != {whole} else ""
    return Row(
        name=printable.name(call_id),
        anchor=anchors.get(call_id, ""),
        cells=(
            Cell(
                text=quantity.factor(growth.value),
                sort=f"{growth.value:.6g}",
                error=estimate_view.error(growth),
                title=estimate_view.how(growth),
            ),
            Cell(
                text=f"{time.length:,} steps", sort=f"{time.length}", title=f"{time.length:,}{ran}"
            ),
            Cell(
                text=whole,
                sort=f"{_exponent(time):.6g}",
                error=apart,
            ),
        ),
        remark=_remark(time) + (f" Run over its first {time.steps:,} steps." if ran else ""),
    )


def _remark(time: TimeGrowth) -> str:
    """What the growth means, in words; no threshold, only the steps in which it shows."""
    growth = time.growth.value
    if not math.isfinite(growth):
        return "The gradient is not finite."
    if growth <= 0:
        return "Nothing of the gradient goes back a step."
    ends = _ends(time)
    if growth == 1 or (ends is not None and ends[0] <= 1 <= ends[1]):
        return "Keeps the gradient, within the error."
    said = "shrinks to 37 %" if growth < 1 else "grows by e = 2.72"
    return f"The gradient {said} every {_efold(growth)} steps back."


def _efold(growth: float) -> str:
    """Steps in which the gradient changes by a factor e."""
    return quantity.number(1 / abs(math.log(growth)), 2)


def _ends(time: TimeGrowth) -> tuple[float, float] | None:
    growth = time.growth
    if not (math.isfinite(growth.value) and math.isfinite(growth.error)):
        return None
    return max(growth.value - growth.error, 0.0), growth.value + growth.error


def _exponent(time: TimeGrowth) -> float:
    growth = time.growth.value
    if not math.isfinite(growth):
        return growth
    return time.length * math.log10(growth) if growth > 0 else -math.inf
