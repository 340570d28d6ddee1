"""Small Jacobians written out, row by row or column by column, and decomposed exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Share, Tensor
from auditor.probe.blocks import Block, Linearizer, primals_of

Array = np.ndarray[Any, Any]
#: Entries of the matrices that are written out together, at most.
TOGETHER = 2**25


class ExplicitJacobians:
    """All singular values of blocks that have few inputs or few outputs.

    One product a unit vector of the smaller side serves every block of about that size, compiled
    once.
    """

    def __init__(self, linearizer: Linearizer, blocks: Sequence[Block], *, pulled: int) -> None:
        """`pulled` is the number of outputs up to which pulls alone are used.

        Pulls need a first derivative and no more, which every framework has for more operations
        than it has what pushes need.
        """
        sides: dict[tuple[bool, int], list[Block]] = {}
        for block in blocks:
            pull = block.outputs <= max(block.inputs, pulled)
            # By size to a factor of two, so that few products are of blocks that are done.
            size = (_lines_of(block, pull=pull) - 1).bit_length()
            sides.setdefault((pull, size), []).append(block)
        self._sides = [
            _Side(linearizer, some, pull=pull)
            for (pull, _), members in sides.items()
            for some in _in_memory(members)
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
        self._lines = linearizer.each([self._line(block) for block in blocks])
        self.failed: dict[str, Exception] = {}

    def singular_values(self) -> dict[str, Array]:
        counts = [_lines_of(block, pull=self._pull) for block in self._blocks]
        made: list[list[Array]] = [[] for _ in self._blocks]
        for index in range(max(counts)):
            _, lines = self._lines(list(zip(self._primals, self._units(index), strict=True)))
            for kept, line, count in zip(made, lines, counts, strict=True):
                if index < count:
                    kept.append(line)
        return {
            block.id: _singular_values(
                np.stack(lines).reshape(len(lines), block.rows, -1).transpose(1, 0, 2)
            )
            for block, lines in zip(self._blocks, made, strict=True)
        }

    def _units(self, index: int) -> list[tuple[Tensor, ...]]:
        """The unit vector of this index for each block; those of a shape share theirs."""
        made: dict[Any, tuple[Tensor, ...]] = {}
        units = []
        for block in self._blocks:
            shapes = [shape for shape, _ in block.call.outputs]
            if not self._pull:
                shapes = [tuple(tensor.shape) for tensor in block.call.inputs]
            kind = (block.rows, tuple(shapes), block.precision)
            if kind not in made:
                made[kind] = _unit(block, shapes, index)
            units.append(made[kind])
        return units

    def _line(self, block: Block) -> Callable[..., Share]:
        """inputs, unit vector → the row or column of every row's Jacobian, `(rows · length,)`."""
        length = block.inputs if self._pull else block.outputs

        def line(inputs: tuple[Tensor, ...], unit: tuple[Tensor, ...]) -> Share:
            try:
                vector = self._product(block, self._backend, inputs, unit)
            except Exception as error:  # whatever a framework says where it has no derivative
                self.failed[block.id] = error
                return (), keras.ops.zeros((block.rows * length,))
            flat = keras.ops.concatenate(block.flat(vector), axis=1)
            return (), keras.ops.reshape(flat, (-1,))

        return line


def _in_memory(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks in runs whose matrices fit into memory together."""
    run: list[Block] = []
    entries = 0
    for block in blocks:
        more = block.rows * block.inputs * block.outputs
        if run and entries + more > TOGETHER:
            yield run
            run, entries = [], 0
        run.append(block)
        entries += more
    if run:
        yield run


def _lines_of(block: Block, *, pull: bool) -> int:
    """Products it takes to write a block out."""
    return block.outputs if pull else block.inputs


def _unit(block: Block, shapes: Sequence[tuple[int, ...]], index: int) -> tuple[Tensor, ...]:
    """The unit vector of this index in every row."""
    parts = []
    offset = 0
    for shape in shapes:
        size = math.prod(shape) // block.rows
        part = np.zeros((block.rows, size), block.precision)
        if offset <= index < offset + size:
            part[:, index - offset] = 1.0
        parts.append(keras.ops.convert_to_tensor(part.reshape(shape)))
        offset += size
    return tuple(parts)


def _singular_values(lines: Array) -> Array:
    """Of each row's matrix; `lines` `(rows, count, length)`, count the smaller side."""
    finite = np.asarray(np.isfinite(lines).all(axis=(1, 2)))
    known = np.where(finite[:, None, None], lines, 0.0).astype(np.float64)
    # By the Gram matrix of the small side: in double precision its squares are exact enough.
    squares = np.linalg.eigvalsh(known @ known.transpose(0, 2, 1))[:, ::-1]
    return np.where(finite[:, None], np.sqrt(np.maximum(squares, 0.0)), np.nan)
