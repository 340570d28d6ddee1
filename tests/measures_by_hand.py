"""Measures of calls made by hand, for the reports to show."""

from __future__ import annotations

import math

from auditor.finding import Bound
from auditor.measurement import (
    AttentionMeasurement,
    BlockProfile,
    Distribution,
    Estimate,
    JacobianMeasurement,
    Sharpness,
    TimeGrowth,
)


def estimate(
    value: float,
    error: float = 0.0,
    *,
    method: str = "exact, diagonal Jacobian",
    bound: Bound = Bound.NONE,
    products: int = 1,
    spread: float = 0.05,
) -> Estimate:
    return Estimate(
        value=value,
        low=value * (1 - spread),
        high=value * (1 + spread),
        error=error,
        method=method,
        bound=bound,
        products=products,
    )


def jacobian(
    gain: float, inputs: int = 256, outputs: int = 256, *, peak: float | None = None
) -> JacobianMeasurement:
    """A call of this backward gain; `peak` is σ₁, by recursion, or else that of equal values."""
    frobenius = gain * math.sqrt(inputs)
    if peak is None:
        spectral = estimate(frobenius / math.sqrt(min(inputs, outputs)))
        whole = estimate(frobenius)
    else:
        spectral = estimate(
            peak, 0.013 * peak, method="Golub–Kahan, 8 steps", bound=Bound.LOWER, products=16
        )
        whole = estimate(
            frobenius, 0.06 * frobenius, method="Hutchinson, 8 draws of signs", products=8
        )
    return JacobianMeasurement(
        spectral_norm=spectral,
        frobenius_norm=whole,
        inputs=inputs,
        outputs=outputs,
        samples=16,
        couples_samples=False,
    )


def distribution(value: float, count: int = 8) -> Distribution:
    return Distribution(
        mean=1.02 * value,
        p10=0.8 * value,
        p50=value,
        p90=1.1 * value,
        max=1.3 * value,
        count=count,
    )


def time_growth(value: float, error: float, length: int, steps: int | None = None) -> TimeGrowth:
    return TimeGrowth(
        growth=estimate(value, error, method="regression over a random cotangent", products=16),
        steps=length if steps is None else steps,
        length=length,
    )


def attention(logits: float, entropy: float, keys: int) -> AttentionMeasurement:
    return AttentionMeasurement(
        logit_scale=distribution(logits), entropy=distribution(entropy), keys=keys
    )


def sharpness(largest: float, preconditioned: float | None) -> Sharpness:
    method = "Lanczos on Hessian-vector products"

    def eigenvalue(value: float) -> Estimate:
        return Estimate(
            value=value,
            low=value * 0.999,
            high=value * 1.02,
            error=value * 0.02,
            method=method,
            bound=Bound.LOWER,
            products=20,
        )

    return Sharpness(
        largest=eigenvalue(largest),
        preconditioned=None if preconditioned is None else eigenvalue(preconditioned),
    )


def noise_scale(value: float, low: float, high: float) -> Estimate:
    return Estimate(
        value=value,
        low=low,
        high=high,
        error=max(value - low, high - value),
        method="moments of the gradients of 3 batches",
    )


def block(call: str, branch: str | None, variance: float, own: float | None) -> BlockProfile:
    return BlockProfile(
        call=call,
        branch=branch,
        squared_mean=0.2 * variance,
        variance=variance,
        branch_variance=own,
    )


def no_numbers(value: float) -> dict[str, object]:
    """Every measure of a call that holds estimates, each with `value` in all of its places."""
    nothing = Estimate(value=value, low=value, high=value, error=value, method="\x1b[31m<b>")
    over = Distribution(mean=value, p10=value, p50=value, p90=value, max=value, count=1)
    return {
        "gsc": value,
        "saturated_share": value,
        "saturation": over,
        "to_output_norm": nothing,
        "jacobian": JacobianMeasurement(
            spectral_norm=nothing, frobenius_norm=nothing, inputs=8, outputs=8, samples=1
        ),
        "time": TimeGrowth(growth=nothing, steps=1, length=10**9),
        "attention": AttentionMeasurement(logit_scale=over, entropy=over, keys=0),
    }
