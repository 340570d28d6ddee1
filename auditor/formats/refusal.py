"""Refusing to open a file: the error and the hazard it stands for, made together."""

from __future__ import annotations

from auditor.errors import UnsafeModel
from auditor.hazard import Hazard


def refusal(code: str, place: str, what: str, *, identifier: str = "") -> UnsafeModel:
    """The error for a file whose container is hostile, to be raised where it is seen.

    Args:
        code: the rule it belongs to, GEB903 to GEB909.
        place: where in the file: an archive member, an HDF5 path, an ONNX node or tensor.
        what: one clause that says what it is and what it would do.
        identifier: the public advisory, if there is one.
    """
    known = f"{code}, {identifier}" if identifier else code
    hazard = Hazard(code=code, place=place, what=what, identifier=identifier)
    return UnsafeModel(f"unsafe to open: {place}: {what} ({known})", hazards=(hazard,))
