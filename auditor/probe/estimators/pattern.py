"""Jacobians whose pattern of non-zero entries is known: exact norms from one product, Jᵀ1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Share, Tensor
from auditor.probe.blocks import Block, Linearizer, primals_of
from auditor.probe.structure import Structure

Array = np.ndarray[Any, Any]


class PatternNorms:
    """σ₁ and ‖J‖_F of diagonal blocks and selections.

    Diagonal in each of its inputs, J = [D₁ D₂ …]: J Jᵀ = Σ Dᵢ², and Dᵢ = Jᵢᵀ1. A selection has at
    most one entry a row, a one: Jᵀ J is diagonal, and Jᵀ1 counts how often an input is selected.
    """

    def __init__(self, linearizer: Linearizer, blocks: Sequence[tuple[Block, Structure]]) -> None:
        self._blocks = tuple(blocks)
        self._backend = linearizer.backend
        self._compiled = linearizer.each([self._norms(*one) for one in blocks])
        self.failed: dict[str, Exception] = {}

    def norms(self) -> dict[str, tuple[Array, Array]]:
        """σ₁ and ‖J‖_F by id, `(rows,)` each."""
        if not self._blocks:
            return {}
        blocks = [block for block, _ in self._blocks]
        _, figures = self._compiled([(inputs,) for inputs in primals_of(blocks)])
        return {
            block.id: (found[: block.rows], found[block.rows :])
            for block, found in zip(blocks, figures, strict=True)
            if block.id not in self.failed
        }

    def _norms(self, block: Block, structure: Structure) -> Callable[..., Share]:
        """Inputs → σ₁ of each row, then ‖J‖_F, `(2 · rows,)`."""

        def norms(inputs: tuple[Tensor, ...]) -> Share:
            # Products are of vectors of unit length.
            length = math.sqrt(block.outputs)
            units = keras.ops.full((block.rows,), 1.0 / length)
            ones = [keras.ops.ones(shape, block.precision) for shape, _ in block.call.outputs]
            try:
                pulled = block.pull(self._backend, inputs, block.scaled(units, ones))
            except Exception as error:  # whatever a framework says where it has no derivative
                self.failed[block.id] = error
                return (), keras.ops.zeros((2 * block.rows,))
            flat = [keras.ops.abs(part) * length for part in block.flat(pulled)]
            if structure is Structure.DIAGONAL:
                singular = reduce(_hypotenuse, flat)
            else:
                singular = keras.ops.sqrt(keras.ops.concatenate(flat, axis=1))
            largest = keras.ops.max(singular, axis=1)
            return (), keras.ops.concatenate([largest, block.norms((singular,))])

        return norms


def _hypotenuse(a: Tensor, b: Tensor) -> Tensor:
    """√(a² + b²) of what is not negative, without the squares of huge or tiny values."""
    longer, shorter = keras.ops.maximum(a, b), keras.ops.minimum(a, b)
    ratio = keras.ops.divide_no_nan(shorter, longer)
    # Of infinities the ratio is not a number, and neither is their Jacobian.
    return longer * keras.ops.sqrt(1.0 + keras.ops.square(ratio))
