"""Errors that reach a user, each as one clear line: what, where, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditor.hazard import Hazard


class GebAuditError(Exception):
    """Base of every error geb-audit raises on purpose; `str()` of it is the line a user reads.

    `detail` holds what `-v` shows in addition: a parser's own message, a traceback.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class UsageError(GebAuditError):
    """Wrong usage or configuration. Exit code 2."""


class UnreadableModel(GebAuditError):
    """A model that could not be audited: missing, corrupt, of another kind. Exit code 3."""


class UnsafeModel(UnreadableModel):
    """A model that is not opened any further, because its very container is hostile. Exit code 3.

    `hazards` are what was seen, under the codes of GEB9.
    """

    def __init__(self, message: str, *, hazards: tuple[Hazard, ...] = (), detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.hazards = hazards


class ProbeFailed(GebAuditError):
    """A demanded probe could not be run to a usable result. Exit code 3."""
