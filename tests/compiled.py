"""Graphs compiled in one way or another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auditor.graph import CompileSettings, LayerGraph, OptimizerSettings
from auditor.graph.compile_settings import MetricSettings


def optimized(
    graph: LayerGraph,
    name: str = "adam",
    rate: float | None = 1e-3,
    *,
    schedule: str | None = None,
    schedule_config: dict[str, Any] | None = None,
    loss_scaling: bool | None = None,
    **config: Any,
) -> LayerGraph:
    """The graph under an optimizer with this configuration, its losses kept."""
    optimizer = OptimizerSettings(
        name=name,
        learning_rate=rate,
        schedule=schedule,
        schedule_config=schedule_config or {},
        config=config,
        loss_scaling=loss_scaling,
    )
    return replace(graph, compile=replace(graph.compile or CompileSettings(), optimizer=optimizer))


def measured(graph: LayerGraph, *metrics: str | MetricSettings) -> LayerGraph:
    """The graph with these metrics."""
    settings = tuple(
        MetricSettings(name=metric) if isinstance(metric, str) else metric for metric in metrics
    )
    return replace(
        graph,
        compile=replace(
            graph.compile or CompileSettings(),
            metrics=tuple(metric.name for metric in settings),
            metric_settings=settings,
        ),
    )
