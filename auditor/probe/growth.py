"""The growth rate of gradients: a regression of log ‖∂L/∂h‖ on depth, with an honest interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: 97.5 % quantiles of Student's t for 1 to 10 degrees of freedom.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL_975 = 1.959964


@dataclass(frozen=True, kw_only=True)
class GrowthPoint:
    """One layer in the regression.

    `stage` is what it is compared within, `log_norms` log ‖∂L/∂h‖ in each batch, `(batches,)`.
    """

    depth: int
    stage: Hashable
    log_norms: Array


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The factor on ‖∂L/∂h‖ a layer, toward the input.

    `interval` is its 95 % interval, None where the points leave no degree of freedom to tell.
    """

    rate: float
    interval: tuple[float, float] | None


def fit_growth(points: Sequence[GrowthPoint]) -> Growth | None:
    """Least squares of the median log norm on depth, with an intercept for each stage.

    What is estimated is the mean growth of the logarithm, exp E log. Mean-field theory gives the
    growth of the mean square, which in a net of finite width lies about 1/width above it.

    The intercepts take out whatever a change of shape does to the norm. The standard error is
    the largest of two, plus the scatter between batches in quadrature:

    - the usual one, which takes the points to scatter independently about the line;
    - one from the increments between neighbours, their lag-one covariance included. It holds
      as well where errors add up along the depth, as they do in a random net: each layer's
      random factor stays in all gradients below it, and the usual error is far too small.

    None where no stage holds two depths.
    """
    points = sorted(points, key=lambda point: point.depth)
    stages = sorted({point.stage for point in points}, key=repr)
    stage = np.array([stages.index(point.stage) for point in points], int)
    depth = _centred(np.array([point.depth for point in points], float), stage)
    spread = float(depth @ depth)
    if spread == 0.0:
        return None
    logs = np.array([point.log_norms for point in points], float)
    centred = _centred(np.median(logs, axis=1), stage)
    slope = float(depth @ centred) / spread
    freedom = len(points) - len(stages) - 1
    interval = None
    if freedom > 0:
        residuals = centred - slope * depth
        variance = max(
            float(residuals @ residuals) / freedom / spread,
            _variance_from_increments(depth / spread, residuals, stage),
        )
        slopes = [float(depth @ _centred(column, stage)) / spread for column in logs.T]
        if len(slopes) > 1:
            variance += float(np.var(slopes, ddof=1)) / len(slopes)
        error = t_quantile(freedom) * math.sqrt(variance)
        interval = (_power(-slope - error), _power(-slope + error))
    return Growth(rate=_power(-slope), interval=interval)


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t.

    From ten degrees of freedom on by the expansion of Cornish and Fisher about the normal one
    (Abramowitz and Stegun 1964, 26.7.5), there within 0.001.
    """
    if freedom <= len(T_975):
        return T_975[freedom - 1]
    z = NORMAL_975
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _variance_from_increments(weights: Array, residuals: Array, stage: Array) -> float:
    """Variance of the slope Σ weights·y, for increments correlated with their neighbours at most.

    Within a stage the weights sum to zero, so Σ w_i r_i = Σ c_k (r_{k+1} − r_k) with
    c_k = −Σ_{i ≤ k} w_i, and the variance is Σ c_k² γ₀ + 2 Σ c_k c_{k+1} γ₁. Residuals that
    scatter independently have γ₁ = −γ₀/2, residuals that add up γ₁ = 0.
    """
    level = lagged = level_weight = lagged_weight = 0.0
    increments_seen = pairs_seen = 0
    for index in np.unique(stage):
        members = stage == index
        increments = np.diff(residuals[members])
        passed_on = -np.cumsum(weights[members])[:-1]
        level += float(increments @ increments)
        lagged += float(increments[:-1] @ increments[1:])
        level_weight += float(passed_on @ passed_on)
        lagged_weight += float(passed_on[:-1] @ passed_on[1:])
        increments_seen += increments.size
        pairs_seen += max(increments.size - 1, 0)
    # The fitted slope takes one degree of freedom from the increments.
    level /= max(increments_seen - 1, 1)
    lagged /= max(pairs_seen, 1)
    # Few increments tell their covariance badly, and too negative a one would make the error
    # vanish: take the upper end of its own standard error, within what the model allows.
    lagged += level / math.sqrt(max(increments_seen, 1))
    lagged = min(max(lagged, -level / 2), 0.0)
    return level_weight * level + 2 * lagged_weight * lagged


def _centred(values: Array, stage: Array) -> Array:
    """The values less the mean of their stage."""
    sums = np.bincount(stage, values)
    centred: Array = values - (sums / np.maximum(np.bincount(stage), 1))[stage]
    return centred


def _power(exponent: float) -> float:
    return math.exp(min(max(exponent, -700.0), 700.0))
