"""Sharpness: the largest eigenvalue of the Hessian, plain and as the optimizer sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.finding import Bound
from auditor.measurement import Estimate, Sharpness
from auditor.probe.estimators.lanczos import Operator, largest_eigenvalue, norm
from auditor.probe.hessian import ROUNDINGS, HessianProducts, Weights
from auditor.probe.preconditioner import first_divisor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The sharpness, or why there is none."""

    sharpness: Sharpness | None = None
    skipped: str = ""


def measure_curvature(
    products: HessianProducts,
    weights: Weights,
    gradient: Array,
    optimizer: Any,
    *,
    steps: int,
    seed: int,
) -> Curvature:
    """λ₁(H), and λ₁(P⁻¹H) where the optimizer divides by the gradient's size.

    The recursion starts halfway between the direction of the first step and a random one, so
    that no eigenvector is orthogonal to it. P⁻¹H has the eigenvalues of P^-½ H P^-½, which is
    symmetric (Cohen et al. 2022, arXiv:2207.14484, §2). Weights that P is zero for do not
    move, and are left out of that one.

    Args:
        products: with H, where the variables stand.
        weights: the variables that the loss depends on.
        gradient: of the loss for them `(n,)`, as `flat_gradients` gives it.
        optimizer: a fresh optimizer as declared, or None.
        steps: products at most, for each of the two; at least one.
        seed: of the random direction.

    Raises:
        Exception: whatever the framework raises in a product.
    """
    if weights.size == 0:
        return Curvature(skipped="the loss depends on no trainable weight")
    if not np.isfinite(gradient).all():
        return Curvature(skipped="the gradient is not finite")
    rng = np.random.default_rng([seed, 0x4A6E])
    random = rng.standard_normal(weights.size).astype(weights.dtype)
    try:
        largest = _estimate(products, products, None, _start(gradient, random), steps)
    except FloatingPointError:
        return Curvature(skipped="a product with the Hessian is not finite")
    return Curvature(
        sharpness=Sharpness(
            largest=largest,
            preconditioned=_preconditioned(products, weights, gradient, random, optimizer, steps),
        )
    )


def _preconditioned(
    products: HessianProducts,
    weights: Weights,
    gradient: Array,
    random: Array,
    optimizer: Any,
    steps: int,
) -> Estimate | None:
    divisor = first_divisor(optimizer, weights.split(gradient))
    if divisor is None:
        return None
    root = _inverse_roots(divisor, weights)
    start = _start(root * gradient, np.where(root > 0, random, 0).astype(weights.dtype))
    if norm(start) == 0.0:
        return None

    def operator(vector: Array) -> Array:
        # The root may span many orders of magnitude: H is applied to a vector of norm 1.
        moved = root * vector
        length = weights.dtype.type(norm(moved))
        found: Array = root * products(moved / length) * length
        return found

    sure = _rounding_of(weights.split(gradient), divisor, products.rounding)
    try:
        return _estimate(products, operator, root, start, steps, weights.flat(sure))
    except FloatingPointError:
        return None


def _rounding_of(
    gradient: Sequence[Array], divisor: Sequence[Array], rounding: float
) -> list[Array]:
    """|ΔP| / P: a component far below its variable's others is what rounding leaves of them."""
    parts = []
    for part, divided in zip(gradient, divisor, strict=True):
        size = float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) if part.size else 0.0
        relative = np.zeros(part.shape)
        np.divide(ROUNDINGS * rounding * size, divided, out=relative, where=divided > 0)
        parts.append(np.minimum(relative, 1.0))
    return parts


def _estimate(
    products: HessianProducts,
    operator: Operator,
    root: Array | None,
    start: Array,
    steps: int,
    relative: Array | None = None,
) -> Estimate:
    pair = largest_eigenvalue(operator, start, steps=steps)
    doubt, more = products.doubt(pair, root)
    if relative is not None:
        # To first order λ moves by λ Σ y² ΔP / P.
        doubt += abs(pair.value) * float(np.sum(np.square(pair.vector) * relative))
    if not np.isfinite(doubt):
        raise FloatingPointError("a product is not finite")
    error = pair.residual + doubt
    return Estimate(
        value=pair.value,
        low=pair.value - doubt,
        high=pair.value + error,
        error=error,
        method=products.method,
        bound=Bound.LOWER,
        products=pair.products + more,
    )


def _inverse_roots(divisor: Sequence[Array], weights: Weights) -> Array:
    """P^-½ as a vector, 0 where P is."""
    parts = []
    for part in divisor:
        roots = np.zeros_like(part)
        np.divide(1.0, np.sqrt(part), out=roots, where=part > 0)
        parts.append(roots)
    return weights.flat(parts)


def _start(direction: Array, random: Array) -> Array:
    """The sum of both, each at norm 1."""
    start = np.zeros_like(random)
    for part in (direction, random):
        length = norm(part)
        if length > 0.0:
            start += part / part.dtype.type(length)
    return start
