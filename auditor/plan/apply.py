"""Applying a plan to a live Keras model. The only place of the plan that imports a framework."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from auditor.errors import UsageError
from auditor.plan.recipe import (
    Construction,
    callbacks_of,
    dropouts_of,
    optimizer_of,
    redraws_of,
    takes_seed,
)
from auditor.plan.settings import Plan

#: Arguments of `compile` that hold plain values, and so survive a look into the configuration.
CARRIED = ("loss_weights", "run_eagerly", "steps_per_execution", "jit_compile")


def compile_with(plan: Plan, model: Any, *, loss: Any = None, metrics: Any = None) -> None:
    """Compile `model` with the plan's optimizer; loss and metrics stay its own unless given.

    Raises:
        UsageError: the plan recommends no optimizer, or there is no loss to compile with.
    """
    construction = optimizer_of(plan)
    if construction is None:
        why = plan.notes[0] if plan.notes else "it has no optimizer"
        raise UsageError(f"the plan cannot compile a model: {why}")
    if loss is None:
        loss = getattr(model, "loss", None) or (plan.loss.value if plan.loss else None)
    if loss is None:
        raise UsageError(
            f"the model {model.name!r} is not compiled and its head does not tell which loss it "
            "was made for: give one, plan.compile(model, loss=…)"
        )
    config = model.get_compile_config() if getattr(model, "compiled", False) else None
    carried = {key: config[key] for key in CARRIED if config and config.get(key) is not None}
    if metrics is None and config:
        carried |= _metrics(config)
    else:
        carried["metrics"] = metrics
    model.compile(optimizer=construct(construction), loss=loss, **carried)


def callbacks(plan: Plan) -> list[Any]:
    """The plan's callbacks, newly made."""
    return [construct(construction) for construction in callbacks_of(plan)]


def adjust_layers(plan: Plan, model: Any) -> None:
    """Redraw accused weights and set accused dropout rates, having found every layer first.

    Raises:
        UsageError: the model has no layer of a name in the plan.
    """
    redraws = [
        (layer_at(model, path), redraw) for redraw in redraws_of(plan) for path in redraw.layers
    ]
    rates = [
        (layer_at(model, path), setting.value)
        for setting in dropouts_of(plan)
        for path in setting.layers
    ]
    for seed, (layer, redraw) in enumerate(redraws):
        for index, variable in enumerate(layer.weights):
            if variable.name in redraw.variables:
                seeded = {"seed": seed * 100 + index} if takes_seed(redraw.initializer) else {}
                initializer = construct(redraw.initializer, **seeded)
                variable.assign(initializer(variable.shape, variable.dtype))
    for layer, rate in rates:
        layer.rate = rate


def layer_at(model: Any, path: str) -> Any:
    """The layer at a path of names joined by "/", through nested models and wrappers.

    Raises `UsageError` where there is none.
    """
    layer = model
    for name in path.split("/"):
        inner = next((inside for inside in _inside(layer) if inside.name == name), None)
        if inner is None:
            raise UsageError(
                f"the model {model.name!r} has no layer {path!r}: the plan was made for another "
                "model, or for one with other names"
            )
        layer = inner
    return layer


def construct(construction: Construction, **more: Any) -> Any:
    """The Keras object of a construction, with its arguments constructed before it."""
    import keras

    arguments = {
        name: construct(value) if isinstance(value, Construction) else value
        for name, value in construction.arguments.items()
    }
    make: Any = functools.reduce(getattr, construction.path.split("."), keras)
    return make(**arguments, **more)


def _inside(layer: Any) -> Iterator[Any]:
    """The layers directly inside a model or a wrapper."""
    import keras

    for value in getattr(layer, "layers", None) or vars(layer).values():
        if isinstance(value, keras.Layer):
            yield value


def _metrics(config: dict[str, Any]) -> dict[str, Any]:
    """The compiled metrics, where Keras can make them again from their configuration.

    Where it cannot, `compile` without metrics leaves the compiled ones in place.
    """
    import keras

    found: dict[str, Any] = {}
    for key in ("metrics", "weighted_metrics"):
        try:
            found[key] = keras.saving.deserialize_keras_object(config.get(key))
        except (TypeError, ValueError):
            return {}
    return found
