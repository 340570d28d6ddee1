"""Whole Jacobians, written out by the framework's own means rather than by the probe's products."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from auditor.probe.recording import RecordedCall

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Exact:
    """A call's Jacobians by sample, or the one of the whole batch where samples meet."""

    matrices: tuple[Array, ...]
    couples: bool

    @property
    def spectral_norms(self) -> Array:
        """σ₁ of each."""
        return np.array([np.linalg.svd(m, compute_uv=False)[0] for m in self.matrices])

    @property
    def frobenius_norms(self) -> Array:
        """‖J‖_F of each."""
        return np.array([np.linalg.norm(m) for m in self.matrices])


def exact(
    calls: Sequence[RecordedCall], variables: Sequence[Any], restart: Callable[[], None]
) -> dict[str, Exact]:
    """By id; calls without a derivative are left out."""
    if keras.backend.backend() == "tensorflow":
        whole = _tensorflow(calls, restart)
    elif keras.backend.backend() == "jax":
        whole = _jax(calls, variables, restart)
    else:
        whole = _torch(calls, restart)
    return {call.id: taken_apart(call, whole[call.id]) for call in calls if call.id in whole}


def taken_apart(call: RecordedCall, whole: Array) -> Exact:
    """The diagonal blocks of the Jacobian of a batch, if there is nothing beside them."""
    if not call.per_sample or call.batch == 1:
        return Exact(matrices=(whole,), couples=call.batch > 1)
    rows = _samples([shape for shape, _ in call.outputs], call.batch)
    columns = _samples([tuple(tensor.shape) for tensor in call.inputs], call.batch)
    beside = whole[rows[:, None] != columns[None, :]]
    if beside.any():
        return Exact(matrices=(whole,), couples=True)
    blocks = [whole[rows == sample][:, columns == sample] for sample in range(call.batch)]
    return Exact(matrices=tuple(blocks), couples=False)


def by_differences(call: RecordedCall, restart: Callable[[], None], step: float = 1e-6) -> Array:
    """The Jacobian of a batch by central differences; for calls in double precision."""
    inputs = [np.array(ops.convert_to_numpy(tensor)) for tensor in call.inputs]

    def outputs() -> Array:
        restart()
        made = call.floating_outputs(tuple(ops.convert_to_tensor(array) for array in inputs))
        return np.concatenate([np.ravel(ops.convert_to_numpy(part)) for part in made])

    columns = []
    for array in inputs:
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + step
            above = outputs()
            array[index] = before - step
            columns.append((above - outputs()) / (2.0 * step))
            array[index] = before
    return np.stack(columns, axis=1)


def _samples(shapes: Sequence[tuple[int, ...]], batch: int) -> Array:
    """Which sample each value belongs to, of tensors laid end to end."""
    return np.concatenate([np.repeat(np.arange(batch), math.prod(s) // batch) for s in shapes])


def _assembled(parts: Sequence[Sequence[Any]]) -> Array:
    """From the blocks of each output and input, `(*output, *input)`, as matrices."""
    return np.block([list(row) for row in parts]).astype(np.float64)


def _tensorflow(calls: Sequence[RecordedCall], restart: Callable[[], None]) -> dict[str, Array]:
    import tensorflow as tf

    def whole(call: RecordedCall) -> Any:
        def blocks(inputs: tuple[Any, ...]) -> list[list[Any]]:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(inputs)
                # TensorFlow writes a Jacobian out in the dtype of the output.
                outputs = [tf.cast(h, inputs[0].dtype) for h in call.floating_outputs(inputs)]
            found = [
                tape.jacobian(
                    output,
                    list(inputs),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                    experimental_use_pfor=False,
                )
                for output in outputs
            ]
            return [
                [
                    tf.reshape(part, (tf.size(output), tf.size(one)))
                    for part, one in zip(row, inputs, strict=True)
                ]
                for output, row in zip(outputs, found, strict=True)
            ]

        made = tf.function(blocks, autograph=False)(call.inputs)
        return [[tf.cast(part, tf.float64).numpy() for part in row] for row in made]

    return _each(calls, restart, whole)


def _each(
    calls: Sequence[RecordedCall],
    restart: Callable[[], None],
    whole: Callable[[RecordedCall], Any],
) -> dict[str, Array]:
    """The blocks of each call put together, from the same state each time."""
    made: dict[str, Array] = {}
    for call in calls:
        if not call.inputs or not call.outputs:
            continue
        restart()
        try:
            made[call.id] = _assembled(whole(call))
        except Exception as error:  # of a kernel or a derivative that the framework has not
            warnings.warn(f"{call.id}: {error}", stacklevel=2)
    return made


def _jax(
    calls: Sequence[RecordedCall], variables: Sequence[Any], restart: Callable[[], None]
) -> dict[str, Array]:
    import jax

    def whole(call: RecordedCall) -> Any:
        mapping = [(variable, variable.value) for variable in variables]

        def stateless(*inputs: Any) -> tuple[Any, ...]:
            with keras.StatelessScope(state_mapping=mapping):
                return call.floating_outputs(inputs)

        places = tuple(range(len(call.inputs)))
        made = jax.jit(jax.jacrev(stateless, argnums=places))(*call.inputs)
        return [
            [
                np.reshape(part, (math.prod(shape), math.prod(tensor.shape)))
                for part, tensor in zip(row, call.inputs, strict=True)
            ]
            for row, (shape, _) in zip(made, call.outputs, strict=True)
        ]

    return _each(calls, restart, whole)


def _torch(calls: Sequence[RecordedCall], restart: Callable[[], None]) -> dict[str, Array]:
    import torch

    def whole(call: RecordedCall) -> Any:
        with torch.enable_grad():
            inputs = tuple(tensor.detach().requires_grad_() for tensor in call.inputs)
            outputs = call.floating_outputs(tuple(one.clone() for one in inputs))
            return [[_torch_rows(torch, output, inputs)] for output in outputs]

    return _each(calls, restart, whole)


def _torch_rows(torch: Any, output: Any, inputs: tuple[Any, ...]) -> Array:
    rows = []
    for unit in torch.eye(output.numel(), dtype=output.dtype):
        found: Sequence[Any] = (None,) * len(inputs)
        if output.requires_grad:
            found = torch.autograd.grad(
                output, inputs, unit.reshape(output.shape), retain_graph=True, allow_unused=True
            )
        parts = [
            torch.zeros_like(one) if part is None else part
            for part, one in zip(found, inputs, strict=True)
        ]
        rows.append(np.concatenate([part.double().numpy().ravel() for part in parts]))
    return np.stack(rows)
