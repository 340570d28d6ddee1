"""Numbers that say what they are: estimates with their errors, and distributions."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.finding import Bound


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimated quantity.

    value: the median over what was measured (samples, batches); `low` and `high` its range there.
    error: what the value may be off by, for the method's own reasons (a standard error, or a
        residual), as a 95 % bound; 0 where the method is exact, up to rounding.
    bound: whether the method's value can only be too small (`lower`) or too large (`upper`).
    products: products with the operator (J, Jᵀ or H) it took; 0 for a closed form.
    """

    value: float
    low: float
    high: float
    error: float
    method: str
    bound: Bound = Bound.NONE
    products: int = 0


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A quantity over batches or samples. With one value, all fields are that value."""

    mean: float
    p10: float
    p50: float
    p90: float
    max: float
    count: int
