"""The optimizer: the declared one, unless there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.graph.compile_settings import OptimizerSettings
from auditor.plan.advice import Advice
from auditor.plan.case import DEFAULT_OPTIMIZER, Case
from auditor.plan.settings import Setting

Scalar = float | int | bool


@dataclass(frozen=True, kw_only=True)
class KerasOptimizer:
    """A class of keras.optimizers: its name, and the arguments a plan hands on, with defaults."""

    class_name: str
    arguments: Mapping[str, Scalar] = field(default_factory=dict)
    weight_decay: float | None = None


_MOMENTS: Mapping[str, Scalar] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
#: By lower-case name. An argument outside this table is not carried over: the file is a stranger's.
KERAS_OPTIMIZERS: Mapping[str, KerasOptimizer] = {
    "sgd": KerasOptimizer(class_name="SGD", arguments={"momentum": 0.0, "nesterov": False}),
    "adam": KerasOptimizer(class_name="Adam", arguments={**_MOMENTS, "amsgrad": False}),
    "adamw": KerasOptimizer(
        class_name="AdamW", arguments={**_MOMENTS, "amsgrad": False}, weight_decay=0.004
    ),
    "adamax": KerasOptimizer(class_name="Adamax", arguments=_MOMENTS),
    "nadam": KerasOptimizer(class_name="Nadam", arguments=_MOMENTS),
    "lamb": KerasOptimizer(class_name="Lamb", arguments=_MOMENTS),
    "rmsprop": KerasOptimizer(
        class_name="RMSprop",
        arguments={"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
    ),
    "lion": KerasOptimizer(class_name="Lion", arguments={"beta_1": 0.9, "beta_2": 0.99}),
    "adagrad": KerasOptimizer(
        class_name="Adagrad", arguments={"initial_accumulator_value": 0.1, "epsilon": 1e-7}
    ),
    "adadelta": KerasOptimizer(class_name="Adadelta", arguments={"rho": 0.95, "epsilon": 1e-7}),
    "adafactor": KerasOptimizer(
        class_name="Adafactor",
        arguments={
            "beta_2_decay": -0.8,
            "epsilon_1": 1e-30,
            "epsilon_2": 1e-3,
            "clip_threshold": 1.0,
            "relative_step": True,
        },
    ),
    "ftrl": KerasOptimizer(
        class_name="Ftrl",
        arguments={
            "learning_rate_power": -0.5,
            "initial_accumulator_value": 0.1,
            "l1_regularization_strength": 0.0,
            "l2_regularization_strength": 0.0,
            "l2_shrinkage_regularization_strength": 0.0,
            "beta": 0.0,
        },
    ),
    "muon": KerasOptimizer(
        class_name="Muon",
        arguments={
            "adam_beta_1": 0.9,
            "adam_beta_2": 0.999,
            "momentum": 0.95,
            "nesterov": True,
            "ns_steps": 5,
        },
        weight_decay=0.004,
    ),
}
#: Every Keras optimizer takes these.
_COMMON: Mapping[str, Scalar] = {"use_ema": False, "ema_momentum": 0.99}


def optimizer(case: Case) -> Advice:
    """Keep the declared optimizer with its own arguments; Adam for a model saved uncompiled."""
    declared = case.declared
    if declared is None:
        attentive = case.attentive
        return Advice(
            settings=(
                Setting(
                    name="optimizer",
                    value="AdamW" if attentive else KERAS_OPTIMIZERS[DEFAULT_OPTIMIZER].class_name,
                    because=case.because("GEB607"),
                    reason="the model is saved uncompiled"
                    + (" and has attention layers" if attentive else ""),
                    formula="prior: an adaptive method forgives scale (Kingma & Ba 2015)"
                    + ("; decoupled decay (Loshchilov & Hutter 2019)" if attentive else ""),
                ),
            )
        )
    known = KERAS_OPTIMIZERS.get(declared.name)
    if known is None:
        return Advice(
            notes=(
                f"optimizer: {declared.name!r} is not a Keras optimizer; keep it, and set rate "
                "and clipping on it",
            )
        )
    kept = {
        name: value
        for name, default in {**known.arguments, **_COMMON}.items()
        if (value := _scalar(declared.config.get(name), default)) is not None and value != default
    }
    if known.weight_decay is not None and declared.config.get("weight_decay", 1) in (None, 0):
        kept["weight_decay"] = 0.0  # else the class would bring its own
    return Advice(
        settings=(
            Setting(
                name="optimizer",
                value=known.class_name,
                current=known.class_name,
                reason="the declared optimizer is kept: nothing measured speaks against it",
                formula="as declared",
                config=kept,
            ),
        )
    )


def replaced_optimizer(declared: OptimizerSettings | None, why: str) -> Advice:
    """Adam in place of a declared optimizer that cannot train the model."""
    known = KERAS_OPTIMIZERS.get(declared.name) if declared is not None else None
    return Advice(
        settings=(
            Setting(
                name="optimizer",
                value=KERAS_OPTIMIZERS[DEFAULT_OPTIMIZER].class_name,
                current=known.class_name if known is not None else None,
                reason=why,
                formula="prior: an adaptive method forgives scale (Kingma & Ba 2015)",
            ),
        )
    )


def _scalar(value: object, like: Scalar) -> Scalar | None:
    """A value from the file as the type its argument has; None where it is not one."""
    if isinstance(like, bool):
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if isinstance(like, int) else float(value)
