"""The gradient noise scale, from the gradients of a few batches (McCandlish et al. 2018)."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from auditor.measurement import Estimate
from auditor.probe.growth import t_quantile
from auditor.probe.trial import Gradients

Array = np.ndarray[Any, Any]

#: Numbers kept of each batch's gradient. Up to that many weights, its products are exact; beyond,
#: they are off by 1/√this of the gradients' norms, 0.2 %, which is small against how much the
#: products of so few batches scatter.
SKETCH = 2**18


class GradientMoments:
    """Products between the gradients of batches, each kept as a sketch of `SKETCH` numbers.

    A component goes with a random sign into the place of its index modulo `SKETCH`, so that the
    products of sketches are those of the gradients on average (Charikar et al. 2002). The memory
    does not grow with the model, and what an error by leaving batches out takes is there: every
    product of two batches.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is that of the signs."""
        self._seed = seed
        self._sketches: list[Array] = []

    def add(self, found: Gradients) -> None:
        """One batch's gradients; those of all batches are of the same variables."""
        rng = np.random.default_rng([self._seed, 0x5C37])
        sketch = np.zeros(SKETCH)
        place = 0
        for gradient in found.gradients:
            if gradient is None:
                continue
            numbers = np.asarray(keras.ops.convert_to_numpy(gradient)).reshape(-1)
            for begin in range(0, numbers.size, SKETCH):
                block = numbers[begin : begin + SKETCH].astype(np.float64)
                block *= 1.0 - 2.0 * rng.integers(0, 2, block.size, np.int8)
                # The block may go round the end once, since it is no longer than the sketch.
                first = block[: SKETCH - place]
                sketch[place : place + first.size] += first
                sketch[: block.size - first.size] += block[first.size :]
                place = (place + block.size) % SKETCH
        self._sketches.append(sketch / found.scale)

    def estimate(self, batch_size: int) -> Estimate | None:
        """B = tr Σ / |G|² in samples; Σ is the covariance of one sample's gradient, G its mean.

        None for fewer than two batches, gradients that are not finite, and where the estimate
        of |G|² is not positive. See `noise_scale`.
        """
        if len(self._sketches) < 2:
            return None
        sketches = np.array(self._sketches)
        return noise_scale(sketches @ sketches.T, batch_size)


def noise_scale(products: Array, batch_size: int) -> Estimate | None:
    """B = tr Σ / |G|² from ⟨G_j, G_k⟩ `(batches, batches)` of independent batches' gradients.

    With B_small one batch of b samples and B_big all K of them, the estimators of McCandlish et
    al. 2018 (arXiv:1812.06162, appendix A.1) are means over batches,

        |G|² ≈ mean of ⟨G_j, G_k⟩ over j ≠ k,    tr Σ ≈ b (mean of |G_k|² − |G|²),

    and unbiased. Their ratio is not, but the errors of both, by leaving out one batch at a time,
    give its interval, by Fieller 1954: all B for which tr Σ − B |G|² is within its 95 % bound of
    zero, with Student's t for K − 1 degrees of freedom. With three batches that is wide, and has
    no upper end where |G|² is not clearly above zero; then `high` and `error` are infinite. With
    two there is no error to be had, and `low` is 0.
    """
    if not np.isfinite(products).all():
        return None
    count = len(products)
    squared, trace = _moments(products, batch_size)
    if squared <= 0.0:
        return None
    value = trace / squared
    low, high = 0.0, math.inf
    if count > 2:
        left = [np.delete(np.delete(products, k, 0), k, 1) for k in range(count)]
        pairs = np.array([_moments(rest, batch_size) for rest in left])
        centred = pairs - pairs.mean(axis=0)
        covariance = (count - 1) / count * centred.T @ centred
        low, high = _fieller(trace, squared, covariance, t_quantile(count - 1))
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        error=max(value - low, high - value),
        method=f"moments of the gradients of {count} batches",
    )


def _moments(products: Array, batch_size: int) -> tuple[float, float]:
    """|G|² and tr Σ."""
    count = len(products)
    norms = float(np.trace(products)) / count
    squared = (float(products.sum()) - count * norms) / (count * (count - 1))
    return squared, max(batch_size * (norms - squared), 0.0)


def _fieller(trace: float, squared: float, covariance: Array, t: float) -> tuple[float, float]:
    """All B ≥ 0 with (trace − B squared)² ≤ t² Var(trace − B squared).

    `covariance` is that of (squared, trace). A quadratic a B² − 2 h B + c ≤ 0.
    """
    a = squared**2 - t**2 * float(covariance[0, 0])
    h = squared * trace - t**2 * float(covariance[0, 1])
    c = trace**2 - t**2 * float(covariance[1, 1])
    discriminant = h**2 - a * c
    if a <= 0.0:
        # |G|² may be zero: B is unbounded, and bounded from below if tr Σ is clearly not zero.
        if c <= 0.0 or discriminant <= 0.0:
            return 0.0, math.inf
        # Roots of either sign, the set outside them: c / (h + √…) is the positive one.
        low = c / (h + math.sqrt(discriminant)) if h + math.sqrt(discriminant) > 0 else 0.0
        return max(low, 0.0), math.inf
    # The estimate itself satisfies it, so that there are real roots but for rounding.
    spread = math.sqrt(max(discriminant, 0.0))
    return max((h - spread) / a, 0.0), max((h + spread) / a, 0.0)
