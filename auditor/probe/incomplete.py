"""What a probe that came to an early end has to show."""

from __future__ import annotations

import traceback
from dataclasses import replace

from auditor.errors import GebAuditError, UsageError
from auditor.measurement import ProbeResult
from auditor.probe.codec import Report
from auditor.probe.out_of_memory import ran_out_of_memory


def failure(error: BaseException) -> Report:
    """What is reported of an error that ends the probe."""
    if isinstance(error, UsageError):
        return Report(wrong_usage=str(error), detail=error.detail)
    if isinstance(error, GebAuditError):
        failed, detail = str(error), error.detail
    else:
        words = str(error).strip().partition("\n")[0]
        failed = ": ".join(filter(None, ("the probe failed", type(error).__name__, words)))
        detail = "".join(traceback.format_exception(error))
    if ran_out_of_memory(error):
        remedy = "probe smaller batches with --batch-size"
        return Report(
            failed=f"out of memory: {failed.rstrip('.')}; {remedy}",
            brief="out of memory",
            detail=detail,
        )
    return Report(failed=failed, brief="error", detail=detail)


def incomplete(partial: ProbeResult, ending: Report) -> ProbeResult:
    """What had been measured, with the reason why there is no more at each thing left undone.

    `ending` is the report of the failure: `failed` says why, `brief` in two or three words.
    """
    undone = {
        call_id: replace(call, jacobian_skipped=ending.brief)
        for call_id, call in partial.calls.items()
        if call.jacobian is None and call.jacobian_skipped is None
    }
    curvature = partial.sharpness is not None or partial.sharpness_skipped
    missing = [f"the Jacobians of {_count(len(undone), len(partial.calls))}"] if undone else []
    if not curvature:
        missing.append("the loss' curvature")
    without = f"; not measured: {' and '.join(missing)}" if missing else ""
    return replace(
        partial,
        calls={**partial.calls, **undone},
        sharpness_skipped=partial.sharpness_skipped if curvature else ending.brief,
        incomplete=f"{ending.failed}{without}",
        incomplete_detail=ending.detail,
    )


def _count(some: int, total: int) -> str:
    return f"all {total} calls" if some == total else f"{some} of {total} calls"
