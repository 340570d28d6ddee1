"""The probe's engine: passes over a few batches, and everything measured on them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from auditor.errors import GebAuditError, ProbeFailed
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.probe import call_measures, loss_surface
from auditor.probe.backends import Backend
from auditor.probe.prepare import prepare
from auditor.probe.session import Progress, Session
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import preserved
from auditor.probe.training_measures import training_measures
from auditor.probe.training_pass import first_line

#: Given what has been measured so far, whenever a phase has come to its end.
Partial = Callable[[ProbeResult], None]


def unheard(_: ProbeResult) -> None:
    """A `Partial` for those who wait for the whole."""


def measure(
    model: Any,
    graph: LayerGraph,
    settings: ProbeSettings,
    backend: Backend,
    progress: Progress,
    *,
    partial: Partial = unheard,
    assumptions: tuple[str, ...] = (),
) -> ProbeResult:
    """Probe a built `keras.Model`, and leave it as it was, to the bit, also when this raises.

    Args:
        model: the model; its own optimizer is not touched.
        graph: its static graph, whose ids the measurements carry.
        settings: what to measure on; the bounds in it are the worker's business.
        backend: the one Keras runs on.
        progress: told each phase in a few words.
        partial: given the result as far as it goes after each phase, for whoever may have to do
            with less than all of it.
        assumptions: what had to be assumed before, to be told along with what is assumed here.

    Raises:
        ProbeFailed: the model could not be run, differentiated or fitted with a batch.
        UsageError: the data file or an option is wrong.
    """
    started = time.perf_counter()

    def told(result: ProbeResult) -> ProbeResult:
        return replace(
            result,
            assumptions=(*assumptions, *result.assumptions),
            seconds=time.perf_counter() - started,
        )

    try:
        with preserved(model) as state, backend.on_device(settings.device):
            session = Session(
                model=model,
                graph=graph,
                settings=settings,
                backend=backend,
                state=state,
                prepared=prepare(model, graph, settings),
                progress=progress,
            )
            result = _run(session, lambda result: partial(told(result)))
    except GebAuditError:
        raise
    except Exception as error:
        raise ProbeFailed(
            f"the model raised {type(error).__name__}: {first_line(error)}",
            detail=traceback.format_exc(),
        ) from error
    return told(result)


def _run(session: Session, partial: Partial) -> ProbeResult:
    """Phase after phase, from what matters most to what costs most."""
    training = training_measures(session)
    partial(training.result())
    trial = loss_surface.trial(session, training.first)
    result = replace(
        training.result(trial),
        rate_trials=loss_surface.rate_trials(session, training.first, trial),
        rescaled_trial=loss_surface.rescaled_trial(session, trial),
    )
    partial(result)
    result = call_measures.with_outputs(result, session)
    partial(result)
    recorded = call_measures.recorded_calls(session)
    result = call_measures.with_jacobians(result, session, recorded)
    partial(result)
    result = call_measures.with_time_and_attention(result, session, recorded)
    partial(result)
    curvature = loss_surface.curvature(session, training.first)
    return replace(result, sharpness=curvature.sharpness, sharpness_skipped=curvature.skipped)
