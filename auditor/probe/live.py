"""Probing a live `keras.Model`, in this process, leaving it bit-identical."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.probe.availability import BACKENDS
from auditor.probe.incomplete import failure, incomplete
from auditor.probe.settings import ProbeSettings


def probe_live(
    model: Any, graph: LayerGraph, settings: ProbeSettings, progress: Callable[[str], None]
) -> ProbeResult:
    """Probe a `keras.Model` in place, on the backend that Keras runs on in this process.

    Weights, optimizer, seed generators, normalization statistics and trainable flags are the
    same to the bit afterwards, and so are the random states of Python, NumPy and Keras; also
    when this raises. Time and memory are not bounded here.

    Where a later phase fails, what the phases before it measured is the result, and its
    `incomplete` says why. Raises as `auditor.probe.measure.measure` where nothing was measured.
    """
    import keras

    running = keras.backend.backend()
    if running not in BACKENDS:
        raise ProbeFailed(
            f"Keras runs on {running} in this process, which the probe does not know "
            f"({', '.join(BACKENDS)}); save the model and audit the file"
        )
    from auditor.probe.backends import load_backend
    from auditor.probe.measure import measure

    phase, partial = "", None

    def begin(next_phase: str) -> None:
        nonlocal phase
        phase = next_phase
        progress(next_phase)

    def keep(result: ProbeResult) -> None:
        nonlocal partial
        partial = result

    try:
        return measure(
            model,
            graph,
            settings,
            load_backend(running),
            begin,
            partial=keep,
            assumptions=_narrowed(model),
        )
    except ProbeFailed as error:
        if partial is None:
            raise
        report = failure(error)
        return incomplete(partial, replace(report, failed=f"in {phase}: {report.failed}"))


def _narrowed(model: Any) -> tuple[str, ...]:
    """Says where weights are kept, and computed with, in fewer digits than the model declares."""
    import keras

    kept = {
        (keras.backend.standardize_dtype(v.dtype), keras.backend.standardize_dtype(v.value.dtype))
        for v in model.variables
    }
    return tuple(
        f"weights declared {declared} are {held} in this process (on JAX, set JAX_ENABLE_X64=1 "
        "before it is imported), and the model was measured as it computes"
        for declared, held in sorted(kept)
        if declared == "float64" and held != declared
    )
