"""Plan and Setting: what is recommended, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One recommended setting.

    `name` is what is set ("learning_rate", "global_clipnorm", "kernel_initializer", …); `value`
    what to set it to; `low` and `high` the interval the evidence supports, None where the value
    is not a number; `because` holds fingerprints of findings it answers; `reason` one sentence
    with the measured numbers; `formula` how the value came about, with its source; `layers` the
    calls it concerns (empty: the whole model); `config` further arguments of the Keras object
    `value` names; `current` what the model has now.
    """

    name: str
    value: float | int | str | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    because: tuple[str, ...] = ()
    reason: str = ""
    formula: str = ""
    current: float | int | str | None = None
    layers: tuple[str, ...] = ()
    config: Mapping[str, float | int | str | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The recommended settings. A None field means: nothing to recommend, `notes` say why.

    `loss` is recommended for a model saved uncompiled only; a saved loss is kept.
    `snippet` is Python that applies the plan to a Keras model called `model`.
    """

    learning_rate: Setting | None = None
    optimizer: Setting | None = None
    clip: Setting | None = None
    regularization: tuple[Setting, ...] = ()
    schedule: Setting | None = None
    initialization: tuple[Setting, ...] = ()
    accumulation: Setting | None = None
    precision: Setting | None = None
    loss: Setting | None = None
    notes: tuple[str, ...] = ()
    snippet: str = ""

    def settings(self) -> tuple[Setting, ...]:
        """Every setting there is, in the order of the fields."""
        single = (self.learning_rate, self.optimizer, self.clip)
        rest = (self.schedule, *self.initialization, self.accumulation, self.precision, self.loss)
        return tuple(s for s in (*single, *self.regularization, *rest) if s is not None)

    def compile(self, model: Any, *, loss: Any = None, metrics: Any = None) -> None:
        """Compile a live Keras model with the recommended optimizer, rate, clip and decay.

        Loss and metrics stay those the model is compiled with, unless given. Weights are not
        touched: `adjust_layers` does that.

        Raises:
            UsageError: the plan recommends no optimizer, or there is no loss to compile with.
        """
        from auditor.plan.apply import compile_with

        compile_with(self, model, loss=loss, metrics=metrics)

    def adjust_layers(self, model: Any) -> None:
        """Redraw the weights and set the dropout rates that the plan accuses, in a live model.

        What training put into the redrawn weights is lost. Call `compile` afterwards.

        Raises:
            UsageError: the model has no layer of a name in the plan.
        """
        from auditor.plan.apply import adjust_layers

        adjust_layers(self, model)

    def callbacks(self) -> list[Any]:
        """The recommended dynamic adjustment, as Keras callbacks for `fit`."""
        from auditor.plan.apply import callbacks

        return callbacks(self)
