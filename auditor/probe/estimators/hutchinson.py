"""Hutchinson's estimate of ‖J‖²_F from products with random signs, for all blocks at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.probe.growth import NORMAL_975, t_quantile

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class FrobeniusEstimate:
    """‖J‖_F of every row of a block, `(rows,)`, with 95 % errors `(rows,)` from the draws."""

    values: Array
    errors: Array
    draws: int


def frobenius(squares: Sequence[Array], spectral: Array) -> FrobeniusEstimate:
    """From ‖Jᵀ u‖² of each of at least two draws of u, `(rows,)` each, and σ₁ `(rows,)`.

    E‖Jᵀ u‖² = ‖J‖²_F for u of independent random signs, with the variance
    2 (‖J Jᵀ‖²_F − Σ (J Jᵀ)²_ii) (Hutchinson 1989; Avron & Toledo 2011). The error is the smaller
    of two: what the draws show, pooled over a block's rows, whose Jacobians are of a kind; and
    what that variance is at most, 2 σ₁² ‖J‖²_F.
    """
    drawn = np.array(squares)
    draws, rows = drawn.shape
    means = drawn.mean(axis=0)
    values = np.sqrt(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = np.where(means > 0.0, drawn / means - 1.0, 0.0)
        freedom = rows * (draws - 1)
        shown = t_quantile(freedom) * math.sqrt(float(np.nansum(scatter**2)) / freedom)
        most = NORMAL_975 * math.sqrt(2.0) * spectral / values
        relative = np.minimum(shown, np.where(np.isfinite(most), most, shown))
    # The error of a root is half that of its square.
    return FrobeniusEstimate(
        values=values, errors=values * relative / (2.0 * math.sqrt(draws)), draws=draws
    )


def signs(rng: np.random.Generator) -> Callable[[tuple[int, ...]], Array]:
    """Draws arrays of ±1 in single precision."""

    def draw(shape: tuple[int, ...]) -> Array:
        count = math.prod(shape)
        bits = np.unpackbits(rng.integers(0, 256, -(-count // 8), np.uint8), count=count)
        return (bits.astype(np.float32) * 2.0 - 1.0).reshape(shape)

    return draw
