"""Probing an ONNX file: as the Keras model that the importer makes of it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.onnx_import import NotImportable, to_keras
from auditor.probe.backends import Backend
from auditor.probe.measure import Partial, measure
from auditor.probe.onnx_inputs import hold_the_rest
from auditor.probe.session import Progress
from auditor.probe.settings import ProbeSettings

#: Nodes that a line names.
LISTED = 3


def probe_onnx(
    path: Path,
    graph: LayerGraph,
    settings: ProbeSettings,
    backend: Backend,
    progress: Progress,
    partial: Partial,
) -> ProbeResult:
    """Import the file and measure it. Raises `ProbeFailed` or `UsageError`."""
    try:
        model = to_keras(path)
        assumptions = hold_the_rest(model, graph)

        def told(result: ProbeResult) -> ProbeResult:
            return replace(result, assumptions=(*result.assumptions, *hosted_nodes(model.hosted)))

        result = measure(
            model,
            graph,
            settings,
            backend,
            progress,
            partial=lambda result: partial(told(result)),
            assumptions=assumptions,
        )
    except NotImportable as error:
        raise ProbeFailed(str(error), detail=traceback.format_exc()) from error
    return told(result)


def hosted_nodes(hosted: Mapping[str, str]) -> tuple[str, ...]:
    """What the nodes that no gradient passes are, and why: a line a reason."""
    by_reason: dict[str, list[str]] = {}
    for node, reason in hosted.items():
        by_reason.setdefault(reason, []).append(node)
    return tuple(
        f"no gradient passes {', '.join(nodes[:LISTED])}"
        f"{f' and {len(nodes) - LISTED} more' if len(nodes) > LISTED else ''}: {reason}"
        for reason, nodes in by_reason.items()
    )
