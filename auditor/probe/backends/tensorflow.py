"""The probe on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
    Tensor,
)


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

        # Keras traces its own training step without AutoGraph as well.
        compiled = tf.function(trace, autograph=False)

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
        compiled: Callable[..., Any] = tf.function(function, autograph=False)
        return compiled

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

        Forward-mode accumulators need as long to trace and do not know every operation.
        """
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(primals)
                outputs = function(primals)
            seeds = tuple(tf.zeros_like(output) for output in outputs)
            outer.watch(seeds)
            pulled = _pulled_back(inner, outputs, primals, seeds)
        return _pulled_back(outer, pulled, seeds, tangents)


def _pulled_back(
    tape: tf.GradientTape,
    outputs: tuple[Tensor, ...],
    primals: tuple[Tensor, ...],
    cotangents: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    found = tape.gradient(
        list(outputs),
        list(primals),
        output_gradients=list(cotangents),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return tuple(tf.convert_to_tensor(gradient) for gradient in found)


def _dense(gradient: Any) -> Tensor | None:
    """The gradient as one tensor: lookups give theirs row by row."""
    return None if gradient is None else tf.convert_to_tensor(gradient)


def _sample_norms(tensor: Tensor) -> Tensor:
    """‖·‖₂ along the last axis of a matrix `(rows, values)`, in double precision.

    The squares of finite half, bfloat16 and single precision values do not overflow there, so a
    norm is finite exactly when all its values are.
    """
    return tf.math.reduce_euclidean_norm(tf.cast(tensor, tf.float64), axis=-1)


def make() -> Backend:
    """The backend."""
    return TensorFlow()
