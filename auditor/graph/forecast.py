"""Mean-field forecast of propagation, from weights or initializers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class CallForecast:
    """One call's forecast.

    gain: predicted factor on the gradient's norm from output to input of the call (√χ₁ with its
        activation); variance: predicted mean square of the call's output.
    """

    gain: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The static estimate. `covered` is the share of calls on the way to the output it covers."""

    growth_rate: float | None = None
    calls: Mapping[str, CallForecast] = field(default_factory=dict)
    covered: float = 0.0
