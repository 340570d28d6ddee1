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


def frobenius(known: Array, squares: Sequence[Array], spectral: Array) -> FrobeniusEstimate:
    """From ‖Qᵀ J‖²_F, which is `known`, and draws of the rest; σ₁ is `spectral`; `(rows,)` each.

    `squares` are ‖Jᵀ (I − Q Qᵀ) u‖² of at least two draws of u, independent random signs. Their
    mean is ‖(I − Q Qᵀ) J‖²_F, their variance 2 (‖A‖²_F − Σ A²_ii) of the A they are a form in
    (Hutchinson 1989; Avron & Toledo 2011): what the few largest singular values would add to it
    is taken out by Q (Meyer et al. 2021). The error is the smaller of two: what the draws show,
    pooled over a block's rows, whose Jacobians are of a kind; and what that variance is at most,
    2 σ₁² ‖(I − Q Qᵀ) J‖²_F.
    """
    drawn = np.array(squares)
    draws, rows = drawn.shape
    rest = drawn.mean(axis=0)
    total = known + rest
    values = np.sqrt(total)
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = np.where(total > 0.0, (drawn - rest) / total, 0.0)
        freedom = rows * (draws - 1)
        shown = t_quantile(freedom) * math.sqrt(float(np.nansum(scatter**2)) / freedom)
        most = NORMAL_975 * math.sqrt(2.0) * spectral * np.sqrt(rest) / total
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
