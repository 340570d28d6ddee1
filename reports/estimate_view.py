"""Estimates as a report shows them: the number, its error beside it, and how it came about."""

from __future__ import annotations

import math

from auditor.finding import Bound
from auditor.measurement import Distribution, Estimate

from . import prose, quantity, wording
from .table import Cell

SIGNS = {Bound.NONE: "", Bound.LOWER: "≥ ", Bound.UPPER: "≤ "}
#: An error below this share of its value changes none of the digits that are shown.
UNSEEN = 5e-4


def value(estimate: Estimate) -> str:
    """The number, with its sign where it is a bound: ≥ 5.40."""
    return SIGNS[estimate.bound] + quantity.number(estimate.value)


def error(estimate: Estimate) -> str:
    """What stands behind the number: "+ 0.021" at a lower bound, "± 0.021"; "" where unseen."""
    if not _has_error(estimate):
        return ""
    sign = {Bound.NONE: "±", Bound.LOWER: "+", Bound.UPPER: "−"}[estimate.bound]
    return f"{sign} {quantity.number(estimate.error, 2)}"


def how(estimate: Estimate, over: str = "samples") -> str:
    """How it came about, on one line: error, range over samples or batches, method, products."""
    parts = []
    if estimate.bound is not Bound.NONE:
        parts.append(wording.BOUNDS[estimate.bound])
    if _has_error(estimate):
        off = quantity.number(estimate.error, 2)
        parts.append(
            f"± {off} (95 %)"
            if estimate.bound is Bound.NONE
            else f"at most {off} too {'small' if estimate.bound is Bound.LOWER else 'large'}"
        )
    if over and quantity.number(estimate.low) != quantity.number(estimate.high):
        parts.append(
            f"median of {over} from {quantity.number(estimate.low)} to "
            f"{quantity.number(estimate.high)}"
        )
    parts.append(prose.plain(estimate.method))
    if estimate.products:
        parts.append(wording.plural(estimate.products, "product", "products"))
    return "; ".join(part for part in parts if part)


def cell(estimate: Estimate | None, title: str = "") -> Cell:
    """The estimate in a table; `title` goes before how it came about."""
    if estimate is None:
        return Cell(text=quantity.ABSENT, sort="")
    told = how(estimate)
    return Cell(
        text=value(estimate),
        sort=f"{estimate.value:.6g}",
        error=error(estimate),
        title=f"{title}; {told}" if title else told,
    )


def spread(distribution: Distribution) -> str:
    """Where most of a distribution lies: its middle 80 %."""
    return quantity.interval(distribution.p10, distribution.p90)


def _has_error(estimate: Estimate) -> bool:
    """Whether the error shows in the digits; one that is no number has to be seen."""
    return not estimate.error <= UNSEEN * abs(estimate.value) or (not math.isfinite(estimate.error))
