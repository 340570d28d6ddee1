"""How strongly the outputs depend on every call: ‖∂y/∂h‖_F, and the gradient scale coefficient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.measurement import Estimate
from auditor.probe.growth import t_quantile
from auditor.probe.statistics import CallSlots, PassSlots

Array = np.ndarray[Any, Any]
Values = Mapping[str, Array]
#: Runs a pass that pulls these cotangents back from the outputs, and gives its values.
PullBack = Callable[[tuple[Array, ...]], Values]

#: Random cotangents drawn unless told otherwise: each costs a backward pass.
DRAWS = 4


@dataclass(frozen=True, kw_only=True)
class ToOutput:
    """What one call's output means to the model's; the fields are as in `CallMeasurement`."""

    to_output_norm: Estimate
    gsc: float | None


def measure_to_output(
    pull_back: PullBack,
    slots: Callable[[], PassSlots],
    shapes: Sequence[tuple[int, ...]],
    *,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, ToOutput]:
    """Estimate ‖∂y/∂h‖_F for all calls at once, from `draws` passes over one batch.

    Args:
        pull_back: runs the pass on that batch with the cotangents it is given and without the
            loss, in the same state (dropout masks included) each time; returns `PassReduction`'s
            values, not multiplied by any scale.
        slots: their layout, asked for after the first pass.
        shapes: of the outputs with a loss, `(batch, …)` each.
        seed: of the cotangents.
        draws: how many are drawn, two at least.
    """
    passes = ToOutputPasses()
    rng = np.random.default_rng([seed, 0x6F7574])
    for _ in range(draws):
        passes.add(pull_back(tuple(rademacher(rng, shape) for shape in shapes)))
    return {
        call.id: measured
        for call in slots().calls
        if (measured := passes.measurement(call)) is not None
    }


def rademacher(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Independent ±1, single precision: the entries with the least variance for Hutchinson."""
    signs: Array = rng.integers(0, 2, shape).astype(np.float32) * 2 - 1
    return signs


@dataclass(kw_only=True)
class ToOutputPasses:
    """Passes with different random cotangents r at the outputs y, over one batch.

    For J = ∂y/∂h the gradient at h is Jᵀ r, and E‖Jᵀ r‖² = ‖J‖_F² where the entries of r are
    independent of mean 0 and variance 1 (Hutchinson 1990); one pass has it for every h. Where
    calls between couple the samples of a batch, as batch normalization does, J is ∂y/∂h of the
    outputs of all samples for this one's h.
    """

    passes: list[Values] = field(default_factory=list)

    def add(self, values: Values) -> None:
        """Take in one pass."""
        self.passes.append(values)

    def measurement(self, slots: CallSlots) -> ToOutput | None:
        """The estimate for one call; None without a gradient, or without a batch axis."""
        if slots.gradient is None or not slots.per_sample:
            return None
        draws = np.array([values["gradient_norms"][slots.gradient] for values in self.passes])
        norms, error = hutchinson_norms(draws)
        with np.errstate(all="ignore"):
            forward = self.passes[0]["forward_norms"][slots.row].astype(float)
            outputs = self.passes[0]["output_norms"].astype(float)
            coefficients = norms * (forward / outputs) / math.sqrt(slots.values_per_sample)
            gsc = float(np.median(coefficients))
        return ToOutput(
            to_output_norm=Estimate(
                value=float(np.median(norms)),
                low=float(norms.min()),
                high=float(norms.max()),
                error=error,
                method=f"Hutchinson, {len(draws)} random cotangents",
                products=len(draws),
            ),
            gsc=gsc if math.isfinite(gsc) else None,
        )


def hutchinson_norms(draws: Array) -> tuple[Array, float]:
    """‖J‖_F of each sample, and the 95 % error of their median, from ‖Jᵀ r‖.

    Args:
        draws: ‖Jᵀ r‖ `(draws, samples)`, two draws at least.

    The variance of ‖Jᵀ r‖² relative to its mean squared is pooled over the samples, whose own few
    draws tell little of it. Its error is taken as one of the logarithm, on the longer side: few
    draws that are small together give too small a mean, and the truth lies far above it. The
    median over samples is taken to be no better than one of them. At worst, for four draws over a
    single sample whose J has rank one, it holds in 93 % of cases; from two samples on in 95.
    """
    with np.errstate(all="ignore"):
        # In units of the largest, so that no square overflows.
        unit = float(draws.max()) or 1.0
        squares = np.square(draws / unit)
        means = squares.mean(axis=0)
        norms = unit * np.sqrt(means)
        counted = means > 0.0
        relative = squares.var(axis=0, ddof=1)[counted] / np.square(means[counted])
    if not np.isfinite(norms).all():
        return norms, math.nan
    if not counted.any():
        return norms, 0.0
    spread = math.sqrt(float(relative.mean()) / len(draws))
    freedom = relative.size * (len(draws) - 1)
    error = math.expm1(t_quantile(freedom) * spread / 2)
    return norms, float(np.median(norms)) * error
