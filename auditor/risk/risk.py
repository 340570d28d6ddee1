"""`Risk`: the probability that training as saved fails, with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Risk:
    """How likely it is that training as saved fails.

    To fail: the loss is not finite, or has hardly fallen after a few hundred steps; `calibration`
    says which outcomes it was calibrated on, and what counted.

    probability: between 0 and 1. low, high: its 95 % interval, from the uncertainty of the
        coefficients. reasons: what speaks for a failure, in sentences, the strongest first.
    """

    probability: float
    low: float
    high: float
    reasons: tuple[str, ...]
    calibration: str
