"""Findings: what a rule says about a model, and the evidence it says it on."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """How bad it is if the finding is true."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error."""
        return list(Severity).index(self)


class Confidence(enum.StrEnum):
    """How sure the rule is that the finding is true."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Bound(enum.StrEnum):
    """Whether a number estimates a quantity or bounds it."""

    NONE = "none"
    LOWER = "lower"
    UPPER = "upper"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number (or word) a finding rests on, saying what it is.

    `stderr` is the standard error in the same unit; `method` names how the value came about;
    `products` counts the Jacobian or Hessian products it cost, where that applies.
    """

    name: str
    value: float | int | str | bool
    unit: str = ""
    stderr: float | None = None
    bound: Bound = Bound.NONE
    method: str = ""
    products: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule's statement about a model.

    `layers` holds ids of layer calls; `remedy` says what to do, and may end in one fenced
    ```` ```python ```` block; `references` are the rule's sources. `place` is where in the file it
    was seen, for what is seen in a file and not at a layer.
    """

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    message: str
    layers: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""
    references: tuple[str, ...] = ()
    place: str = ""

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stay the same while code and place do; numbers do not enter."""
        salient = "\n".join((self.code, *self.layers, *([self.place] if self.place else [])))
        return hashlib.sha256(salient.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A rule that could not be judged, and why. Silence never means "fine"."""

    code: str
    reason: str
