"""Taking the span of the left vectors of a bidiagonalisation out of random draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from auditor.probe.blocks import Block

Array = np.ndarray[Any, Any]
#: Left vectors count as orthonormal while no product of two is farther from that, or from what
#: the block's own rounding makes of it.
ORTHONORMAL = 1e-4
ROUNDINGS = 8.0


class Deflation:
    """I − U Uᵀ for the leading left vectors of each row that are orthonormal.

    The plain recursion loses orthogonality once a singular value is found (Paige 1971); the
    vectors up to there span what is worth taking out. On the host, where the draws are made: a
    compiled form of it takes longer to trace than all else.
    """

    def __init__(
        self, blocks: Sequence[Block], left: Sequence[Sequence[tuple[Array, ...]]]
    ) -> None:
        self._blocks = tuple(blocks)
        #: For each block `(rows, steps, n_out)`.
        self._left = [
            np.stack([_flat(block, vectors[index]) for vectors in left], axis=1)
            for index, block in enumerate(blocks)
        ]
        #: Whether a left vector is taken out, `(rows, steps)` for each block.
        self.taken = [
            _orthonormal(
                (known @ known.transpose(0, 2, 1)).astype(np.float64),
                max(ORTHONORMAL, ROUNDINGS * block.epsilon),
            )
            for block, known in zip(blocks, self._left, strict=True)
        ]

    def rest(self, u: Sequence[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
        """(I − U Uᵀ) u of every row."""
        made = []
        for block, parts, known, taken in zip(self._blocks, u, self._left, self.taken, strict=True):
            flat = _flat(block, parts).astype(known.dtype)
            shares = (known @ flat[:, :, None])[:, :, 0] * taken
            rest = flat - (shares[:, None, :].astype(known.dtype) @ known)[:, 0]
            made.append(_shaped(rest, parts))
        return made


def _flat(block: Block, parts: Sequence[Array]) -> Array:
    return np.concatenate([np.reshape(part, (block.rows, -1)) for part in parts], axis=1)


def _shaped(flat: Array, parts: Sequence[Array]) -> tuple[Array, ...]:
    sizes = [part.size // len(flat) for part in parts]
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return tuple(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))


def _orthonormal(grams: Array, tolerance: float) -> Array:
    """Whether a vector and all before it are orthonormal, `(rows, steps)`."""
    steps = grams.shape[-1]
    off = np.abs(grams - np.eye(steps))
    worst = np.array([off[:, : k + 1, : k + 1].max(axis=(1, 2)) for k in range(steps)]).T
    return np.asarray(worst <= tolerance)
