"""`AuditResult`: everything an audit came to know. Reporters receive this and nothing else."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from auditor.errors import GebAuditError, UnsafeModel
from auditor.finding import Finding, Severity, Skipped
from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.plan.settings import Plan
from auditor.risk import Risk


class Verdict(enum.StrEnum):
    """What will become of the model's training, in a word."""

    STABLE = "stable"
    EXPLODING = "exploding"
    VANISHING = "vanishing"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class AuditFailed(GebAuditError, AssertionError):
    """Findings at or above the asked severity; raised by `AuditResult.raise_for`."""

    def __init__(self, message: str, *, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The audited thing. `path` is as the user gave it; `sha256` is empty for a live model.

    `hdf5` is the version of the HDF5 library that read it; empty where none did.
    """

    path: str
    format: str
    sha256: str
    writer: str
    parameters: int
    trainable_parameters: int
    hdf5: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """One model's audit.

    `probe` is None when no probe ran; `probe_skipped` then says why, and how to get one.
    `refused` says why the file was not opened any further, and is empty where it was read: the
    graph of a refused file is empty, and its findings are those of the refusal.
    `risk` is None for a model that it is not calibrated for; `risk_skipped` then says why.
    """

    version: str
    model: ModelInfo
    verdict: Verdict
    graph: LayerGraph
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    forecast: Forecast | None = None
    probe: ProbeResult | None = None
    probe_skipped: str = ""
    plan: Plan = field(default_factory=Plan)
    refused: str = ""
    risk: Risk | None = None
    risk_skipped: str = ""

    def at_least(self, severity: Severity | str) -> tuple[Finding, ...]:
        """Findings of this severity or worse."""
        rank = Severity(severity).rank
        return tuple(finding for finding in self.findings if finding.severity.rank >= rank)

    def raise_for(self, severity: Severity | str = Severity.ERROR) -> None:
        """Raise `AuditFailed` if there is a finding of this severity or worse."""
        bad = self.at_least(severity)
        if bad:
            lines = [f"{self.model.path}: {len(bad)} finding(s) at or above {Severity(severity)}"]
            for finding in bad:
                where = f" ({', '.join(finding.layers)})" if finding.layers else ""
                lines.append(f"  {finding.code} {finding.name}{where}: {finding.message}")
            raise AuditFailed("\n".join(lines), findings=bad)

    def save(self, path: str | Path) -> Path:
        """Write the report; the suffix chooses the reporter (.html, .json, .txt, …).

        The file appears whole or not at all. Raises `UsageError` for a suffix no reporter has.
        """
        from auditor.registry import reporter_for_suffix
        from auditor.report_file import write_whole

        target = Path(path)
        reporter = reporter_for_suffix(target.suffix)
        write_whole(target, reporter.render((self,)))
        return target


class RefusedModel(UnsafeModel):
    """An `UnsafeModel` with the audit that the refusal amounts to: its findings, to be reported."""

    def __init__(self, error: UnsafeModel, result: AuditResult) -> None:
        super().__init__(str(error), hazards=error.hazards, detail=error.detail)
        self.result = result

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found before the file was left alone."""
        return self.result.findings
