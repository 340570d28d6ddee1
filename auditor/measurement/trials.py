"""Trials: the losses of one batch over a few steps of training, and what they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: A trial that takes more than this share off the loss (`learned_share`) learns.
LEARNS = 0.3


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """The loss of one batch before each of a few steps at a rate that is not the declared one."""

    rate: float
    losses: tuple[float, ...]

    @property
    def falls(self) -> bool:
        """Whether the loss stays at or below its start, and ends below it."""
        return falls(self.losses)


@dataclass(frozen=True, kw_only=True)
class RescaledTrial:
    """The declared trial again, of kernels whose outputs have unit variance each.

    Kernels and their biases are divided by the standard deviation of what they compute on the
    trial's batch, one after the other (LSUV: Mishkin & Matas 2016, "All you need is a good init",
    without its orthogonal start); the head is left as it is.

    decades: log₁₀ of all that the signal was multiplied by, over all kernels: above 0 where it
        shrinks on its way, below where it grows.
    kernels: how many were rescaled.
    losses: of the trial's batch before each step, of as many steps as the declared trial took or
        until it learns.
    """

    decades: float
    kernels: int
    losses: tuple[float, ...]

    def learns(self, constant: float | None) -> bool:
        """Whether it does what the declared trial did not."""
        return learns(self.losses, constant)


def learns(losses: tuple[float, ...], constant: float | None) -> bool:
    """Whether a trial takes more than LEARNS off the loss."""
    share = learned_share(losses, constant)
    return share is not None and share > LEARNS


def falls(losses: tuple[float, ...]) -> bool:
    """Whether a trial's losses are finite, stay at or below the first, and end below it."""
    return (
        len(losses) > 1
        and all(map(math.isfinite, losses))
        and max(losses) <= losses[0]
        and losses[-1] < losses[0]
    )


def least_loss(losses: tuple[float, ...]) -> float:
    """The least of a trial's losses; the one that was lost, where one was."""
    return min(losses) if all(map(math.isfinite, losses)) else losses[-1]


def learned_share(losses: tuple[float, ...], constant: float | None) -> float | None:
    """The share of the best constant answer's loss that a trial takes off, from 0 to 1.

    Or, if larger, the share of its own loss that its second half does: answers that do not depend
    on the sample stop at the best constant one's. None where a loss is not finite, or `constant`
    is unknown.
    """
    if len(losses) < 2 or not all(map(math.isfinite, losses)) or not constant:
        return None
    middle, *late = losses[len(losses) // 2 :]
    fall = (middle - min(late)) / middle if late and middle > 0 else 0.0
    return max(1 - min(losses) / constant, fall, 0.0)
