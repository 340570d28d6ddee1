"""The declared optimizer, made anew: a probe never steps with the model's own."""

from __future__ import annotations

import math
from typing import Any

import keras

from auditor.errors import UsageError
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.layer_graph import LayerGraph
from auditor.probe.settings import ProbeSettings

#: Loss scales tried, largest first, for models that compute in half precision: Keras' own start
#: of its dynamic scale, and what it would come down to.
HALF_PRECISION_SCALES = (2.0**15, 2.0**8, 1.0)


def declared_optimizer(model: Any, graph: LayerGraph, settings: ProbeSettings) -> Any:
    """A fresh optimizer as declared, without the state of earlier training; None if there is none.

    `settings.optimizer` wins, then the model's own `compile`, then the graph's compile settings;
    `settings.learning_rate` replaces the rate of whichever it is. Gradient accumulation is
    taken out, so that the first step moves.

    Raises `UsageError` if no Keras optimizer is called `settings.optimizer`.
    """
    optimizer = _asked(settings.optimizer) if settings.optimizer else _of_model(model, graph)
    if optimizer is not None and settings.learning_rate is not None:
        innermost(optimizer).learning_rate = settings.learning_rate
    return optimizer


def loss_scale(optimizer: Any) -> float:
    """The factor the optimizer expects on the loss it is given gradients of."""
    return 1.0 if optimizer is None else float(optimizer.scale_loss(1.0))


def first_learning_rate(optimizer: Any) -> float:
    """The learning rate of the first step."""
    rate = float(innermost(optimizer).learning_rate)
    return rate if math.isfinite(rate) else math.nan


def _asked(name: str) -> Any:
    try:
        return keras.optimizers.get(name)
    except (ValueError, TypeError, KeyError):  # KeyError: one that wraps another
        raise UsageError(f"no Keras optimizer is called {name!r}; try adam or sgd") from None


def _of_model(model: Any, graph: LayerGraph) -> Any:
    own = getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
    if own is not None:
        return _anew(own)
    declared = graph.compile.optimizer if graph.compile else None
    return None if declared is None else _from_settings(declared)


def _anew(own: Any) -> Any:
    config = own.get_config()
    if config.get("gradient_accumulation_steps"):
        config["gradient_accumulation_steps"] = None
    if "inner_optimizer" in config:
        inner = _anew(own.inner_optimizer)
        config["inner_optimizer"] = keras.saving.serialize_keras_object(inner)
    kind = type(own)
    if kind.__module__.startswith("keras.src.backend."):
        # Saved on PyTorch: that backend's own class, which any other loads and none can run.
        kind = getattr(keras.optimizers, kind.__name__, kind)
    return kind.from_config(config)


def _from_settings(declared: OptimizerSettings) -> Any:
    """An optimizer of compile settings as read from a file: by its name and its rate alone."""
    try:
        optimizer = keras.optimizers.get(declared.name)
    except (ValueError, TypeError):  # a custom optimizer
        return None
    if declared.learning_rate is not None:
        optimizer.learning_rate = declared.learning_rate
    return optimizer


def innermost(optimizer: Any) -> Any:
    """The optimizer itself, where it is wrapped in one that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)
