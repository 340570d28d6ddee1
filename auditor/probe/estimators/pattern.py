"""Jacobians whose pattern of non-zero entries is known: exact norms from one product, Jᵀ1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Tensor
from auditor.probe.blocks import Block, Linearizer, by_block, numbers, primals_of
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
        self._compiled = linearizer.compiled(self._norms)
        self.failed: dict[str, Exception] = {}

    def norms(self) -> dict[str, tuple[Array, Array]]:
        """σ₁ and ‖J‖_F by id, `(rows,)` each."""
        if not self._blocks:
            return {}
        blocks = [block for block, _ in self._blocks]
        largest, total = (numbers(values) for values in self._compiled(primals_of(blocks)))
        return {
            block.id: (top, whole)
            for block, top, whole in zip(
                blocks, by_block(blocks, largest), by_block(blocks, total), strict=True
            )
            if block.id not in self.failed
        }

    def _norms(self, primals: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        largest, total = [], []
        for (block, structure), inputs in zip(self._blocks, primals, strict=True):
            # Products are of vectors of unit length.
            length = math.sqrt(block.outputs)
            units = keras.ops.full((block.rows,), 1.0 / length)
            ones = [keras.ops.ones(shape, block.precision) for shape, _ in block.call.outputs]
            try:
                pulled = block.pull(self._backend, inputs, block.scaled(units, ones))
            except Exception as error:  # whatever a framework says where it has no derivative
                self.failed[block.id] = error
                pulled = (keras.ops.zeros((block.rows, 1)),)
            flat = [keras.ops.abs(part) * length for part in block.flat(pulled)]
            if structure is Structure.DIAGONAL:
                singular = reduce(_hypotenuse, flat)
            else:
                singular = keras.ops.sqrt(keras.ops.concatenate(flat, axis=1))
            largest.append(keras.ops.cast(keras.ops.max(singular, axis=1), self._precision))
            total.append(keras.ops.cast(block.norms((singular,)), self._precision))
        return keras.ops.concatenate(largest), keras.ops.concatenate(total)

    @property
    def _precision(self) -> str:
        return max(block.precision for block, _ in self._blocks)


def _hypotenuse(a: Tensor, b: Tensor) -> Tensor:
    """√(a² + b²) of what is not negative, without the squares of huge or tiny values."""
    longer, shorter = keras.ops.maximum(a, b), keras.ops.minimum(a, b)
    ratio = keras.ops.divide_no_nan(shorter, longer)
    # Of infinities the ratio is not a number, and neither is their Jacobian.
    return longer * keras.ops.sqrt(1.0 + keras.ops.square(ratio))
