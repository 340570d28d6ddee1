"""Golub–Kahan bidiagonalisation of all blocks at once, for each one's largest singular value.

The plain recursion, without reorthogonalisation: it keeps two vectors a block whatever the number
of steps, and what rounding costs it are copies of singular values found already, which leave the
largest one where it is (Golub & Van Loan 2013, section 10.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Share, Shares, Tensor
from auditor.probe.blocks import Block, Linearizer, Vector, by_block, primals_of

Array = np.ndarray[Any, Any]
#: Told of each step before it begins: its number from 1, and how many there are.
OnStep = Callable[[int, int], None]
Step = Callable[[Sequence[Sequence[Any]]], Shares]
#: ⟨Jᵀ u, v⟩ and ⟨u, J v⟩ differ by so much of ‖Jᵀ u‖ or by so many of the block's roundings.
ADJOINT = 1e-3
ROUNDINGS = 8.0
#: What a subtraction leaves of a product below so many roundings of it is nothing.
BREAKDOWN = 64.0


@dataclass(frozen=True, kw_only=True)
class RitzValues:
    """The largest Ritz value of every row of a block, a lower bound on its σ₁.

    values `(rows,)`; residuals `(rows,)`: ‖Jᵀ(U p) − σ (V q)‖, so that a singular value lies that
    near to the value; row_squares `(rows, steps)`: ‖Jᵀ u_j‖² of each left vector; steps: how many
    were run, of two products each.
    """

    values: Array
    residuals: Array
    row_squares: Array
    steps: int


class NotAdjoint(Exception):
    """Products with J and with Jᵀ are not of one matrix."""

    def __init__(self) -> None:
        super().__init__(
            "J v and Jᵀ u do not belong together: the gradient that is propagated is not that of "
            "what the call computes, or the call draws numbers that no seed of its own decides"
        )


class Bidiagonalisation:
    """The recursion for a list of blocks.

    Upper bidiagonal: J v₁ = α₁ u₁, then Jᵀ u_j = α_j v_j + β_j v_{j+1} and
    J v_{j+1} = β_j u_j + α_{j+1} u_{j+1}. Rows of all blocks advance together.
    """

    def __init__(self, linearizer: Linearizer, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        self._primals = primals_of(blocks)
        #: Blocks without a derivative, by id, with what the framework said. They count as zero.
        self.failed: dict[str, Exception] = {}
        #: The left vectors u_j that were kept, on the host.
        self.left: list[list[tuple[Array, ...]]] = []
        backend = linearizer.backend
        self._push = linearizer.each([self._step(b, partial(b.push, backend)) for b in blocks])
        self._pull = linearizer.each([self._step(b, partial(b.pull, backend)) for b in blocks])

    def run(
        self, start: Vector, steps: int, on_step: OnStep, *, keep_left: bool = False
    ) -> list[RitzValues]:
        """Ritz values of every block after so many steps from `start`, of any length.

        `keep_left` keeps the left vectors u_j for `Deflation`, which is so many more vectors.
        """
        rows = sum(block.rows for block in self._blocks)
        alphas, betas = np.zeros((steps, rows)), np.zeros((steps, rows))
        v = _unit(self._blocks, start)
        u = _single(self._blocks, [block.draw_outputs(np.zeros) for block in self._blocks])
        beta = np.zeros(rows)
        for step in range(steps):
            on_step(step + 1, steps)
            u, alphas[step], _ = self._product(self._push, v, u, beta)
            if keep_left:
                self.left.append([tuple(map(_on_host, parts)) for parts in u])
            v, beta, shares = self._product(self._pull, u, v, alphas[step])
            betas[step] = beta
            if not step:
                self._check_adjoint(alphas[0], beta, shares)
        return [
            _ritz(a, b)
            for a, b in zip(
                by_block(self._blocks, alphas.T), by_block(self._blocks, betas.T), strict=True
            )
        ]

    def pulled_norms(self, u: Vector) -> list[Array]:
        """‖Jᵀ u‖ of every row of each block, u of unit length at most."""
        nothing: Vector = [block.draw_inputs(np.zeros) for block in self._blocks]
        zeros = np.zeros(sum(block.rows for block in self._blocks))
        _, norms, _ = self._product(
            self._pull, _single(self._blocks, u), _single(self._blocks, nothing), zeros
        )
        return by_block(self._blocks, norms)

    def _product(
        self, step: Step, x: Vector, previous: Vector, factors: Array
    ) -> tuple[Vector, Array, Array]:
        """One step of every block: what `_step` gives, numbers of all rows end to end."""
        vectors, figures = step(
            list(zip(self._primals, x, previous, self._factors(factors), strict=True))
        )
        norms, shares = zip(*(np.split(found, 2) for found in figures), strict=True)
        return vectors, np.concatenate(norms), np.concatenate(shares)

    def _check_adjoint(self, alphas: Array, betas: Array, shares: Array) -> None:
        """That ⟨Jᵀ u₁, v₁⟩, the `shares`, is ⟨u₁, J v₁⟩ = α₁; `(rows,)` of all blocks each.

        Frameworks have gradients that are not those of what they compute, and derivatives of
        gradients that are missing without a word.
        """
        off = np.abs(shares - alphas)
        within = np.hypot(alphas, betas)
        for block, gap, size in zip(
            self._blocks, by_block(self._blocks, off), by_block(self._blocks, within), strict=True
        ):
            tolerance = max(ADJOINT, ROUNDINGS * block.epsilon)
            if np.any(np.isfinite(gap) & (gap > tolerance * size)):
                # What was said before, of a derivative that is missing, stays.
                self.failed.setdefault(block.id, NotAdjoint())

    def _step(
        self,
        block: Block,
        product: Callable[[tuple[Tensor, ...], Sequence[Tensor]], tuple[Tensor, ...]],
    ) -> Callable[..., Share]:
        """x, previous, factors → A x − factors · previous, normalised, and figures `(2 · rows,)`.

        The figures are the norms before, then ⟨A x, previous⟩.
        """

        def step(
            primals: tuple[Tensor, ...],
            x: Sequence[Tensor],
            previous: Sequence[Tensor],
            factors: Tensor,
        ) -> Share:
            try:
                product_of_x = product(primals, x)
            except Exception as error:  # whatever a framework says where it has no derivative
                self.failed[block.id] = error
                return tuple(previous), keras.ops.zeros((2 * block.rows,), block.precision)
            before = block.norms(product_of_x)
            share = block.products(product_of_x, previous)
            rest = tuple(
                part - known
                for part, known in zip(product_of_x, block.scaled(factors, previous), strict=True)
            )
            norm = block.norms(rest)
            nothing = keras.ops.maximum(BREAKDOWN * block.epsilon * (before + factors), block.tiny)
            gone = norm <= nothing
            norm = keras.ops.where(gone, keras.ops.zeros_like(norm), norm)
            inverse = keras.ops.where(gone, norm, 1.0 / keras.ops.where(gone, norm + 1.0, norm))
            return block.scaled(inverse, rest), keras.ops.concatenate([norm, share])

        return step

    def _factors(self, values: Array) -> list[Array]:
        return [
            part.astype(block.precision)
            for block, part in zip(self._blocks, by_block(self._blocks, values), strict=True)
        ]


def _on_host(tensor: Tensor) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _ritz(alphas: Array, betas: Array) -> RitzValues:
    """From the coefficients `(rows, steps)` of one block."""
    rows, steps = alphas.shape
    finite = np.asarray(np.isfinite(alphas).all(axis=1) & np.isfinite(betas).all(axis=1))
    bidiagonal = np.zeros((rows, steps, steps))
    index = np.arange(steps)
    bidiagonal[:, index, index] = alphas
    bidiagonal[:, index[:-1], index[1:]] = betas[:, :-1]
    left, values, _ = np.linalg.svd(np.where(finite[:, None, None], bidiagonal, 0.0))
    residuals = betas[:, -1] * np.abs(left[:, -1, 0])
    return RitzValues(
        values=np.where(finite, values[:, 0], np.nan),
        residuals=np.where(finite, residuals, np.nan),
        row_squares=alphas**2 + betas**2,
        steps=steps,
    )


def _single(blocks: Sequence[Block], vector: Vector) -> Vector:
    """Arrays that were drawn in double precision, in their blocks' own."""
    return [
        tuple(
            part.astype(block.precision, copy=False) if isinstance(part, np.ndarray) else part
            for part in parts
        )
        for block, parts in zip(blocks, vector, strict=True)
    ]


def _unit(blocks: Sequence[Block], vector: Vector) -> Vector:
    """Each row of a drawn vector at length one."""
    made: Vector = []
    for block, parts in zip(blocks, vector, strict=True):
        flat = [np.asarray(part).reshape(block.rows, -1) for part in parts]
        norms = np.sqrt(sum(np.square(part, dtype=np.float64).sum(axis=1) for part in flat))
        made.append(
            tuple(
                (rows / norms[:, None]).astype(block.precision).reshape(part.shape)
                for rows, part in zip(flat, parts, strict=True)
            )
        )
    return made
