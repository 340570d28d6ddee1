"""Findings of what a reader saw in a file, one for each hazard."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity
from auditor.rule import Context


def hazard_findings(context: Context, remedy: str) -> Iterator[Finding]:
    """One finding for each thing the reader saw under this rule's code."""
    for hazard in context.hazards:
        known = f" ({hazard.identifier})" if hazard.identifier else ""
        evidence = [Evidence(name="place", value=hazard.place, method="static walk of the file")]
        if hazard.identifier:
            evidence.append(Evidence(name="advisory", value=hazard.identifier))
        warned = hazard.severity is Severity.WARNING
        yield context.finding(
            f"{hazard.place}: {hazard.what}{known}",
            evidence=tuple(evidence),
            remedy=remedy,
            severity=hazard.severity,
            confidence=Confidence.MEDIUM if warned else Confidence.HIGH,
            place=hazard.place,
        )
