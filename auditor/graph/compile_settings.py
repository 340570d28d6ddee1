"""How a model is to be trained, as far as its file says: optimizer, losses, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """An optimizer. `name` is lower-case Keras: sgd, adam, adamw, rmsprop, lion, ….

    `learning_rate` is the initial rate when a schedule is set; `schedule` is then its class name
    and `schedule_config` its configuration. `config` is the raw configuration.
    `loss_scaling` is whether the loss is scaled up before its gradient is taken, so that half
    precision does not lose it; None where the file does not tell.
    """

    name: str
    learning_rate: float | None = None
    schedule: str | None = None
    schedule_config: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    loss_scaling: bool | None = None

    def number(self, key: str) -> float | None:
        """A numeric setting such as `clipnorm` or `weight_decay`; None when unset."""
        value = self.config.get(key)
        return (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else None
        )


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """One loss. `name` is the canonical snake_case Keras name, such as categorical_crossentropy.

    `output` names the output it belongs to; None when one loss serves all outputs. A custom loss
    keeps the name its file gives and has `custom=True`. `weight` is its factor in the sum of all
    losses; of a loss that serves several outputs, 1 unless all of theirs are the same.
    """

    name: str
    output: str | None = None
    weight: float = 1.0
    from_logits: bool = False
    custom: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """One metric. `name` is the canonical snake_case Keras name, or what the file calls it.

    `output` names the output it belongs to; None where the file does not say.
    """

    name: str
    output: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CompileSettings:
    """The arguments of `compile`, as saved; `origin` is "file", or "option" if a user gave them.

    `metrics` are the names of `metric_settings`, each once.
    """

    optimizer: OptimizerSettings | None = None
    losses: tuple[LossSettings, ...] = ()
    metrics: tuple[str, ...] = ()
    metric_settings: tuple[MetricSettings, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "file"
