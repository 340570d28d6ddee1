"""What is measured call by call, beyond the training pass: to the output, and by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from auditor.measurement import CallMeasurement, ProbeResult
from auditor.probe.attention import attends, attention
from auditor.probe.batches import mixed
from auditor.probe.jacobians import measure_jacobians
from auditor.probe.recording import RecordedCall, record
from auditor.probe.recurrent_time import runs_along_time, time_growth
from auditor.probe.session import Session
from auditor.probe.to_output import measure_to_output


def with_outputs(result: ProbeResult, session: Session) -> ProbeResult:
    """With what each call means to the model's outputs.

    Where y are the logits of a softmax or sigmoid head, the head's own output comes after y.
    """
    session.progress("from every call to the output")
    shapes = [head.output.shape for head in session.prepared.losses.heads]
    found = measure_to_output(
        session.pull_back, lambda: session.program.slots, shapes, seed=session.settings.seed
    )
    heads = {
        call.id for call in session.graph.output_calls if call.activation in ("softmax", "sigmoid")
    }
    return _replaced(
        result,
        {
            call_id: replace(
                result.calls[call_id], to_output_norm=measured.to_output_norm, gsc=measured.gsc
            )
            for call_id, measured in found.items()
            if call_id not in heads
        },
    )


def recorded_calls(session: Session) -> tuple[RecordedCall, ...]:
    """The calls of one forward pass over samples of all batches."""
    session.progress("recording the calls")
    session.state.begin_pass(session.settings.seed)
    x = mixed(session.prepared.batches)
    return record(session.model, session.prepared.inputs, x, backend=session.backend)


def with_jacobians(
    result: ProbeResult, session: Session, calls: Sequence[RecordedCall]
) -> ProbeResult:
    """With the Jacobian of each call."""
    jacobians = measure_jacobians(
        calls, session.linearizer, seed=session.settings.seed, progress=session.progress
    )
    return _replaced(
        result,
        {
            call_id: replace(
                call,
                jacobian=jacobians.found.get(call_id),
                jacobian_skipped=jacobians.skipped.get(call_id),
            )
            for call_id, call in result.calls.items()
        },
    )


def with_time_and_attention(
    result: ProbeResult, session: Session, calls: Sequence[RecordedCall]
) -> ProbeResult:
    """With growth along time for recurrent layers, and where attention looks."""
    measured: dict[str, CallMeasurement] = {}
    for call in calls:
        known = result.calls.get(call.id)
        if known is None:
            continue
        if runs_along_time(call.operation):
            session.progress(f"along time: {call.id}")
            session.state.reseed(session.settings.seed)
            growth = time_growth(call, session.backend, session.settings.seed)
            measured[call.id] = (
                replace(known, time_skipped=growth)
                if isinstance(growth, str)
                else replace(known, time=growth)
            )
        elif attends(call.operation):
            session.progress(f"attention: {call.id}")
            session.state.reseed(session.settings.seed)
            looks = attention(call, session.backend)
            measured[call.id] = (
                replace(known, attention_skipped=looks)
                if isinstance(looks, str)
                else replace(known, attention=looks)
            )
    return _replaced(result, measured)


def _replaced(result: ProbeResult, calls: Mapping[str, CallMeasurement]) -> ProbeResult:
    return replace(result, calls={**result.calls, **calls})
