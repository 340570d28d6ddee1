"""What a page shows, computed first, so that templates only place it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from auditor.graph.cost import ModelCost, model_cost
from auditor.measurement import ProbeResult
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .attention_view import attention_table
from .cost_view import cost_view
from .curvature_view import CurvatureView, curvature_view
from .finding_view import (
    FindingView,
    SkippedView,
    finding_views,
    skipped_views,
    worst_severity,
)
from .graph_drawing import Drawing, draw
from .jacobian_view import Unmeasured, by_reason, jacobians, unmeasured_jacobians
from .layer_view import LayerTable, layer_table, row_anchors
from .plan_view import Because, PlanView, plan_view
from .profile_plot import ProfilePlot, profile_plot
from .propagation_plot import Plot, propagation_plot
from .stage_view import stage_table
from .table import MeasureTable
from .time_view import time_table
from .verdict_view import VerdictView, probe_reason, verdict_view


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A labelled value; `code` sets it in monospace, `title` is its longer form."""

    label: str
    value: str
    code: bool = False
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class ProbeView:
    """What ran, what it assumed, and which calls and Jacobians it did not measure, by reason.

    `incomplete` says why it ended early, or is empty.
    """

    facts: tuple[Fact, ...]
    assumptions: tuple[tuple[prose.Span, ...], ...]
    incomplete: str
    unmeasured: tuple[Unmeasured, ...]
    no_jacobian: tuple[Unmeasured, ...]


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """One audited model. `probe` is None when none ran; `probe_skipped` then says why.

    So does `risk_skipped` where no risk is told.
    """

    anchor: str
    title: str
    path: str
    facts: tuple[Fact, ...]
    verdict: VerdictView
    findings: tuple[FindingView, ...]
    skipped: tuple[SkippedView, ...]
    skipped_rules: int
    drawing: Drawing
    plot: Plot | None
    profile: ProfilePlot | None
    measures: tuple[MeasureTable, ...]
    curvature: CurvatureView | None
    layers: LayerTable
    calls: int
    probe: ProbeView | None
    probe_skipped: str
    risk_skipped: str
    plan: PlanView
    notes: tuple[tuple[prose.Span, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ReportView:
    """A whole report."""

    title: str
    version: str
    models: tuple[ModelView, ...]


def report_view(results: tuple[AuditResult, ...]) -> ReportView:
    """The view of one or more results."""
    models = tuple(model_view(result, f"m{index}") for index, result in enumerate(results))
    if len(models) == 1:
        title = f"{models[0].title} – {models[0].verdict.word.lower()}"
    else:
        title = wording.plural(len(models), "model", "models")
    versions = dict.fromkeys(printable.name(result.version) for result in results)
    return ReportView(title=title, version=", ".join(versions), models=models)


def model_view(result: AuditResult, anchor: str) -> ModelView:
    """The view of one result; `anchor` begins every anchor in it."""
    anchors = row_anchors(result, anchor)
    severities = {
        call_id: severity.value for call_id, severity in worst_severity(result.findings).items()
    }
    findings = finding_views(result, anchor, anchors)
    because = {
        finding.fingerprint: Because(code=finding.code, anchor=finding.anchor)
        for finding in findings
    }
    path = printable.name(result.model.path, 400)
    cost = model_cost(result.graph)
    return ModelView(
        anchor=anchor,
        title=PurePath(path).name or path or "model",
        path=path,
        facts=tuple(_model_facts(result, cost)),
        verdict=verdict_view(result),
        findings=findings,
        skipped=skipped_views(result.skipped),
        skipped_rules=len(result.skipped),
        drawing=draw(result, anchors, severities),
        plot=propagation_plot(result, anchors),
        profile=profile_plot(result, anchors),
        measures=tuple(
            table
            for table in (
                time_table(result, anchors),
                attention_table(result, anchors),
                stage_table(result, anchors),
            )
            if table is not None
        ),
        curvature=curvature_view(result),
        layers=layer_table(result, cost, anchors, severities),
        calls=len(result.graph.calls),
        probe=None if result.probe is None else _probe(result, result.probe),
        probe_skipped=probe_reason(result),
        risk_skipped=prose.plain(result.risk_skipped),
        plan=plan_view(result, because),
        notes=tuple(prose.spans(note) for note in result.graph.notes),
    )


def _model_facts(result: AuditResult, cost: ModelCost) -> Iterator[Fact]:
    model = result.model
    yield Fact(
        label="Format", value=wording.FORMATS.get(model.format, printable.name(model.format))
    )
    yield Fact(label="Written by", value=printable.name(model.writer, 60) or "not said")
    if model.hdf5:
        yield Fact(label="Read with", value=f"HDF5 {printable.name(model.hdf5)}")
    trainable = model.trainable_parameters
    share = "all trainable"
    if model.parameters and trainable != model.parameters:
        share = "none trainable" if not trainable else f"{quantity.count(trainable)} trainable"
    parameters = quantity.count(model.parameters)
    yield Fact(
        label="Parameters",
        value=f"{parameters}, {share}" if model.parameters else parameters,
        title=f"{model.parameters:,} values, {trainable:,} of them trainable",
    )
    yield Fact(label="Layer calls", value=f"{len(result.graph.calls):,}")
    view = cost_view(result.graph, cost)
    for label, amount in (
        ("Depth", view.depth),
        ("Multiply-adds a sample", view.multiply_adds),
        ("Activations a sample", view.activations),
    ):
        if result.graph.calls:
            yield Fact(label=label, value=amount.value, title=amount.title)
    yield Fact(label="Training", value=_training(result))
    if model.sha256:
        sha = printable.name(model.sha256)
        yield Fact(label="SHA-256", value=f"{sha[:12]}…", code=True, title=sha)


def _training(result: AuditResult) -> str:
    settings = result.graph.compile
    if settings is None:
        return "saved uncompiled"
    losses = ", ".join(wording.words(printable.name(loss.name, 40)) for loss in settings.losses[:3])
    optimizer = settings.optimizer
    if optimizer is None:
        return losses or "saved uncompiled"
    rate = optimizer.learning_rate
    at = "" if rate is None else f" at {quantity.number(rate)}"
    named = f"{wording.optimizer(printable.name(optimizer.name, 24))}{at}"
    return f"{named}, {losses}" if losses else named


def _probe(result: AuditResult, probe: ProbeResult) -> ProbeView:
    return ProbeView(
        facts=tuple(_probe_facts(result, probe)),
        assumptions=tuple(prose.spans(sentence) for sentence in probe.assumptions),
        incomplete=prose.plain(probe.incomplete),
        unmeasured=by_reason(probe.skipped),
        no_jacobian=unmeasured_jacobians(result),
    )


def _probe_facts(result: AuditResult, probe: ProbeResult) -> Iterator[Fact]:
    facts: Mapping[str, str] = {
        "Data": printable.name(probe.data),
        "Batches": f"{probe.batches:,} of {wording.plural(probe.batch_size, 'sample', 'samples')}",
        "Targets": prose.plain(probe.targets),
        "Loss": wording.words(printable.name(probe.loss)),
        "Backend": f"{printable.name(probe.backend)} on {printable.name(probe.device)}",
        "Precision": printable.name(probe.dtype),
        "Seed": f"{probe.seed}",
        "Took": quantity.seconds(probe.seconds),
        "Calls measured": f"{len(probe.calls):,}",
        "Jacobians": f"{len(jacobians(result)):,} of {len(probe.calls):,} calls",
        "Depth": wording.plural(probe.depth, "layer with a kernel", "layers with a kernel"),
    }
    for label, value in facts.items():
        yield Fact(label=label, value=value or "not said")
    if probe.sharpness_skipped and curvature_view(result) is None:
        yield Fact(label="Curvature", value=f"not measured: {prose.plain(probe.sharpness_skipped)}")
    if probe.nonfinite_data:
        yield Fact(
            label="Not finite in the data", value=prose.plain("; ".join(probe.nonfinite_data))
        )
    for label, call_id in (
        ("First non-finite output", probe.first_nonfinite_forward),
        ("First non-finite gradient", probe.first_nonfinite_backward),
    ):
        if call_id is not None:
            yield Fact(label=label, value=printable.name(call_id), code=True)
