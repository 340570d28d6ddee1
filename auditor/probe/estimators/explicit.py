"""Small Jacobians written out, row by row or column by column, and decomposed exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Tensor
from auditor.probe.blocks import Block, Linearizer, numbers, primals_of

Array = np.ndarray[Any, Any]


class ExplicitJacobians:
    """All singular values of blocks that have few inputs or few outputs.

    One product a unit vector of the smaller side serves every block, compiled once.
    """

    def __init__(self, linearizer: Linearizer, blocks: Sequence[Block]) -> None:
        self._sides = [
            _Side(linearizer, [b for b in blocks if b.outputs <= b.inputs], pull=True),
            _Side(linearizer, [b for b in blocks if b.outputs > b.inputs], pull=False),
        ]

    @property
    def failed(self) -> dict[str, Exception]:
        """Blocks without a derivative, by id, with what the framework said."""
        return {call_id: error for side in self._sides for call_id, error in side.failed.items()}

    def singular_values(self) -> dict[str, Array]:
        """By id, `(rows, min(n_in, n_out))`, largest first; NaN in a row that is not finite."""
        return {
            call_id: values
            for side in self._sides
            for call_id, values in side.singular_values().items()
            if call_id not in side.failed
        }


class _Side:
    """Blocks that are written out by pulls of unit cotangents, or by pushes of unit tangents."""

    def __init__(self, linearizer: Linearizer, blocks: Sequence[Block], *, pull: bool) -> None:
        self._blocks = tuple(blocks)
        self._primals = primals_of(blocks)
        self._pull = pull
        self._product: Callable[..., Any] = Block.pull if pull else Block.push
        self._backend = linearizer.backend
        self._lines = linearizer.compiled(self._line)
        self.failed: dict[str, Exception] = {}

    def singular_values(self) -> dict[str, Array]:
        if not self._blocks:
            return {}
        counts = [min(block.inputs, block.outputs) for block in self._blocks]
        lines: list[list[Array]] = [[] for _ in self._blocks]
        for index in range(max(counts)):
            made = self._lines(self._primals, np.int32(index))
            for kept, count, line in zip(lines, counts, made, strict=True):
                if index < count:
                    kept.append(numbers(line))
        return {
            block.id: _singular_values(np.stack(kept, axis=1))
            for block, kept in zip(self._blocks, lines, strict=True)
        }

    def _line(self, primals: list[tuple[Tensor, ...]], index: Tensor) -> list[Tensor]:
        """The row or column of this index of every Jacobian, `(rows, length)` each."""
        made = []
        for block, inputs in zip(self._blocks, primals, strict=True):
            shapes = [shape for shape, _ in block.call.outputs]
            if not self._pull:
                shapes = [tuple(tensor.shape) for tensor in inputs]
            try:
                line = self._product(block, self._backend, inputs, _unit(block, shapes, index))
            except Exception as error:  # whatever a framework says where it has no derivative
                self.failed[block.id] = error
                line = (keras.ops.zeros((block.rows, 1)),)
            made.append(
                keras.ops.concatenate(
                    [keras.ops.reshape(part, (block.rows, -1)) for part in line], axis=1
                )
            )
        return made


def _unit(block: Block, shapes: Sequence[tuple[int, ...]], index: Tensor) -> tuple[Tensor, ...]:
    """The unit vector of this index in every row."""
    parts = []
    offset = 0
    for shape in shapes:
        size = math.prod(shape) // block.rows
        unit = keras.ops.equal(keras.ops.arange(size, dtype="int32") + offset, index)
        row = keras.ops.cast(unit, block.precision)
        parts.append(
            keras.ops.reshape(keras.ops.broadcast_to(row[None, :], (block.rows, size)), shape)
        )
        offset += size
    return tuple(parts)


def _singular_values(lines: Array) -> Array:
    """Of each row's matrix; `lines` `(rows, count, length)`, count the smaller side."""
    finite = np.asarray(np.isfinite(lines).all(axis=(1, 2)))
    known = np.where(finite[:, None, None], lines, 0.0)
    # By the Gram matrix of the small side: in double precision its squares are exact enough.
    squares = np.linalg.eigvalsh(known @ known.transpose(0, 2, 1))[:, ::-1]
    return np.where(finite[:, None], np.sqrt(np.maximum(squares, 0.0)), np.nan)
