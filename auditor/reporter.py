"""What a reporter is: a name, suffixes, and one method from results to text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from auditor.result import AuditResult

if TYPE_CHECKING:
    from rich.console import Console


class Reporter(Protocol):
    """Renders results. Found through the entry-point group `geb_audit.reporters`."""

    name: str
    #: File suffixes this reporter is chosen for, with the dot; may be empty.
    suffixes: tuple[str, ...]

    def render(self, results: tuple[AuditResult, ...]) -> str:
        """The report of these results, one or more, as text."""
        ...


class ConsoleReporter(Reporter, Protocol):
    """A reporter that also writes to a terminal, in its width and colours."""

    def print(self, results: tuple[AuditResult, ...], console: Console, *, verbose: int) -> None:
        """Print these results. `verbose` is -1 for a line a model, 0, or 1 for all there is."""
        ...
