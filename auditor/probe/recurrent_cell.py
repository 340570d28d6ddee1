"""A recurrent layer's cell, a step at a time: forward, and its transpose back."""

from __future__ import annotations

import inspect
import math
from typing import Any

import keras
import numpy as np
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from auditor.probe.backends import Backend, Tensor
from auditor.probe.state import copied, untrained_state
from auditor.probe.statistics import is_floating

Array = np.ndarray[Any, Any]


class RecurrentCell:
    """A layer's cell with its step and the step's transpose, each compiled once.

    layer: a `keras.layers.RNN`. state: what its cell starts from, nested as the cell takes it,
    each tensor `(samples, ...)`; elsewhere a state is the tuple of its tensors. training: the
    mode the cell runs in. What the cell does to the layer's variables stays done.
    """

    def __init__(self, layer: Any, state: Any, *, training: bool, backend: Backend) -> None:
        self._layer = layer
        self._state = state
        self._kwargs = {}
        if "training" in inspect.signature(layer.cell.call).parameters:
            self._kwargs["training"] = training
        self._backend = backend
        self._moved: list[tuple[Any, Array]] = []
        others = untrained_state(layer)
        variables = (*layer.trainable_variables, *others)
        self._others = others
        self._step = backend.jit(self._step_once, variables)
        self._pull = backend.jit(self._pull_once, variables)

    @property
    def start(self) -> tuple[Tensor, ...]:
        """The state at the start."""
        return tuple(keras.tree.flatten(self._state))

    def settle(self, x: Array) -> None:
        """Find what a step moves besides the state, `x` `(samples, ...)` being the first's input.

        Seeds of random layers, statistics: they are put back before each step, so that all steps
        have the same draw, as the dropout masks of Keras' own cells are the same for all steps.
        """
        before = [copied(variable) for variable in self._others]
        self._step(x, self.start)
        self._moved = [
            (variable, value)
            for variable, value in zip(self._others, before, strict=True)
            if not np.array_equal(copied(variable), value)
        ]

    def step(self, x: Array, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The next state, and which samples' is finite, `(samples,)`."""
        self._put_back()
        state, finite = self._step(x, state)
        return tuple(state), finite

    def pull(
        self, x: Array, state: tuple[Tensor, ...], cotangent: tuple[Tensor, ...], runs: Array
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The cotangent of `state`, rescaled, and the logarithm of what its norm changed by.

        Only of the samples that run; the others keep theirs. The changes are `(samples,)`.
        """
        self._put_back()
        cotangent, change = self._pull(x, state, cotangent, runs)
        return tuple(cotangent), change

    def _put_back(self) -> None:
        for variable, value in self._moved:
            variable.assign(value)

    def _step_once(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        ops = keras.ops
        new = self._next_state(x, tuple(state))
        flat = ops.concatenate([_rows(leaf) for leaf in new], axis=1)
        return new, ops.all(ops.isfinite(flat), axis=1)

    def _pull_once(
        self, x: Tensor, state: tuple[Tensor, ...], cotangent: tuple[Tensor, ...], runs: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        ops = keras.ops
        pulled = self._backend.vjp(
            lambda primals: self._next_state(x, primals), tuple(state), tuple(cotangent)
        )
        before = ops.concatenate([_rows(leaf) for leaf in cotangent], axis=1)
        after = ops.concatenate([_rows(leaf) for leaf in pulled], axis=1)
        after = ops.where(ops.expand_dims(runs, 1), after, before)
        # Divided by its peak first, the squares of any finite cotangent are finite.
        peak = ops.max(ops.abs(after), axis=1, keepdims=True)
        scaled = after / _one_for_zero(peak)
        norm = _norm(scaled)
        change = ops.log(peak) + ops.log(norm) - ops.log(_norm(before))
        scaled = scaled / _one_for_zero(norm) * math.sqrt(after.shape[1])
        parts = []
        start = 0
        for leaf in cotangent:
            size = math.prod(leaf.shape[1:])
            part = ops.reshape(scaled[:, start : start + size], leaf.shape)
            parts.append(ops.cast(part, leaf.dtype))
            start += size
        return tuple(parts), ops.squeeze(change, 1)

    def _next_state(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        layer = self._layer
        if is_floating(x):
            x = keras.ops.cast(x, layer.compute_dtype)
        packed = keras.tree.pack_sequence_as(self._state, list(state))
        # Masks that were drawn while a step is traced mean nothing outside.
        self._forget_masks()
        try:
            _, new = layer.cell(x, packed, **self._kwargs)
        finally:
            self._forget_masks()
        return tuple(
            keras.ops.cast(leaf, old.dtype)
            for leaf, old in zip(keras.tree.flatten(new), state, strict=True)
        )

    def _forget_masks(self) -> None:
        for layer in self._layer._flatten_layers():  # noqa: SLF001
            if isinstance(layer, DropoutRNNCell):
                layer.reset_dropout_mask()
                layer.reset_recurrent_dropout_mask()


def _rows(leaf: Tensor) -> Tensor:
    """`(samples, values)`, in single precision at least."""
    if keras.backend.standardize_dtype(leaf.dtype) not in ("float32", "float64"):
        leaf = keras.ops.cast(leaf, "float32")
    return keras.ops.reshape(leaf, (leaf.shape[0], math.prod(leaf.shape[1:])))


def _norm(rows: Tensor) -> Tensor:
    return keras.ops.sqrt(keras.ops.sum(keras.ops.square(rows), axis=1, keepdims=True))


def _one_for_zero(values: Tensor) -> Tensor:
    return keras.ops.where(keras.ops.equal(values, 0.0), keras.ops.ones_like(values), values)
