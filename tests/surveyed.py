"""Facts of arrays in memory, as an audit takes them."""

from __future__ import annotations

from typing import Any

from auditor.graph import LayerGraph
from auditor.measurement import DataFacts
from auditor.probe.data_survey import survey
from auditor.probe.given_data import given_data


def surveyed(graph: LayerGraph, x: Any, y: Any = None) -> DataFacts:
    """The facts of inputs and targets for this graph."""
    with given_data((x, y)) as path:
        return survey(path, graph, given=True)
