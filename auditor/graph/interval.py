"""Closed intervals of the extended reals, and their arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """All numbers from `low` to `high`, the ends included; an end may be infinite."""

    low: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(low=self.low + other.low, high=self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(low=self.low - other.high, high=self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [_times(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(low=min(ends), high=max(ends))

    def __truediv__(self, other: Interval) -> Interval:
        """The quotient; everything where the divisor may be zero."""
        if other.holds(0.0):
            return EVERYTHING
        inverse = [0.0 if math.isinf(end) else 1 / end for end in (other.low, other.high)]
        return self * Interval(low=min(inverse), high=max(inverse))

    def holds(self, value: float) -> bool:
        """Whether the value is one of the interval's."""
        return self.low <= value <= self.high

    def with_zero(self) -> Interval:
        """The smallest interval with this one and zero in it."""
        return Interval(low=min(self.low, 0.0), high=max(self.high, 0.0))

    def scaled(self, factor: float) -> Interval:
        """The interval times a number."""
        return self * Interval(low=factor, high=factor)

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        return f"{_end(self.low)} … {_end(self.high)}"


EVERYTHING = Interval(low=-math.inf, high=math.inf)


def hull(intervals: Iterable[Interval]) -> Interval:
    """The smallest interval that holds all of these, of which there is one at least."""
    found = list(intervals)
    return Interval(low=min(i.low for i in found), high=max(i.high for i in found))


def _times(a: float, b: float) -> float:
    """The product, where nothing times anything is nothing: an end at zero is reached."""
    return 0.0 if a == 0 or b == 0 else a * b


def _end(value: float) -> str:
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    return f"{value:.3g}"
