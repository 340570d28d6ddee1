"""geb-audit: a pre-flight auditor for neural networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.errors import GebAuditError, ProbeFailed, UnreadableModel, UnsafeModel, UsageError
    from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
    from auditor.pipeline import audit
    from auditor.result import AuditFailed, AuditResult

#: Where each public name is defined. `import auditor` reads none of these: pytest, the command
#: line and whoever wants one small module of it do not wait for all of it.
_HOMES = {
    "AuditFailed": "auditor.result",
    "AuditResult": "auditor.result",
    "Confidence": "auditor.finding",
    "Evidence": "auditor.finding",
    "Finding": "auditor.finding",
    "GebAuditError": "auditor.errors",
    "ProbeFailed": "auditor.errors",
    "Severity": "auditor.finding",
    "Skipped": "auditor.finding",
    "UnreadableModel": "auditor.errors",
    "UnsafeModel": "auditor.errors",
    "UsageError": "auditor.errors",
    "audit": "auditor.pipeline",
}

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


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
