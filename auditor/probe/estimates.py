"""Estimates of a Jacobian's norms over the rows of its block, with what each may be off by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from auditor.finding import Bound
from auditor.measurement import Estimate
from auditor.probe.blocks import Block
from auditor.probe.estimators.golub_kahan import RitzValues
from auditor.probe.estimators.hutchinson import FrobeniusEstimate

Array = np.ndarray[Any, Any]


def exact(values: Array, method: str, *, products: int) -> Estimate:
    """Of what is known up to rounding, `(rows,)`."""
    return _estimate(values, 0.0, method, products=products)


def sampled(block: Block, found: FrobeniusEstimate) -> Estimate:
    """Of ‖J‖_F from random signs."""
    method = f"Hutchinson, {found.draws} draws of signs beside the largest singular values"
    error = float(found.errors.max()) + block.epsilon * float(found.values.max())
    return _estimate(found.values, error, method, products=found.draws)


def ritz_value(block: Block, found: RitzValues) -> Estimate:
    """Of σ₁ from the largest Ritz value, a lower bound on it."""
    # Rounding is not the recursion's residual: half precisions have more of it.
    rounding = block.epsilon * math.sqrt(2 * found.steps) * float(found.values.max())
    return _estimate(
        found.values,
        float(found.residuals.max()) + rounding,
        f"Golub–Kahan, {found.steps} steps",
        products=2 * found.steps,
        bound=Bound.LOWER,
    )


def _estimate(
    values: Array, error: float, method: str, *, products: int, bound: Bound = Bound.NONE
) -> Estimate:
    return Estimate(
        value=float(np.median(values)),
        low=float(values.min()),
        high=float(values.max()),
        error=error,
        method=method,
        bound=bound,
        products=products,
    )
