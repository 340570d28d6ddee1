"""Errors that reach a user, each as one clear line: what, where, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.hazard import Hazard


def one_line(text: str) -> str:
    """Text from anywhere as one printable line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class GebAuditError(Exception):
    """Base of every error geb-audit raises on purpose; `str()` of it is the line a user reads.

    `detail` holds what `-v` shows in addition: a parser's own message, a traceback. The message
    is kept to one printable line, whatever names of a file are in it.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(one_line(message))
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors come back from other processes. An exception is unpickled by calling its class on
        # the message alone, and the classes below want more than that.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[GebAuditError], args: tuple[Any, ...], state: Any) -> GebAuditError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


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
