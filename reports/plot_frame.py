"""What all plots of a page have in common: margins, ticks, round steps of a linear axis."""

from __future__ import annotations

from dataclasses import dataclass

LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 24.0


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick: pixels along its axis, and its label."""

    at: float
    label: str


def steps(last: float, most: int) -> range:
    """0 to `last` in at most about `most` round steps."""
    step = next(
        s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if last / s <= most
    )
    return range(0, int(last) + 1, step)
