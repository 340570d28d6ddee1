"""Probing a live `keras.Model`, in this process, leaving it bit-identical."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.probe.availability import BACKENDS
from auditor.probe.settings import ProbeSettings


def probe_live(
    model: Any, graph: LayerGraph, settings: ProbeSettings, progress: Callable[[str], None]
) -> ProbeResult:
    """Probe a `keras.Model` in place, on the backend that Keras runs on in this process.

    Weights, optimizer, seed generators, normalization statistics and trainable flags are the
    same to the bit afterwards, and so are the random states of Python, NumPy and Keras; also
    when this raises. Time and memory are not bounded here.

    Raises as `auditor.probe.measure.measure`.
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

    return measure(model, graph, settings, load_backend(running), progress)
