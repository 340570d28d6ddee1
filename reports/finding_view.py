"""What a report shows of findings, and of the rules that could not be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .prose import Remedy, Span

#: Layers a report links one by one in a finding; the rest are counted.
LINKED_LAYERS = 200


@dataclass(frozen=True, kw_only=True)
class LayerLink:
    """A layer call by name; `anchor` is empty where the graph has no such call."""

    text: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class EvidenceView:
    """One number with all that says what it is."""

    name: str
    value: str
    unit: str
    bound: str
    method: str


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding, ready to show. `severity` is the key, `severity_word` what people read."""

    anchor: str
    code: str
    name: str
    severity: str
    severity_word: str
    confidence: str
    message: tuple[Span, ...]
    layers: tuple[LayerLink, ...]
    layers_left_out: int
    evidence: tuple[EvidenceView, ...]
    remedy: Remedy
    references: tuple[str, ...]
    fingerprint: str

    @property
    def units(self) -> bool:
        """Whether any evidence has a unit."""
        return any(evidence.unit for evidence in self.evidence)


@dataclass(frozen=True, kw_only=True)
class SkippedView:
    """Rules skipped for one and the same reason."""

    codes: tuple[str, ...]
    reason: str


def finding_views(
    result: AuditResult, prefix: str, anchors: Mapping[str, str]
) -> tuple[FindingView, ...]:
    """Every finding; `anchors` maps call ids to where the page shows the call."""
    return tuple(
        _finding(finding, f"{prefix}-f{index}", anchors)
        for index, finding in enumerate(result.findings)
    )


def skipped_views(skipped: tuple[Skipped, ...]) -> tuple[SkippedView, ...]:
    """Skipped rules by reason, in order of first mention."""
    by_reason: dict[str, list[str]] = {}
    for rule in skipped:
        by_reason.setdefault(prose.plain(rule.reason), []).append(printable.name(rule.code))
    return tuple(
        SkippedView(codes=tuple(codes), reason=reason) for reason, codes in by_reason.items()
    )


def worst_severity(findings: tuple[Finding, ...]) -> Mapping[str, Severity]:
    """The worst severity of the findings that name a call, by call id."""
    worst: dict[str, Severity] = {}
    for finding in findings:
        for call_id in finding.layers:
            known = worst.get(call_id)
            if known is None or finding.severity.rank > known.rank:
                worst[call_id] = finding.severity
    return worst


def _finding(finding: Finding, anchor: str, anchors: Mapping[str, str]) -> FindingView:
    linked = finding.layers[:LINKED_LAYERS]
    return FindingView(
        anchor=anchor,
        code=printable.name(finding.code),
        name=wording.words(printable.name(finding.name)),
        severity=finding.severity.value,
        severity_word=wording.SEVERITIES[finding.severity],
        confidence=wording.CONFIDENCES[finding.confidence],
        message=prose.spans(finding.message),
        layers=tuple(
            LayerLink(text=printable.name(call_id), anchor=anchors.get(call_id, ""))
            for call_id in linked
        ),
        layers_left_out=len(finding.layers) - len(linked),
        evidence=tuple(_evidence(evidence) for evidence in finding.evidence),
        remedy=prose.remedy(finding.remedy),
        references=tuple(prose.plain(reference) for reference in finding.references),
        fingerprint=finding.fingerprint,
    )


def _evidence(evidence: Evidence) -> EvidenceView:
    method = prose.plain(evidence.method)
    if evidence.products is not None:
        cost = wording.plural(evidence.products, "product", "products")
        method = f"{method} ({cost})" if method else cost
    return EvidenceView(
        name=wording.words(printable.name(evidence.name)),
        value=_evidence_value(evidence),
        unit=printable.name(evidence.unit),
        bound=wording.BOUNDS[evidence.bound],
        method=method,
    )


def _evidence_value(evidence: Evidence) -> str:
    if isinstance(evidence.value, str):
        return printable.name(evidence.value)
    if isinstance(evidence.value, float):
        return quantity.with_error(evidence.value, evidence.stderr)
    return quantity.number(evidence.value)
