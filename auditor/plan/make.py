"""`make_plan`: every setting of a plan, from the graph, the findings and what was measured."""

from __future__ import annotations

from dataclasses import replace

from auditor.finding import Finding
from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.unbuilt import unbuilt
from auditor.measurement import ProbeResult
from auditor.plan.case import Case
from auditor.plan.clipping import clipping
from auditor.plan.emit import as_python
from auditor.plan.initialization import initialization
from auditor.plan.learning_rate import learning_rate
from auditor.plan.loss import loss_by_head
from auditor.plan.lost_steps import lost_steps, with_default_optimizer
from auditor.plan.numerics import accumulation, precision
from auditor.plan.optimizer import optimizer, replaced_optimizer
from auditor.plan.regularization import regularization
from auditor.plan.schedule import schedule
from auditor.plan.settings import Plan

#: Findings that say there is nothing to train, or nothing trainable that makes the prediction.
BROKEN_CODES = ("GEB101", "GEB102")


def make_plan(
    graph: LayerGraph,
    findings: tuple[Finding, ...],
    forecast: Forecast | None,
    probe: ProbeResult | None,
) -> Plan:
    """The recommended settings. Pure; imports no framework; never raises for a strange model."""
    case = Case(graph=graph, findings=findings, forecast=forecast, probe=probe)
    broken = _broken(case)
    if broken:
        dropouts = regularization(case, trainable=False, redrawn=False)
        plan = Plan(regularization=dropouts.settings, notes=(broken, *dropouts.notes))
        return replace(plan, snippet=as_python(plan, graph))
    declared = case.declared
    lost = lost_steps(case)
    if lost:
        case = with_default_optimizer(case)
    weights = initialization(case)
    redrawn = any(setting.name != "bias_initializer" for setting in weights.settings)
    rate = learning_rate(case, redrawn=redrawn)
    method = optimizer(case) if not lost else replaced_optimizer(declared, lost)
    clip = clipping(case, redrawn=redrawn)
    penalties = regularization(case, trainable=True, redrawn=redrawn)
    adjustment = schedule(case, rate.setting, redrawn=redrawn)
    steps = accumulation(case)
    numbers = precision(case)
    loss = loss_by_head(case)
    plan = Plan(
        learning_rate=rate.setting,
        optimizer=method.setting,
        clip=clip.setting,
        regularization=penalties.settings,
        schedule=adjustment.setting,
        initialization=weights.settings,
        accumulation=steps.setting,
        precision=numbers.setting,
        loss=loss.setting,
        notes=(
            *_head_mismatch(case),
            *weights.notes,
            *rate.notes,
            *method.notes,
            *clip.notes,
            *penalties.notes,
            *adjustment.notes,
            *steps.notes,
            *numbers.notes,
            *loss.notes,
        ),
    )
    return replace(plan, snippet=as_python(plan, graph))


def _broken(case: Case) -> str:
    """Why no setting can help; empty when one can."""
    for finding in case.of(*BROKEN_CODES):
        return (
            f"no learning rate, optimizer or clip is recommended: {finding.code} {finding.name}: "
            "no setting trains this model before its structure is mended"
        )
    unknown = case.graph.format == "onnx" or unbuilt(case.graph)
    if case.graph.trainable_parameters == 0 and not unknown:
        return (
            "no learning rate, optimizer or clip is recommended: the model has no trainable "
            "parameters"
        )
    return ""


def _head_mismatch(case: Case) -> tuple[str, ...]:
    codes = sorted({finding.code for finding in case.of("GEB203", "GEB204", "GEB604")})
    if not codes:
        return ()
    return (
        f"loss: kept as declared in the code, but {' and '.join(codes)} finds that it does not fit "
        "the head: mend that first",
    )
