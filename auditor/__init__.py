"""geb-audit: a pre-flight auditor for neural networks."""

from auditor.errors import GebAuditError, ProbeFailed, UnreadableModel, UnsafeModel, UsageError
from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.pipeline import audit
from auditor.result import AuditFailed, AuditResult

__all__ = [
    "AuditFailed",
    "AuditResult",
    "Confidence",
    "Evidence",
    "Finding",
    "GebAuditError",
    "ProbeFailed",
    "Severity",
    "Skipped",
    "UnreadableModel",
    "UnsafeModel",
    "UsageError",
    "audit",
]
