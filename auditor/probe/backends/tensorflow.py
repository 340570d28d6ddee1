"""The probe on TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from auditor.errors import ProbeFailed
from auditor.probe.backends import Backend, CompiledPass, PassResult, Program, Tensor


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

        def trace(x: list[Tensor], y: list[Tensor], scale: Tensor) -> tuple[Any, Any]:
            variables = [variable.value for variable in program.variables]
            with tf.GradientTape() as tape:
                forward = program.forward(x, y, tape.watch)
                objective = tf.cast(forward.objective, tf.float32) * scale
            sources = [*forward.watched, *variables]
            gradients = [_dense(g) for g in tape.gradient(objective, sources)] if sources else []
            split = len(forward.watched)
            values = program.reduce(forward, gradients[:split], gradients[split:], _sample_norms)
            return values, gradients[split:]

        # Keras traces its own training step without AutoGraph as well.
        compiled = tf.function(trace, autograph=False)

        def run(
            x: Sequence[np.ndarray[Any, Any]], y: Sequence[np.ndarray[Any, Any]], scale: float
        ) -> PassResult:
            values, gradients = compiled(
                [tf.constant(array) for array in x],
                [tf.constant(array) for array in y],
                tf.constant(scale, tf.float32),
            )
            return PassResult(
                values={name: value.numpy() for name, value in values.items()},
                gradients=tuple(gradients),
            )

        return run


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
