"""The probe on TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from auditor.errors import ProbeFailed
from auditor.probe.backends import (
    Backend,
    CompiledPass,
    Function,
    OptimizerStep,
    PassInputs,
    PassResult,
    Program,
    Share,
    Shares,
    Tensor,
)
from auditor.probe.backends.tensorflow_resizing import DIFFERENTIABLE, resizing_differentiable

#: Operations on floating values of which they take the shape alone.
SHAPES_ALONE = frozenset({"OnesLike", "ZerosLike"})


class TensorFlow:
    """TensorFlow: one `tf.function` a program, gradients by one reverse pass."""

    name = "tensorflow"

    def __init__(self) -> None:
        self._asked = "auto"

    def device(self) -> str:
        """The device passes run on."""
        gpus = [] if self._asked == "cpu" else tf.config.list_logical_devices("GPU")
        if not gpus:
            return "CPU"
        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        name = details.get("device_name", "")
        return f"GPU: {name}" if name else "GPU"

    @contextmanager
    def on_device(self, asked: str) -> Iterator[None]:
        """Run on the asked device: auto, cpu or gpu. Raises `ProbeFailed` if there is none."""
        if asked == "gpu" and not tf.config.list_physical_devices("GPU"):
            raise ProbeFailed("TensorFlow sees no GPU here; use --device cpu or auto")
        self._asked = asked
        if asked == "auto":
            yield
            return
        with tf.device("CPU:0" if asked == "cpu" else "GPU:0"):
            yield

    def compile(self, program: Program) -> CompiledPass:
        """Compile a program; it is traced once for each shape of batch."""

        def trace(
            x: list[Tensor], y: list[Tensor], cotangents: list[Tensor], share: Tensor, scale: Tensor
        ) -> tuple[Any, Any]:
            variables = [variable.value for variable in program.variables]
            with tf.GradientTape() as tape:

                def watch(tensor: Tensor) -> Tensor:
                    tape.watch(tensor)
                    return tensor

                forward = program.forward(x, y, watch)
                objective = tf.cast(forward.objective, tf.float32) * share * scale
            sources = [*forward.watched, *variables]
            # The cotangents enter as seeds of the reverse pass, not as a product in the sum: there
            # an output that is not finite would make it NaN even with cotangents of zero.
            targets = [objective, *forward.outputs]
            seeds = [
                tf.ones_like(objective),
                *(
                    tf.cast(scale * tf.cast(u, tf.float32), h.dtype)
                    for u, h in zip(cotangents, forward.outputs, strict=True)
                ),
            ]
            found = tape.gradient(targets, sources, output_gradients=seeds) if sources else []
            gradients = [_dense(gradient) for gradient in found]
            split = len(forward.watched)
            values = program.reduce(forward, gradients[:split], gradients[split:], _sample_norms)
            return values, gradients[split:]

        compiled = _traced(trace)

        def run(inputs: PassInputs) -> PassResult:
            values, gradients = compiled(
                [tf.constant(array) for array in inputs.x],
                [tf.constant(array) for array in inputs.y],
                [tf.constant(array) for array in inputs.cotangents],
                tf.constant(inputs.loss_share, tf.float32),
                tf.constant(inputs.scale, tf.float32),
            )
            return PassResult(
                values={name: value.numpy() for name, value in values.items()},
                gradients=tuple(gradients),
            )

        return run

    def optimizer_step(self, optimizer: Any) -> OptimizerStep:
        """Keras' own step, run as it is: tracing one takes as long as a dozen of them."""
        step: OptimizerStep = optimizer.apply
        return step

    def jit(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """Compile a function of nested lists of tensors; variables are found by TensorFlow."""
        del variables
        return _traced(function)

    def jit_each(
        self, functions: Sequence[Callable[..., Share]], variables: Sequence[Any]
    ) -> Callable[[Sequence[Sequence[Any]]], Shares]:
        """Compile them into one graph."""
        del variables

        def all_of_them(arguments: list[Any]) -> tuple[list[Any], Tensor]:
            made = [f(*given) for f, given in zip(functions, arguments, strict=True)]
            lengths.extend(int(figures.shape[0]) for _, figures in made[len(lengths) :])
            # End to end: hundreds of small tensors take longer to fetch.
            figures = tf.concat([tf.cast(figures, tf.float64) for _, figures in made], axis=0)
            return [kept for kept, _ in made], figures

        lengths: list[int] = []
        compiled = _traced(all_of_them)

        def run(arguments: Sequence[Sequence[Any]]) -> Shares:
            kept, figures = compiled([tuple(given) for given in arguments])
            return kept, np.split(figures.numpy(), np.cumsum(lengths)[:-1])

        return run

    def once(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """The function as it is: running operations one by one is faster than tracing them."""
        del variables
        return function

    def vjp(
        self, function: Function, primals: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Jᵀ u by one reverse pass."""
        with tf.GradientTape() as tape:
            tape.watch(primals)
            outputs = function(primals)
        return _pulled_back(tape, outputs, primals, cotangents)

    def jvp(
        self, function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """J v by two reverse passes: Jᵀ u is linear in u, and its own transpose at v is J v.

        Forward-mode accumulators need as long to trace and do not know every operation. Raises
        `LookupError` where Jᵀ u has no derivative of its own: TensorFlow lacks some.
        """
        if tf.executing_eagerly():
            compiled = _traced(lambda: self.jvp(function, primals, tangents))
            pushed: tuple[Tensor, ...] = compiled()
            return pushed
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(primals)
                outputs = function(primals)
            seeds = tuple(tf.zeros_like(output) for output in outputs)
            outer.watch(seeds)
            with resizing_differentiable():
                found = inner.gradient(list(outputs), list(primals), output_gradients=list(seeds))
            # None where no output depends on an input, of which there is nothing to push either.
            known = [
                (_tensor(pulled), tangent)
                for pulled, tangent in zip(found, tangents, strict=True)
                if pulled is not None
            ]
        pulled = tuple(tensor for tensor, _ in known)
        if kind := _constant_between(seeds, pulled):
            raise LookupError(f"TensorFlow has no second derivative for {kind}")
        try:
            return _pulled_back(outer, pulled, seeds, tuple(tangent for _, tangent in known))
        except LookupError as error:
            raise LookupError(f"TensorFlow has no second derivative here: {error}") from error


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled, without AutoGraph, as Keras does its own training step."""
    # TensorFlow counts the traces of a function's code and warns of many. Here each function is
    # compiled once, however many have the same code: a `partial` has none, and is counted alone.
    compiled: Callable[..., Any] = tf.function(functools.partial(function), autograph=False)
    return compiled


def _constant_between(seeds: Sequence[Tensor], pulled: Sequence[Tensor]) -> str:
    """The kind of an operation that Jᵀ u comes by and that TensorFlow takes for a constant, or "".

    Marked as not differentiable, it would make J v zero, or a part of it, without a word. Jᵀ u is
    linear in u, so that every operation on the way has a derivative in truth.
    """
    behind: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in pulled]
    while waiting:
        operation = waiting.pop()
        if operation not in behind:
            behind.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    reached: set[tf.Operation] = set()
    tensors = list(seeds)
    while tensors:
        for operation in tensors.pop().consumers():
            made = [tensor for tensor in operation.outputs if _carries_values(tensor)]
            if operation in reached or operation not in behind or not made:
                continue
            reached.add(operation)
            if operation.type in SHAPES_ALONE:
                continue
            if operation.type not in DIFFERENTIABLE and _is_marked_constant(operation):
                return str(operation.type)
            tensors += made
    return ""


def _carries_values(tensor: Tensor) -> bool:
    return not (tensor.dtype.is_integer or tensor.dtype.is_bool or tensor.dtype == tf.string)


def _is_marked_constant(operation: tf.Operation) -> bool:
    """Whether the operation is marked as not differentiable; there is no public way to ask."""
    from tensorflow.python.framework.ops import get_gradient_function

    try:
        return get_gradient_function(operation) is None
    except LookupError:  # of one that has no entry the tape itself tells
        return False


def _pulled_back(
    tape: tf.GradientTape,
    outputs: tuple[Tensor, ...],
    primals: tuple[Tensor, ...],
    cotangents: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    with resizing_differentiable():
        found = tape.gradient(
            list(outputs),
            list(primals),
            output_gradients=list(cotangents),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    pulled = tuple(_tensor(gradient) for gradient in found)
    for gradient, primal in zip(pulled, primals, strict=True):
        # Not known of what a saved model propagates.
        gradient.set_shape(primal.shape)
    return pulled


def _dense(gradient: Any) -> Tensor | None:
    return None if gradient is None else _tensor(gradient)


def _tensor(gradient: Any) -> Tensor:
    """The gradient as one tensor: lookups give theirs row by row."""
    return tf.convert_to_tensor(gradient)


def _sample_norms(tensor: Tensor) -> Tensor:
    """‖·‖₂ along the last axis of a matrix `(rows, values)`, in double precision.

    The squares of finite half, bfloat16 and single precision values do not overflow there, so a
    norm is finite exactly when all its values are.
    """
    return tf.math.reduce_euclidean_norm(tf.cast(tensor, tf.float64), axis=-1)


def make() -> Backend:
    """The backend."""
    return TensorFlow()
