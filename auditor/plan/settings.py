"""Plan and Setting: what is recommended, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    notes: tuple[str, ...] = ()
    snippet: str = ""

    def settings(self) -> tuple[Setting, ...]:
        """Every setting there is, in the order of the fields."""
        single = (self.learning_rate, self.optimizer, self.clip)
        rest = (self.schedule, *self.initialization, self.accumulation, self.precision)
        return tuple(s for s in (*single, *self.regularization, *rest) if s is not None)
