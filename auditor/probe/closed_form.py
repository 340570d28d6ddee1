"""Norms of Jacobians that have a closed form: affine kernels, and normalization by the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from auditor.onnx_import.kernel_norm import frobenius_norm as onnx_norm
from auditor.onnx_import.kernel_norm import kernel_of
from auditor.probe.recording import RecordedCall
from auditor.probe.state import copied
from auditor.probe.structure import is_affine, onnx_run

Array = np.ndarray[Any, Any]
#: Layers with a kernel whose weights each enter J at known places.
CLOSED = frozenset(
    {
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
    }
)


def has_frobenius_norm(call: RecordedCall) -> bool:
    """Whether `frobenius_norm` knows the call's kind."""
    run = onnx_run(call)
    if run is not None:
        return is_affine(call) and kernel_of(run) is not None
    kind = type(call.operation).__name__
    if not is_affine(call) or kind not in CLOSED:
        return False
    return not kind.endswith("Transpose") or call.operation.output_padding is None


def frobenius_norm(call: RecordedCall) -> float:
    """‖J‖_F of one sample of a call that `has_frobenius_norm`.

    A weight enters J once for every place of the output at which its tap lies within the input,
    so ‖J‖²_F = Σ w² · (places). Transposed convolutions have the transposed Jacobian.
    """
    run = onnx_run(call)
    node = None if run is None else kernel_of(run)
    if run is not None and node is not None:
        return onnx_norm(run, node)
    layer = call.operation
    kind = type(layer).__name__
    inside = tuple(call.inputs[0].shape)
    outside = call.outputs[0][0]
    if kind == "Dense":
        return math.sqrt(math.prod(outside[1:-1]) * _squares(copied(layer.kernel)))
    if kind.endswith("Transpose"):
        inside, outside = outside, inside
    space = _spatial(layer, inside), _spatial(layer, outside)
    kernel = copied(layer.kernel)
    rank = len(layer.kernel_size)
    taps = np.square(kernel, dtype=np.float64).sum(axis=tuple(range(rank, kernel.ndim)))
    for axis in range(rank):
        places = _places(
            space[0][axis],
            space[1][axis],
            size=layer.kernel_size[axis],
            stride=layer.strides[axis],
            dilation=layer.dilation_rate[axis],
            padding=layer.padding,
        )
        taps = taps * places.reshape([-1 if a == axis else 1 for a in range(rank)])
    return math.sqrt(float(taps.sum()))


def batch_normalization_norms(call: RecordedCall) -> tuple[float, float] | None:
    """σ₁ and ‖J‖_F of normalization by the batch's statistics, the batch as one; None if masked.

    For a channel of N values, y = γ (x − μ) / s with s² = v + ε, and
    J = γ/s · (I − 11ᵀ/N − (x − μ)(x − μ)ᵀ/(N s²)): γ/s on N − 2 directions, 0 on the constant one,
    and γ/s · ε/(v + ε) along x − μ.
    """
    layer = call.operation
    x = call.inputs[0]
    if getattr(x, "_keras_mask", None) is not None or len(call.inputs) != 1:
        return None
    axis = layer.axis % len(x.shape)
    values = np.asarray(keras.ops.convert_to_numpy(x), np.float64)
    others = tuple(a for a in range(values.ndim) if a != axis)
    count = math.prod(values.shape[a] for a in others)
    if count < 3:
        return None
    variance = values.var(axis=others)
    gamma = copied(layer.gamma).astype(np.float64) if layer.scale else np.ones_like(variance)
    steepness = np.abs(gamma) / np.sqrt(variance + layer.epsilon)
    along = layer.epsilon / (variance + layer.epsilon)
    squares = np.square(steepness) * (count - 2 + np.square(along))
    return float(steepness.max()), math.sqrt(float(squares.sum()))


def _squares(array: Array) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))


def _spatial(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])


def _places(
    inside: int, outside: int, *, size: int, stride: int, dilation: int, padding: str
) -> Array:
    """How many output positions each tap of a kernel lies within the input at, `(size,)`."""
    reach = (size - 1) * dilation + 1
    before = 0
    if padding == "causal":
        before = reach - 1
    elif padding == "same":
        before = max((outside - 1) * stride + reach - inside, 0) // 2
    at = np.arange(outside)[:, None] * stride + np.arange(size)[None, :] * dilation - before
    places: Array = ((at >= 0) & (at < inside)).sum(axis=0)
    return places
