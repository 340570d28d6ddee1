"""The largest eigenvalue of a symmetric operator, by Lanczos (1950)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: v ↦ A v on flat vectors `(n,)` of one floating dtype; A is symmetric.
Operator = Callable[[Array], Array]

#: Share of a Ritz value within which its residual counts as nothing more to gain.
TOLERANCE = 1e-2
#: Memory of the vectors kept, in bytes. Beyond it the recursion restarts at its best vector.
BASIS_BYTES = 2**29
#: Vectors kept at least: fewer than three make of each restart a step of steepest ascent.
LEAST_KEPT = 3
#: Numbers summed in double precision at a time.
BLOCK = 2**20


@dataclass(frozen=True, kw_only=True)
class RitzPair:
    """An approximate eigenpair of A.

    value: θ = yᵀAy, which cannot exceed the largest eigenvalue.
    residual: ‖Ay − θy‖: some eigenvalue lies that near θ (Parlett 1998, theorem 4.5.1).
    vector, image: y `(n,)`, ‖y‖ = 1, and Ay as the recursion has it, without another product.
    products: with A that it took. converged: residual ≤ `TOLERANCE` |θ|, or nothing is left.
    """

    value: float
    residual: float
    vector: Array
    image: Array
    products: int
    converged: bool


def largest_eigenvalue(
    operator: Operator, start: Array, *, steps: int, basis_bytes: int = BASIS_BYTES
) -> RitzPair:
    """The algebraically largest Ritz pair of A after at most `steps` products.

    The smallest eigenvalue is minus the largest of −A. Every new vector is made orthogonal to
    all that are kept, twice: with a handful of steps that costs less than a product, and keeps
    copies of converged values out. Where `steps` vectors do not fit into `basis_bytes`, the
    recursion starts again at its Ritz vector whenever they are full; θ never falls by that, but
    it comes nearer more slowly.

    Args:
        operator: A. It is called with a vector that it must not change.
        start: a vector `(n,)` of a floating dtype, which all vectors then have. An eigenvector
            orthogonal to it is never found: give it a random part.
        steps: products at most, at least one.
        basis_bytes: bound on the memory of the vectors kept.

    Raises:
        FloatingPointError: the start, or a product, is not finite.
        ValueError: the start is zero, or `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be positive, not {steps}")
    length = norm(start)
    if not math.isfinite(length):
        raise FloatingPointError("the start vector is not finite")
    if length == 0.0:
        raise ValueError("the start vector is zero")
    kept = max(LEAST_KEPT, basis_bytes // max(start.nbytes, 1))
    basis = _Basis(start / start.dtype.type(length))
    for products in range(1, steps + 1):
        if len(basis.vectors) > kept:
            basis = _Basis(basis.best_vector())
        value, residual = basis.extend(operator)
        converged = residual <= TOLERANCE * abs(value) or basis.exhausted
        if converged or products == steps:
            break
    return basis.best(products, converged)


class _Basis:
    """Lanczos vectors from one start, and the tridiagonal matrix T = QᵀAQ.

    The last of `vectors` has not been multiplied yet.
    """

    def __init__(self, start: Array) -> None:
        self.vectors = [start]
        self._diagonal: list[float] = []
        self._off: list[float] = []
        self._value = self._residual = 0.0
        self._weights = np.ones(1)
        self.exhausted = False

    def extend(self, operator: Operator) -> tuple[float, float]:
        """One product; the largest Ritz value and its residual |β s|, s its vector's last entry."""
        last = self.vectors[-1]
        image = np.array(operator(last), dtype=last.dtype)
        size = norm(image)
        if not math.isfinite(size):
            raise FloatingPointError("a product is not finite")
        self._diagonal.append(dot(last, image))
        for _ in range(2):
            for vector in self.vectors:
                image -= image.dtype.type(dot(vector, image)) * vector
        beta = norm(image)
        # What rounding leaves of a vector inside the span has no direction worth following.
        rounding = 8 * float(np.finfo(image.dtype).eps) * size
        self.exhausted = beta <= rounding or len(self.vectors) == image.size
        self._off.append(0.0 if self.exhausted else beta)
        if not self.exhausted:
            image /= image.dtype.type(beta)
        self.vectors.append(image)
        matrix = np.diag(self._diagonal)
        matrix += np.diag(self._off[:-1], 1) + np.diag(self._off[:-1], -1)
        values, vectors = np.linalg.eigh(matrix)
        self._value, self._weights = float(values[-1]), vectors[:, -1]
        self._residual = self._off[-1] * abs(float(self._weights[-1]))
        return self._value, self._residual

    def best_vector(self) -> Array:
        """The Ritz vector, of norm 1."""
        vector = np.zeros_like(self.vectors[0])
        for weight, kept in zip(self._weights, self.vectors[:-1], strict=True):
            vector += vector.dtype.type(weight) * kept
        vector /= vector.dtype.type(norm(vector))
        return vector

    def best(self, products: int, converged: bool) -> RitzPair:
        """The Ritz pair; A y = θ y + β s q, q the vector that would have come next."""
        vector = self.best_vector()
        image = vector.dtype.type(self._value) * vector
        image += vector.dtype.type(self._off[-1] * self._weights[-1]) * self.vectors[-1]
        return RitzPair(
            value=self._value,
            residual=self._residual,
            vector=vector,
            image=image,
            products=products,
            converged=converged,
        )


def dot(left: Array, right: Array) -> float:
    """⟨left, right⟩ of flat vectors, summed in double precision block by block."""
    total = 0.0
    for begin in range(0, left.size, BLOCK):
        block = slice(begin, begin + BLOCK)
        total += float(np.dot(left[block].astype(np.float64), right[block].astype(np.float64)))
    return total


def norm(vector: Array) -> float:
    """‖vector‖₂ of a flat vector, summed in double precision; NaN or inf where it holds such."""
    return math.sqrt(dot(vector, vector))
