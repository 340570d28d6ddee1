"""Growth of the gradient within each stage of equal shape."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.measurement import StageGrowth
from auditor.result import AuditResult

from . import gain, printable, prose, quantity, wording
from .table import Cell, Column, MeasureTable, Row

LEAD = (
    "Compared like with like: within a stage all outputs have one shape, so no pooling or change "
    "of width enters. 1 keeps the gradient. In a stage of residual blocks the sums are compared, "
    "and the growth is a block's."
)
COLUMNS = (
    Column(label="Output", title="shape of the outputs compared, without the batch"),
    Column(label="Points", title="calls compared"),
    Column(
        label="Gradient growth",
        title="factor on ‖∂L/∂h‖ a layer or block toward the input, by regression on depth",
    ),
    Column(label="95 % interval", title="95 % interval of the growth"),
    Column(
        label="Over the stage", title="growth to the power of the steps from the first to the last"
    ),
)
#: Stages listed; a model has rarely more than ten.
LISTED = 60


def stage_table(result: AuditResult, anchors: Mapping[str, str]) -> MeasureTable | None:
    """The stages; None where no stage had points enough for a regression."""
    stages = result.probe.stages if result.probe is not None else ()
    if not stages:
        return None
    return MeasureTable(
        title="Stages",
        lead=prose.spans(LEAD),
        named="From … to",
        columns=COLUMNS,
        rows=tuple(_row(stage, anchors) for stage in stages[:LISTED]),
        left_out=max(len(stages) - LISTED, 0),
    )


def _row(stage: StageGrowth, anchors: Mapping[str, str]) -> Row:
    ends = dict.fromkeys((*stage.calls[:1], *stage.calls[-1:]))
    points = (
        wording.plural(len(stage.calls), "block", "blocks")
        if stage.residual
        else wording.plural(len(stage.calls), "layer", "layers")
    )
    shape = " × ".join(f"{side:,}" for side in stage.shape) or "scalar"
    whole = quantity.compounded(stage.rate, len(stage.calls) - 1)
    interval = quantity.ABSENT if stage.interval is None else quantity.interval(*stage.interval)
    return Row(
        name=" … ".join(printable.name(call_id, 60) for call_id in ends),
        anchor=anchors.get(stage.calls[0], "") if stage.calls else "",
        cells=(
            Cell(text=shape, sort=""),
            Cell(text=points, sort=f"{len(stage.calls)}"),
            Cell(
                text=quantity.factor(stage.rate),
                sort=f"{stage.rate:.6g}",
                shade=gain.shade(stage.rate, gain.GAIN_STEPS),
            ),
            Cell(text=interval, sort=""),
            Cell(text=whole, sort=""),
        ),
    )
