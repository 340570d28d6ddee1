"""What a reporter is: a name, suffixes, and one method from results to text."""

from __future__ import annotations

from typing import Protocol

from auditor.result import AuditResult


class Reporter(Protocol):
    """Renders results. Found through the entry-point group `geb_audit.reporters`."""

    name: str
    #: File suffixes this reporter is chosen for, with the dot; may be empty.
    suffixes: tuple[str, ...]

    def render(self, results: tuple[AuditResult, ...]) -> str:
        """The report of these results, one or more, as text."""
        ...
