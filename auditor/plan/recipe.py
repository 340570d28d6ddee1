"""A plan as Keras objects to construct: the one source of both the snippet and the live plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.plan.clipping import CLIP_MODES
from auditor.plan.schedule import KERAS_SCHEDULES
from auditor.plan.settings import Plan, Setting

Argument = float | int | str | bool

#: Classes of keras.initializers by the snake_case names a plan uses.
INITIALIZERS = {
    "he_normal": "HeNormal",
    "lecun_normal": "LecunNormal",
    "glorot_uniform": "GlorotUniform",
    "truncated_normal": "TruncatedNormal",
    "random_uniform": "RandomUniform",
    "orthogonal": "Orthogonal",
    "zeros": "Zeros",
}
#: Names of the variables that an argument of a Keras layer draws. A depthwise layer calls its only
#: kernel "kernel", a separable one has two of other names.
VARIABLES = {
    "kernel_initializer": ("kernel",),
    "depthwise_initializer": ("depthwise_kernel", "kernel"),
    "pointwise_initializer": ("pointwise_kernel",),
    "recurrent_initializer": ("recurrent_kernel",),
    "embeddings_initializer": ("embeddings",),
    "bias_initializer": ("bias",),
}


@dataclass(frozen=True, kw_only=True)
class Construction:
    """A Keras object: its class below `keras` ("optimizers.Adam") and its keyword arguments.

    `settings` are those of the plan that an argument comes from, by the argument's name.
    """

    path: str
    arguments: Mapping[str, Argument | Construction] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Redraw:
    """Weights to draw anew: paths of the layers, names of their variables, and the initializer."""

    layers: tuple[str, ...]
    variables: tuple[str, ...]
    initializer: Construction
    setting: Setting


def optimizer_of(plan: Plan) -> Construction | None:
    """The recommended optimizer with rate or schedule, clip, decay and accumulation; or None."""
    if plan.optimizer is None:
        return None
    arguments: dict[str, Argument | Construction] = {}
    settings: dict[str, Setting] = {}
    if plan.learning_rate is not None and plan.learning_rate.value is not None:
        arguments["learning_rate"] = plan.learning_rate.value
        settings["learning_rate"] = plan.learning_rate
    planned = schedule_of(plan)
    if planned is not None:
        arguments["learning_rate"] = planned
    arguments |= plan.optimizer.config
    for setting in (plan.clip, plan.accumulation, *plan.regularization):
        taken = (*CLIP_MODES, "weight_decay", "gradient_accumulation_steps")
        if setting is not None and setting.name in taken and setting.value is not None:
            arguments[setting.name] = setting.value
            settings[setting.name] = setting
    return Construction(
        path=f"optimizers.{plan.optimizer.value}", arguments=arguments, settings=settings
    )


def schedule_of(plan: Plan) -> Construction | None:
    """The schedule that goes into the optimizer; None where it is a callback, or none."""
    if plan.schedule is None or plan.schedule.value not in KERAS_SCHEDULES:
        return None
    return Construction(
        path=f"optimizers.schedules.{plan.schedule.value}", arguments=plan.schedule.config
    )


def callbacks_of(plan: Plan) -> tuple[Construction, ...]:
    """The callbacks to train with. A run that meets NaN ends there, as it cannot recover."""
    if plan.optimizer is None and plan.learning_rate is None:
        return ()
    stop = Construction(path="callbacks.TerminateOnNaN")
    if plan.schedule is None or plan.schedule.value in KERAS_SCHEDULES:
        return (stop,)
    return (
        Construction(path=f"callbacks.{plan.schedule.value}", arguments=plan.schedule.config),
        stop,
    )


def redraws_of(plan: Plan) -> tuple[Redraw, ...]:
    """The weights that the plan draws anew."""
    return tuple(
        Redraw(
            layers=setting.layers,
            variables=VARIABLES[setting.name],
            initializer=Construction(
                path=f"initializers.{INITIALIZERS[str(setting.value)]}", arguments=setting.config
            ),
            setting=setting,
        )
        for setting in plan.initialization
    )


def dropouts_of(plan: Plan) -> tuple[Setting, ...]:
    """The dropout rates that the plan sets."""
    return tuple(setting for setting in plan.regularization if setting.name == "dropout_rate")


def takes_seed(initializer: Construction) -> bool:
    """Whether an initializer draws.

    Two calls of one Keras instance give the same values, so each weight needs its own instance.
    """
    return initializer.path != "initializers.Zeros"
