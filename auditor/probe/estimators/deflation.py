"""Taking the span of the left vectors of a bidiagonalisation out of random draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Tensor
from auditor.probe.blocks import Block, Linearizer, Vector, by_block, numbers

Array = np.ndarray[Any, Any]
#: Left vectors count as orthonormal while no product of two is farther from that, or from what
#: the block's own rounding makes of it.
ORTHONORMAL = 1e-4
ROUNDINGS = 8.0


class Deflation:
    """I − U Uᵀ for the leading left vectors of each row that are orthonormal.

    The plain recursion loses orthogonality once a singular value is found (Paige 1971); the
    vectors up to there span what is worth taking out.
    """

    def __init__(
        self, linearizer: Linearizer, blocks: Sequence[Block], left: Sequence[Vector]
    ) -> None:
        self._blocks = tuple(blocks)
        self._left = list(left)
        self._rest = linearizer.compiled(self._projected)
        grams = numbers(linearizer.compiled(self._grams)(self._left))
        #: Whether a left vector is taken out, `(rows, steps)` for each block.
        self.taken = [
            _orthonormal(gram, max(ORTHONORMAL, ROUNDINGS * block.epsilon))
            for block, gram in zip(blocks, by_block(blocks, grams), strict=True)
        ]

    def rest(self, u: Vector) -> Vector:
        """(I − U Uᵀ) u of every row."""
        taken = [
            kept.astype(block.precision)
            for block, kept in zip(self._blocks, self.taken, strict=True)
        ]
        made: Vector = self._rest(u, self._left, taken)
        return made

    def _projected(self, u: Vector, left: list[Vector], taken: list[Tensor]) -> Vector:
        made: Vector = []
        for index, (block, parts) in enumerate(zip(self._blocks, u, strict=True)):
            rest = tuple(keras.ops.cast(part, block.precision) for part in parts)
            for step, vectors in enumerate(left):
                known = vectors[index]
                share = block.products(known, rest) * taken[index][:, step]
                rest = tuple(
                    part - along
                    for part, along in zip(rest, block.scaled(share, known), strict=True)
                )
            made.append(rest)
        return made

    def _grams(self, left: list[Vector]) -> Tensor:
        """Uᵀ U of all rows of all blocks, `(rows, steps, steps)`."""
        made = []
        for index, block in enumerate(self._blocks):
            flat = [keras.ops.concatenate(block.flat(vectors[index]), axis=1) for vectors in left]
            stacked = keras.ops.stack(flat, axis=1)
            gram = keras.ops.matmul(stacked, keras.ops.transpose(stacked, (0, 2, 1)))
            made.append(keras.ops.cast(gram, max(b.precision for b in self._blocks)))
        return keras.ops.concatenate(made)


def _orthonormal(grams: Array, tolerance: float) -> Array:
    """Whether a vector and all before it are orthonormal, `(rows, steps)`."""
    steps = grams.shape[-1]
    off = np.abs(grams - np.eye(steps))
    worst = np.array([off[:, : k + 1, : k + 1].max(axis=(1, 2)) for k in range(steps)]).T
    return np.asarray(worst <= tolerance)
