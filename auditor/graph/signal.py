"""A random signal and gradient on their way through a network, in mean-field terms.

Notation of Poole et al. 2016 and Schoenholz et al. 2017. Going forward, a signal is described by
four numbers (`Signal`) rather than the usual q, because batch normalization divides by what
differs between samples alone, and an average over positions keeps what they have in common. Going
backward, the squared norm of the gradient is carried in three parts: `random`; `coherent` (along
the vector of ones over units), because a kernel whose mean is not zero blows up that part only;
and `common` (the same at all positions of a sample), because attention and recurrence pass that
part on whole, where they average what is random. A call acts on them by a 3×3 matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.graph.activations import ActivationMoments, Pointwise

#: Acts on the (random, coherent, common) parts of ‖∂L/∂h‖²: column from the output's, row to the
#: input's.
Backward = NDArray[np.float64]
THROUGH: Backward = np.eye(3)
NO_WAY: Backward = np.zeros((3, 3))
#: Variances outside this range are beyond what double precision can square again.
TINY, HUGE = 1e-140, 1e140


def backward(
    random: float, coherent: float | None = None, common: float | None = None, *, raised: float = 0
) -> Backward:
    """A call whose factors on the parts of the gradient's power are these.

    `random` is the factor on the whole power of any gradient; of it, `coherent` of what is
    coherent stays so, `common` of what is common, and the rest of either becomes random. Both are
    `random` by default. `raised` of a random or common gradient's power becomes coherent besides.
    """
    straight = random if coherent is None else coherent
    level = random if common is None else common
    return np.array(
        [
            [random, max(random - straight, 0.0), max(random - level, 0.0)],
            [raised, straight, raised],
            [0.0, 0.0, level],
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A Gaussian pre-activation and the curve it went through.

    origin: id of the call that gave the pre-activation; two signals of one origin are functions
    of the same value.
    """

    phi: Pointwise
    mean: float
    between: float
    within: float
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A random unit's value over samples and positions.

    mean: over everything. between: variance of the units' own means. within: variance of a unit
    over samples and positions. shared: the part of `within` that the positions of a sample have
    in common. drawn: the activation that gave the signal, where nothing has changed it since: the
    largest of several values depends on more than their moments.
    """

    mean: float
    between: float
    within: float
    shared: float = 0.0
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
    def positional(self) -> float:
        """Variance of a unit over the positions of one sample."""
        return max(self.within - self.shared, 0.0)

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


def after_activation(
    moments: ActivationMoments, drawn: Drawn | None, common: float | None = None
) -> Signal:
    """The signal that an activation with these moments gives.

    `common` is the second moment that the positions of a sample have in common, units included;
    that of samples by default.
    """
    level = moments.common if common is None else common
    return Signal(
        mean=moments.mean,
        between=max(moments.common - moments.mean**2, 0.0),
        within=max(moments.second - moments.common, 0.0),
        shared=min(max(level - moments.common, 0.0), max(moments.second - moments.common, 0.0)),
        drawn=drawn,
    )
