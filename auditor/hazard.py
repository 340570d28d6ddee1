"""Hazards: what a reader saw in a model file that could harm whoever loads it."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.finding import Severity


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """One dangerous thing at one place in a file.

    `code` is the rule it belongs to (GEB901 …); `place` says where ("config.json: layers[3]
    (lambda_1)"); `what` is one sentence; `identifier` names the public advisory, if there is one
    (several separated by commas).
    """

    code: str
    place: str
    what: str
    identifier: str = ""
    severity: Severity = Severity.ERROR
