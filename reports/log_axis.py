"""A logarithmic axis: its range, and ticks people can read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import quantity

#: Axes of at most so many decades have ticks within a decade: whole ones would be one or two.
DETAILED = 2.2


@dataclass(frozen=True, kw_only=True)
class LogAxis:
    """Maps positive values to [0, 1]; `low` and `high` are exponents of ten."""

    low: float
    high: float

    @classmethod
    def over(cls, values: list[float]) -> LogAxis:
        """An axis that holds all of `values`, which are positive and finite, with room to spare."""
        exponents = [math.log10(value) for value in values] or [0.0]
        low, high = min(exponents), max(exponents)
        room = max(0.07 * (high - low), 0.15)
        return cls(low=low - room, high=high + room)

    def at(self, exponent: float) -> float:
        """Where ten to the `exponent` lies, from 0 (low) to 1 (high)."""
        return (exponent - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """(place, label) of at most about `most` ticks, at round powers or round numbers."""
        span = self.high - self.low
        if span <= DETAILED:
            fractions = (1, 2, 5) if span > 0.7 else (1, 1.5, 2, 3, 4, 5, 7)
            exponents = [
                decade + math.log10(fraction)
                for decade in range(math.floor(self.low), math.ceil(self.high) + 1)
                for fraction in fractions
            ]
        else:
            step = next(s for s in (1, 2, 3, 5, 10, 20, 50, 100, 200) if span / s <= most)
            first = math.ceil(self.low / step) * step
            exponents = [float(e) for e in range(first, math.floor(self.high) + 1, step)]
        inside = (e for e in exponents if self.low <= e <= self.high)
        return [(self.at(exponent), self._label(exponent, span)) for exponent in inside]

    @staticmethod
    def _label(exponent: float, span: float) -> str:
        if span <= DETAILED or -3 <= exponent <= 4:
            return quantity.number(float(f"{10**exponent:.3g}"))
        return quantity.power(round(exponent))
