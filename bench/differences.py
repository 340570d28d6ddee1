"""A derivative held against differences: where it agrees, and what the function does where not.

A function that is smooth at a point has one-sided difference quotients that converge, as their step
falls, to one number. At a kink they converge to two. Across a jump they grow as fast as the step
falls, at a vertical tangent more slowly, and at the edge of its domain one side is not a number.
What shows none of this is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: The step of central differences, which balances rounding against curvature in double precision,
#: and the steps to follow a quotient over where these do not agree, both per unit of direction.
STEP = 1e-6
STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
#: The agreement asked for.
TOLERANCE = 1e-3
#: Rounding of a value, in units of its size: sums of some dozen terms.
ROUNDING = 1e-15
#: A quotient across a jump grows tenfold from step to step, at a root threefold.
JUMPS = 7.0
GROWS = 1.5
#: Single directions that are looked at for each array.
LOOKED_AT = 100


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Limits of the difference quotients along a direction; NaN where there is none.

    What kind of place it is: "smooth", "kink", "jump", "steep", "edge", or "unclear".
    """

    ahead: float
    behind: float
    kind: str


@dataclass(kw_only=True)
class Held:
    """What came of holding a derivative against differences.

    moved: whether any derivative was large enough to be told from rounding. places: how many single
    directions there are of each kind at which the function has no derivative. wrong: what is wrong.
    zero: whether the derivative is zero throughout.
    """

    zero: bool = False
    moved: bool = False
    places: Counter[str] = field(default_factory=Counter)
    wrong: str = ""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """A function of an array, and the size of the terms that its value is a sum of."""

    function: Callable[[Array], float]
    point: Array
    size: float

    def hold(self, gradient: Array, rng: np.random.Generator, directions: int) -> Held:
        """Hold a gradient against differences along random directions.

        Where one disagrees, its halves are looked at, and theirs, down to single coordinates.
        """
        held = Held(zero=not gradient.any())
        finite = np.isfinite(self.point) & np.isfinite(gradient)
        scale = np.where(finite, np.maximum(1.0, np.abs(self.point)), 0.0)
        for place in map(tuple, np.argwhere(np.isfinite(self.point) & ~finite)):
            self._judge_infinite(place, held)
        for _ in range(0 if held.wrong or not finite.any() else directions):
            direction = rng.normal(size=self.point.shape) * scale
            if not self._agrees(direction, gradient, held):
                self._look_within(direction, gradient, held)
                break
        return held

    def _look_within(self, direction: Array, gradient: Array, held: Held) -> None:
        waiting = [direction]
        looked = 0
        while waiting and not held.wrong and looked < LOOKED_AT:
            now = waiting.pop()
            places = np.argwhere(now)
            if len(places) > 1:
                halves = [np.zeros_like(now), np.zeros_like(now)]
                for number, place in enumerate(map(tuple, places)):
                    halves[number * 2 // len(places)][place] = now[place]
                unlike = [half for half in halves if not self._agrees(half, gradient, held)]
                if unlike:
                    waiting += unlike
                    continue
            looked += 1
            self._judge(now, gradient, held)

    def _judge_infinite(self, place: tuple[int, ...], held: Held) -> None:
        direction = np.zeros_like(self.point)
        direction[place] = 1.0
        kind = self.sides(direction).kind
        if kind in ("steep", "edge"):
            held.places[kind] += 1
        else:
            held.wrong = f"not finite at a place that is {kind} {_told(direction)}"

    def _agrees(self, direction: Array, gradient: Array, held: Held) -> bool:
        slope = float(np.sum(np.where(direction != 0, gradient, 0.0) * direction))
        ahead, behind = self._at(STEP, direction), self._at(-STEP, direction)
        central = (ahead - behind) / (2 * STEP)
        allowed = self._rounding(STEP)
        held.moved |= max(abs(central), abs(slope)) > 10 * allowed
        return abs(slope - central) <= TOLERANCE * max(abs(slope), abs(central)) + allowed

    def _judge(self, direction: Array, gradient: Array, held: Held) -> None:
        slope = float(np.sum(np.where(direction != 0, gradient, 0.0) * direction))
        sides = self.sides(direction)
        ends = sorted((sides.ahead, sides.behind))
        near = self._near(sides.ahead, sides.behind)
        where = _told(direction)
        if sides.kind == "smooth":
            if abs(slope - ends[0]) > near or abs(slope - ends[1]) > near:
                held.wrong = f"{slope:.6g} for {sides.ahead:.6g} {where}"
        elif sides.kind == "unclear":
            held.wrong = f"{slope:.6g}, and differences do not converge {where}"
        elif sides.kind == "kink" and not ends[0] - near <= slope <= ends[1] + near:
            # Several kinks in one place, of which the gradient takes different sides.
            held.places["mixed kink"] += 1
        else:
            held.places[sides.kind] += 1

    def sides(self, direction: Array) -> Sides:
        """What the function does along a direction."""
        middle = self._at(0.0, direction)
        ahead = [(self._at(step, direction) - middle) / step for step in STEPS]
        behind = [(middle - self._at(-step, direction)) / step for step in STEPS]
        limits = self._limit(ahead), self._limit(behind)
        sides = zip((ahead, behind), limits, strict=True)
        diverging = [quotients for quotients, limit in sides if np.isnan(limit)]
        if not diverging:
            kind = "smooth" if abs(limits[0] - limits[1]) <= self._near(*limits) else "kink"
        elif np.isnan(diverging).any():
            kind = "edge"
        else:
            growth = min(map(_growth, diverging))
            kind = "jump" if growth >= JUMPS else "steep" if growth >= GROWS else "unclear"
        return Sides(ahead=limits[0], behind=limits[1], kind=kind)

    def _limit(self, quotients: list[float]) -> float:
        """What the quotients settle at: the pair of neighbours that differ least, if little."""
        pairs = [
            (abs(a - b) + self._rounding(step), b, self._rounding(step))
            for a, b, step in zip(quotients, quotients[1:], STEPS[1:], strict=False)
            if np.isfinite(a) and np.isfinite(b)
        ]
        if not pairs:
            return float("nan")
        apart, last, rounding = min(pairs)
        return last if apart <= TOLERANCE * abs(last) + 2 * rounding else float("nan")

    def _near(self, a: float, b: float) -> float:
        largest = max((abs(v) for v in (a, b) if np.isfinite(v)), default=0.0)
        return TOLERANCE * largest + self._rounding(STEP)

    def _at(self, step: float, direction: Array) -> float:
        return self.function(self.point + step * direction)

    def _rounding(self, step: float) -> float:
        return ROUNDING * (self.size + 1) / step * 10


def _growth(quotients: list[float]) -> float:
    """By what factor quotients grow from step to step, at the smallest steps."""
    sizes = np.abs([q for q in quotients if np.isfinite(q)])[-3:]
    if len(sizes) < 2 or not sizes[0]:
        return 0.0
    return float((sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1)))


def _told(direction: Array) -> str:
    places = np.argwhere(direction)
    if len(places) > 1:
        return f"along {len(places)} coordinates"
    return f"at ({', '.join(map(str, places[0]))})"
