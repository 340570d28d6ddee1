"""Attention at the start: how large the logits are, and over how many keys the weights spread."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.measurement import AttentionMeasurement, Distribution
from auditor.result import AuditResult

from . import estimate_view, printable, prose, quantity
from .table import Cell, Column, MeasureTable, Row

LEAD = (
    "A healthy start spreads its attention: logits that vary by about 1 nat or less, entropy near "
    "1. Weights on one key alone (entropy 0) pass hardly any gradient to the logits (Zhai et al. "
    "2023, arXiv:2303.06296)."
)
COLUMNS = (
    Column(
        label="Logit scale",
        title="standard deviation of a query's logits over the keys, in nats; median over "
        "heads and samples",
    ),
    Column(label="Middle 80 %", title="10th to 90th percentile of the logit scale"),
    Column(
        label="Entropy",
        title="of a query's weights over the logarithm of the keys it sees: 1 is uniform, 0 one "
        "key alone; median over heads and samples",
    ),
    Column(label="Middle 80 %", title="10th to 90th percentile of the entropy"),
    Column(label="Keys", title="the most keys that a query sees"),
)


def attention_table(result: AuditResult, anchors: Mapping[str, str]) -> MeasureTable | None:
    """The layers that attend; None where none was measured."""
    calls = result.probe.calls if result.probe is not None else {}
    rows = tuple(
        _row(call_id, call.attention, anchors)
        for call_id, call in calls.items()
        if call.attention is not None
    )
    if not rows:
        return None
    return MeasureTable(
        title="Attention", lead=prose.spans(LEAD), named="Layer", columns=COLUMNS, rows=rows
    )


def _row(call_id: str, attention: AttentionMeasurement, anchors: Mapping[str, str]) -> Row:
    return Row(
        name=printable.name(call_id),
        anchor=anchors.get(call_id, ""),
        cells=(
            *_cells(attention.logit_scale),
            *_cells(attention.entropy),
            Cell(text=f"{attention.keys:,}", sort=f"{attention.keys}"),
        ),
    )


def _cells(over_heads: Distribution) -> tuple[Cell, Cell]:
    title = (
        f"mean {quantity.number(over_heads.mean)}, largest {quantity.number(over_heads.max)}, of "
        f"{over_heads.count:,} values"
    )
    return (
        Cell(text=quantity.number(over_heads.p50), sort=f"{over_heads.p50:.6g}", title=title),
        Cell(text=estimate_view.spread(over_heads), sort=f"{over_heads.p10:.6g}", title=title),
    )
