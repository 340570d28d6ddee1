"""The Jacobians of a model's calls, summed up: local gains, the largest σ₁, what was skipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from auditor.graph.operators import KERNEL_OPS
from auditor.measurement import Estimate, JacobianMeasurement
from auditor.result import AuditResult

from . import printable, prose

#: Calls named for one reason; the rest are counted.
NAMED = 40


@dataclass(frozen=True, kw_only=True)
class LocalGains:
    """Backward gains of the calls with a kernel, or of all where none has one.

    `low` and `high` are the 10th and the 90th percentile; `largest` is the largest σ₁ of any
    call, `where` that call's id.
    """

    low: float
    median: float
    high: float
    kernels: bool
    count: int
    largest: Estimate
    where: str


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Calls without a measure, for one and the same reason."""

    reason: str
    count: int
    calls: tuple[str, ...]


def local_gains(result: AuditResult) -> LocalGains | None:
    """The local gains in short; None where no Jacobian was measured."""
    found = jacobians(result)
    if not found:
        return None
    kernels = {call.id for call in result.graph.calls if call.op in KERNEL_OPS}
    chosen = [jacobian for call_id, jacobian in found.items() if call_id in kernels]
    gains = sorted(jacobian.backward_gain for jacobian in chosen or found.values())
    where = max(found, key=lambda call_id: found[call_id].spectral_norm.value)
    last = len(gains) - 1
    return LocalGains(
        low=gains[round(0.1 * last)],
        median=gains[round(0.5 * last)],
        high=gains[round(0.9 * last)],
        kernels=bool(chosen),
        count=len(gains),
        largest=found[where].spectral_norm,
        where=where,
    )


def jacobians(result: AuditResult) -> Mapping[str, JacobianMeasurement]:
    """The measured Jacobians whose numbers are finite, by call id, in the probe's order."""
    calls = result.probe.calls if result.probe is not None else {}
    return {
        call_id: call.jacobian
        for call_id, call in calls.items()
        if call.jacobian is not None
        and math.isfinite(call.jacobian.spectral_norm.value)
        and math.isfinite(call.jacobian.frobenius_norm.value)
    }


def unmeasured_jacobians(result: AuditResult) -> tuple[Unmeasured, ...]:
    """Calls that were measured but for their Jacobian, by reason, the commonest first."""
    calls = result.probe.calls if result.probe is not None else {}
    return by_reason(
        {i: call.jacobian_skipped for i, call in calls.items() if call.jacobian_skipped}
    )


def by_reason(skipped: Mapping[str, str]) -> tuple[Unmeasured, ...]:
    """Calls with a reason each, put together by reason, the commonest first."""
    reasons: dict[str, list[str]] = {}
    for call_id, reason in skipped.items():
        reasons.setdefault(prose.plain(reason), []).append(printable.name(call_id))
    groups = sorted(reasons.items(), key=lambda group: -len(group[1]))
    return tuple(
        Unmeasured(reason=reason, count=len(ids), calls=tuple(ids[:NAMED]))
        for reason, ids in groups
    )
