"""A trial of the declared optimizer: its first steps, and the loss along the first of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from auditor.measurement import RateTrial
from auditor.probe.backends import OptimizerStep
from auditor.probe.optimizers import first_learning_rate
from auditor.probe.state import copied

Array = np.ndarray[Any, Any]

#: How many losses a trial takes, the one at the start included.
TRIAL_LOSSES = 5
#: How many lower rates are tried at most, each a tenth of the one before.
LOWER_RATES = 6
#: Size of the finite difference along the step, against the norm of the weights. A rounding
#: error of 1e-6 in the gradient stays a thousandth of the change over it, while the gradient of
#: a deep net is still close to linear.
RELATIVE_DIFFERENCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The loss of a batch and its gradient for each variable, None where it has none.

    `gradients` are multiplied by `scale`, the factor the optimizer expects on them.
    """

    loss: float
    gradients: Sequence[Any]
    scale: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a trial showed. `steps` holds Δw of the first step for each variable.

    `further` are the losses after `losses`, of steps taken beyond those of every trial, and `long`
    those after these, of steps taken because the model had not learned by then.
    """

    losses: tuple[float, ...]
    further: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    steps: tuple[Array, ...] = ()
    slope: float | None = None
    curvature: float | None = None

    @property
    def all_losses(self) -> tuple[float, ...]:
        """The losses of all steps, in order."""
        return (*self.losses, *self.further, *self.long)


@dataclass(frozen=True, kw_only=True)
class TrialLength:
    """How far a trial goes beyond the steps of every trial.

    `further` steps more; then up to `long` more, until `learned` says so of all losses so far.
    """

    further: int = 0
    long: int = 0
    learned: Callable[[tuple[float, ...]], bool] = lambda _: False


def run_trial(
    optimizer: Any,
    variables: Sequence[Any],
    first: Gradients,
    gradients_at: Callable[[], Gradients],
    *,
    step: OptimizerStep,
    along: bool = True,
    length: TrialLength = TrialLength(),
) -> Trial:
    """Step the variables and put them back.

    `first` are the gradients where the variables stand; `gradients_at` gives those at their
    current values, always of the same batch and with the same dropout masks. `optimizer` must be
    fresh; `step` is how the backend runs it. The curvature dᵀ∇²L d is a central difference of dᵀ∇L
    along d, d the first update over its learning rate; it and the slope are left out unless
    `along`. The losses end with NaN where a step leaves a weight that is not finite.
    """
    start = [copied(variable) for variable in variables]
    usual = TRIAL_LOSSES + length.further
    try:
        rate = first_learning_rate(optimizer)
        losses = [first.loss]
        steps: tuple[Array, ...] = ()
        if not math.isfinite(first.loss):
            return Trial(losses=(first.loss,))
        current = first
        for taken in range(usual - 1 + length.long):
            if taken >= usual - 1 and length.learned(tuple(losses)):
                break
            _apply(step, current.gradients, variables)
            if along and not steps:
                steps = tuple(_differences(variables, start))
            if not _finite_weights(variables):
                # relu(NaN) is 0 on some devices: the loss would look as if nothing were amiss.
                losses.append(math.nan)
                break
            current = gradients_at()
            losses.append(current.loss)
            if not math.isfinite(current.loss):
                break
        slope, curvature = (
            _along(steps, rate, start, variables, first, gradients_at) if along else (None, None)
        )
    finally:
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
    return Trial(
        losses=tuple(losses[:TRIAL_LOSSES]),
        further=tuple(losses[TRIAL_LOSSES:usual]),
        long=tuple(losses[usual:]),
        steps=steps,
        slope=slope,
        curvature=curvature,
    )


def lower_rates(rate: float, run_at: Callable[[float], tuple[float, ...]]) -> tuple[RateTrial, ...]:
    """Trials at a tenth of the rate, a hundredth, …, until the loss falls; `run_at` runs one."""
    trials: list[RateTrial] = []
    for exponent in range(1, LOWER_RATES + 1):
        lower = rate / 10.0**exponent
        trials.append(RateTrial(rate=lower, losses=run_at(lower)))
        if trials[-1].falls:
            break
    return tuple(trials)


def _along(
    steps: tuple[Array, ...],
    rate: float,
    start: Sequence[Array],
    variables: Sequence[Any],
    first: Gradients,
    gradients_at: Callable[[], Gradients],
) -> tuple[float | None, float | None]:
    """dᵀ∇L and dᵀ∇²L d at the start; None where the step is nothing or not finite."""
    length = _norm(steps)
    if not (math.isfinite(length) and length > 0.0 and math.isfinite(rate) and rate > 0.0):
        return None, None
    direction = [step / rate for step in steps]
    slope = _dot(direction, first)
    difference = RELATIVE_DIFFERENCE * max(_norm(start), 1e-3) / _norm(direction)
    slopes = []
    for sign in (1.0, -1.0):
        for variable, value, d in zip(variables, start, direction, strict=True):
            moved = value.astype(np.float64) + sign * difference * d
            variable.assign(moved.astype(value.dtype))
        slopes.append(_dot(direction, gradients_at()))
    curvature = (slopes[0] - slopes[1]) / (2 * difference)
    return _finite(slope), _finite(curvature)


def _apply(step: OptimizerStep, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """One step. What the loss does not depend on stays out of it, as in Keras' own training."""
    pairs = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
    step([gradient for gradient, _ in pairs], [variable for _, variable in pairs])


def _finite_weights(variables: Sequence[Any]) -> bool:
    return all(bool(np.isfinite(copied(variable)).all()) for variable in variables)


def _differences(variables: Sequence[Any], start: Sequence[Array]) -> list[Array]:
    return [
        (copied(variable).astype(np.float64) - value.astype(np.float64)).astype(np.float32)
        for variable, value in zip(variables, start, strict=True)
    ]


def _dot(direction: Sequence[Array], at: Gradients) -> float:
    """Dot product of `direction` and ∂L/∂w, summed in double precision."""
    products = (
        np.vdot(d.astype(np.float64), _numbers(gradient))
        for d, gradient in zip(direction, at.gradients, strict=True)
        if gradient is not None
    )
    return float(sum(products)) / at.scale


def _numbers(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor)).astype(np.float64)


def _norm(arrays: Sequence[Array]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
