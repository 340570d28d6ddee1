"""Refusing to open a file: the error and the hazard it stands for, made together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.finding import Severity
from auditor.hazard import Hazard


def refusal(
    code: str, place: str, what: str, *, identifier: str = "", file: str = ""
) -> UnsafeModel:
    """The error for a file whose container is hostile, to be raised where it is seen.

    Args:
        code: the rule it belongs to, GEB903 to GEB909.
        place: where in the file: an archive member, an HDF5 path, an ONNX node or tensor.
        what: one clause that says what it is and what it would do.
        identifier: the public advisory, if there is one; several separated by commas.
        file: the file's path, to be put before the line where nobody above does.
    """
    hazard = Hazard(code=code, place=place, what=what, identifier=identifier)
    line = f"unsafe to open: {_told(hazard)}"
    return UnsafeModel(f"{file}: {line}" if file else line, hazards=(hazard,))


def _told(hazard: Hazard) -> str:
    known = f"{hazard.code}, {hazard.identifier}" if hazard.identifier else hazard.code
    return f"{hazard.place}: {hazard.what} ({known})"


@contextmanager
def keeping(hazards: tuple[Hazard, ...]) -> Iterator[None]:
    """Let an error tell what was already seen in the file that is hostile.

    Otherwise a file could hide its code from the report by being damaged further on.
    """
    hostile = tuple(hazard for hazard in hazards if hazard.severity is Severity.ERROR)
    try:
        yield
    except UnreadableModel as error:
        if not hostile:
            raise
        seen = error.hazards if isinstance(error, UnsafeModel) else ()
        line = f"unsafe to load: {_told(hostile[0])}; besides, {error}"
        raise UnsafeModel(line, hazards=(*hostile, *seen), detail=error.detail) from error
