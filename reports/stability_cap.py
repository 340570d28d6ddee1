"""The largest learning rate that the measured curvature is compatible with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.graph.compile_settings import OptimizerSettings
from auditor.measurement import Sharpness

#: Optimizers that average gradients with β₁ before they divide: the update is an exponential mean.
AVERAGING = frozenset({"adam", "adamw", "adamax", "nadam"})
#: Keras' own default of β₁, where a file does not say.
BETA_1 = 0.9


@dataclass(frozen=True, kw_only=True)
class StabilityCap:
    """η below `value` or a step along the sharpest direction overshoots ever further.

    formula: how it comes from the eigenvalue, which `eigenvalue` names.
    preconditioned: whether it is the eigenvalue that the optimizer sees.
    """

    value: float
    formula: str
    preconditioned: bool


def stability_cap(sharpness: Sharpness, optimizer: OptimizerSettings | None) -> StabilityCap | None:
    """The cap for the declared optimizer, or for plain gradient descent where none is declared.

    None where the eigenvalue that counts is not positive, or is not the one that the optimizer
    sees: one that divides by the gradient's size, or takes its sign, does not descend along H.

    On a quadratic of curvature λ, gradient descent is stable for η < 2/λ, heavy ball for
    (2 + 2β)/λ, Nesterov's for (2 + 2β)/((1 + 2β)λ) (Cohen et al. 2021, arXiv:2103.00065); an
    optimizer that divides by P sees λ₁(P⁻¹H), and one that averages gradients with β₁ is stable
    for (2 + 2β₁)/((1 − β₁)λ), 38/λ at 0.9 (Cohen et al. 2022, arXiv:2207.14484).
    """
    name = optimizer.name.lower() if optimizer is not None else ""
    seen = sharpness.preconditioned
    eigenvalue = (sharpness.largest if seen is None else seen).value
    if not math.isfinite(eigenvalue) or eigenvalue <= 0:
        return None
    if seen is None and name not in ("", "sgd"):
        return None
    beta = (optimizer.number("momentum") or 0.0) if optimizer is not None else 0.0
    factor, formula = 2.0, "2/λ₁"
    if seen is not None and optimizer is not None and name in AVERAGING:
        found = optimizer.number("beta_1")
        beta = BETA_1 if found is None else found
        if not 0 <= beta < 1:
            return None
        factor, formula = (2 + 2 * beta) / (1 - beta), "(2 + 2β₁)/((1 − β₁)λ₁)"
    elif name in ("sgd", "rmsprop") and beta > 0:
        if optimizer is not None and optimizer.config.get("nesterov"):
            factor, formula = (2 + 2 * beta) / (1 + 2 * beta), "(2 + 2β)/((1 + 2β)λ₁)"
        else:
            factor, formula = 2 + 2 * beta, "(2 + 2β)/λ₁"
    return StabilityCap(value=factor / eigenvalue, formula=formula, preconditioned=seen is not None)
