"""`--loss`, `--optimizer` and `--learning-rate`: what a user says in place of a file's settings."""

from __future__ import annotations

from dataclasses import replace

from auditor.errors import UsageError
from auditor.formats.keras_compile import LEARNING_RATES, loss_settings, optimizer_settings
from auditor.graph.compile_settings import CompileSettings, OptimizerSettings
from auditor.graph.layer_graph import LayerGraph
from auditor.probe.settings import ProbeSettings


def with_training_options(graph: LayerGraph, settings: ProbeSettings) -> LayerGraph:
    """The graph with `--loss`, `--optimizer`, `--learning-rate` in place of what it lacks."""
    if settings.loss is None and settings.optimizer is None and settings.learning_rate is None:
        return graph
    saved = graph.compile or CompileSettings(origin="option")
    optimizer, losses = saved.optimizer, saved.losses
    if settings.optimizer is not None:
        optimizer = optimizer_settings(settings.optimizer)
    optimizer = optimizer or OptimizerSettings(name="adam")
    if settings.learning_rate is not None:
        optimizer = replace(
            optimizer, learning_rate=settings.learning_rate, schedule=None, schedule_config={}
        )
    if settings.loss is not None:
        losses = (loss_settings(settings.loss),)
    return replace(graph, compile=replace(saved, optimizer=optimizer, losses=losses))


def check_names(settings: ProbeSettings) -> None:
    """Raise `UsageError` for a loss or an optimizer that Keras has none of.

    Where a model is probed or live, Keras itself looks them up, and knows a user's own ones too.
    """
    if settings.loss is not None and loss_settings(settings.loss).custom:
        raise UsageError(
            f"no Keras loss is called {settings.loss!r}; try mse or categorical_crossentropy"
        )
    if settings.optimizer is not None and settings.optimizer.lower() not in LEARNING_RATES:
        raise UsageError(f"no Keras optimizer is called {settings.optimizer!r}; try adam or sgd")
