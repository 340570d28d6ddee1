"""A random signal and gradient on their way through a network, in mean-field terms.

Notation of Poole et al. 2016 and Schoenholz et al. 2017. Going forward, a signal is described by
three numbers (`Signal`) rather than the usual q, because batch normalization divides by what
differs between samples alone. Going backward, the squared norm of the gradient is carried in two
parts, `random` and `coherent` (along the vector of ones), because a kernel whose mean is not zero
blows up the second part only. A call acts on them by a 2×2 matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.graph.activations import ActivationMoments, Curve

#: Acts on the (random, coherent) parts of ‖∂L/∂h‖²: column from the output's, row to the input's.
Backward = NDArray[np.float64]
THROUGH: Backward = np.eye(2)
#: Variances outside this range are beyond what double precision can square again.
TINY, HUGE = 1e-140, 1e140


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A Gaussian pre-activation and the curve it went through."""

    phi: Curve
    mean: float
    between: float
    within: float


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A random unit's value over samples and positions.

    mean: over everything. between: variance of the units' own means. within: variance of a unit
    over samples and positions. drawn: the activation that gave the signal, where nothing has
    changed it since: the largest of several values depends on more than their moments.
    """

    mean: float
    between: float
    within: float
    drawn: Drawn | None = None

    @property
    def mean_square(self) -> float:
        """q: the mean of the squared value."""
        return self.mean**2 + self.variance

    @property
    def variance(self) -> float:
        """Variance over units, samples and positions together."""
        return self.between + self.within

    @property
    def usable(self) -> bool:
        """Whether the numbers can be computed with any further."""
        if not math.isfinite(self.mean) or abs(self.mean) > math.sqrt(HUGE):
            return False
        return self.variance == 0 or TINY < self.variance < HUGE


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A covered call: its output signal, and its action on the gradient for each input."""

    signal: Signal
    inputs: tuple[Backward, ...]


STANDARD = Signal(mean=0.0, between=0.0, within=1.0)


def after_activation(moments: ActivationMoments, drawn: Drawn | None) -> Signal:
    """The signal that an activation with these moments gives."""
    return Signal(
        mean=moments.mean,
        between=max(moments.common - moments.mean**2, 0.0),
        within=max(moments.second - moments.common, 0.0),
        drawn=drawn,
    )
