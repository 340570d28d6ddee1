"""Blocks of the joint Jacobian: with the inputs of every call held fixed it is block-diagonal.

So one product with it is one product with every call's own Jacobian, and all of them together
cost about what one pass over the model does, however many calls there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Backend, Share, Shares, Tensor
from auditor.probe.recording import RecordedCall

#: A vector of the joint operator: for each block its tensors, as they go in or come out.
Vector = list[tuple[Tensor, ...]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Linearizer:
    """What products with Jacobians are computed with.

    variables: all `keras.Variable`s that the calls read or move. restart: puts statistics and
    seeds back, so that every product meets the same dropout masks.
    """

    backend: Backend
    variables: tuple[Any, ...]
    restart: Callable[[], None]

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function compiled, from the same state each time."""
        made = self.backend.jit(function, self.variables)

        def run(*arguments: Any) -> Any:
            self.restart()
            return made(*arguments)

        return run

    def each(
        self, functions: Sequence[Callable[..., Share]]
    ) -> Callable[[Sequence[Sequence[Any]]], Shares]:
        """Functions compiled that run one after the other, from the same state each time."""
        made = self.backend.jit_each(functions, self.variables)

        def run(arguments: Sequence[Sequence[Any]]) -> Shares:
            self.restart()
            return made(arguments)

        return run


@dataclass(frozen=True)
class Block:
    """One call's Jacobian, at its recorded arguments.

    `rows` is the number of diagonal blocks it falls into itself: one a sample, or one for the
    whole batch where samples meet.
    """

    call: RecordedCall
    rows: int

    @property
    def id(self) -> str:
        """The id of its call."""
        return self.call.id

    @cached_property
    def inputs(self) -> int:
        """Floating values that go into a row, n_in."""
        return sum(int(math.prod(tensor.shape)) for tensor in self.call.inputs) // self.rows

    @cached_property
    def outputs(self) -> int:
        """Floating values that come out of a row, n_out."""
        return sum(math.prod(shape) for shape, _ in self.call.outputs) // self.rows

    @property
    def values(self) -> int:
        """All values a pair of its vectors holds."""
        return self.rows * (self.inputs + self.outputs)

    @property
    def precision(self) -> str:
        """The dtype its vectors are kept in: float32, or float64 where the call computes in it."""
        dtypes = [dtype for _, dtype in self.call.outputs]
        return "float64" if all(dtype == "float64" for dtype in dtypes) else "float32"

    @property
    def epsilon(self) -> float:
        """Rounding of one operation of the call, relative."""
        dtypes = [dtype for _, dtype in self.call.outputs]
        dtypes += [keras.backend.standardize_dtype(tensor.dtype) for tensor in self.call.inputs]
        return max(_EPSILON.get(dtype, 0.0) for dtype in dtypes)

    @property
    def tiny(self) -> float:
        """The smallest number its vectors hold at full precision; devices take less for zero."""
        return float(np.finfo(self.precision).tiny)

    def draw_inputs(self, draw: Callable[[tuple[int, ...]], Array]) -> tuple[Array, ...]:
        """Arrays in the shape of its inputs."""
        return tuple(draw(tuple(tensor.shape)) for tensor in self.call.inputs)

    def draw_outputs(self, draw: Callable[[tuple[int, ...]], Array]) -> tuple[Array, ...]:
        """Arrays in the shape of its outputs."""
        return tuple(draw(shape) for shape, _ in self.call.outputs)

    def pull(self, backend: Backend, primals: tuple[Tensor, ...], u: Sequence[Tensor]) -> Any:
        """Jᵀ u, in the block's precision. Raises whatever has no derivative.

        The rows of u are of unit length at most, see `_amplitude`.
        """
        amplitude = self._amplitude(self.outputs)
        cotangents = tuple(
            keras.ops.cast(part * amplitude, dtype)
            for part, (_, dtype) in zip(u, self.call.outputs, strict=True)
        )
        pulled = backend.vjp(self.call.floating_outputs, primals, cotangents)
        return tuple(keras.ops.cast(part, self.precision) / amplitude for part in pulled)

    def push(self, backend: Backend, primals: tuple[Tensor, ...], v: Sequence[Tensor]) -> Any:
        """J v, in the block's precision. Raises whatever has no derivative.

        The rows of v are of unit length at most, see `_amplitude`.
        """
        amplitude = self._amplitude(self.inputs)
        tangents = tuple(
            keras.ops.cast(part * amplitude, primal.dtype)
            for part, primal in zip(v, primals, strict=True)
        )
        pushed = backend.jvp(self.call.floating_outputs, primals, tangents)
        return tuple(keras.ops.cast(part, self.precision) / amplitude for part in pushed)

    def _amplitude(self, count: int) -> float:
        """A factor on unit vectors of so many values that makes a typical value 1.

        In half precision alone: what a small value is multiplied with would vanish there.
        """
        return math.sqrt(count) if self.epsilon >= _EPSILON["float16"] else 1.0

    def flat(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Its tensors as `(rows, values)`, those that hold no value left out."""
        return [
            keras.ops.reshape(part, (self.rows, -1)) for part in vector if math.prod(part.shape)
        ]

    def norms(self, vector: Sequence[Tensor]) -> Tensor:
        """‖·‖₂ of each row, `(rows,)`; squares of huge or tiny values do not spoil it."""
        parts = self.flat(vector)
        peaks = [keras.ops.max(keras.ops.abs(part), axis=1) for part in parts]
        peak = peaks[0]
        for other in peaks[1:]:
            peak = keras.ops.maximum(peak, other)
        usable = keras.ops.logical_and(keras.ops.isfinite(peak), peak >= self.tiny)
        unit = keras.ops.where(usable, peak, keras.ops.ones_like(peak))
        squares = sum(
            keras.ops.sum(keras.ops.square(part / unit[:, None]), axis=1) for part in parts
        )
        return keras.ops.sqrt(squares) * unit

    def products(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """⟨a, b⟩ of each row, `(rows,)`."""
        pairs = zip(self.flat(a), self.flat(b), strict=True)
        return sum(keras.ops.sum(one * other, axis=1) for one, other in pairs)

    def scaled(self, factors: Tensor, vector: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Each row times its own factor; `factors` `(rows,)`."""
        column = keras.ops.reshape(keras.ops.cast(factors, self.precision), (self.rows, 1))
        return tuple(
            keras.ops.reshape(column * keras.ops.reshape(part, (self.rows, -1)), tuple(part.shape))
            for part in vector
        )


#: Machine epsilons; NumPy knows no bfloat16.
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def primals_of(blocks: Sequence[Block]) -> list[tuple[Tensor, ...]]:
    """The recorded inputs of each block, handed to compiled functions as an argument."""
    return [block.call.inputs for block in blocks]


def by_block(blocks: Sequence[Block], values: Array) -> list[Array]:
    """Numbers of all rows, one block's after the other, taken apart."""
    ends = np.cumsum([block.rows for block in blocks])[:-1]
    return np.split(values, ends)


def numbers(tensor: Tensor) -> Array:
    """A tensor's values in double precision."""
    return np.asarray(keras.ops.convert_to_numpy(tensor)).astype(np.float64)
