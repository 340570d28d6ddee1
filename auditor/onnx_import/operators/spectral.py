"""Discrete Fourier transforms: complex numbers are pairs in the last dimension."""

from __future__ import annotations

import numpy as np
from keras import ops

from .indexing import part
from .table import Node, Unsupported, Value, known, operator
from .tensors import axis_of, cast, dtype_of, shape_of, tensor


@operator("DFT", note="the length and the axis are known before the model runs")
def fourier(node: Node, value: Value, length: Value = None, axis: Value = None) -> Value:
    """The transform along an axis, or its inverse; one-sided: half of it, of real numbers."""
    value = tensor(value)
    if node.since >= 20:
        along = -2 if axis is None else int(known(axis, "the axis").reshape(()))
    else:
        along = node.get("axis", 1)
    size = None if length is None else int(known(length, "the length").reshape(()))
    place = axis_of(along, len(value.shape))
    inverse, onesided = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    return _transformed(value, place, size, inverse=inverse, onesided=onesided)


@operator("STFT", note="step and length are known before the model runs")
def short_time_fourier(
    node: Node, signal: Value, step: Value, window: Value = None, length: Value = None
) -> Value:
    """Transforms of windows that step along a signal: (batch, frames, frequencies, 2)."""
    signal = tensor(signal)
    hop = int(known(step, "the step").reshape(()))
    if length is not None:
        size = int(known(length, "the length").reshape(()))
    elif window is not None:
        size = shape_of(window)[0]
    else:
        raise Unsupported("neither a window nor a length")
    if hop < 1:
        raise Unsupported(f"a step of {hop}")
    frames = 1 + (shape_of(signal)[1] - size) // hop
    places = np.arange(frames)[:, None] * hop + np.arange(size)[None]
    taken = ops.take(signal, places.astype(np.int32), axis=1)
    if window is not None:
        taken = taken * ops.reshape(tensor(window), (size, 1))
    return _transformed(taken, 2, size, inverse=False, onesided=bool(node.get("onesided", 1)))


def _transformed(
    value: Value, axis: int, length: int | None, *, inverse: bool, onesided: bool
) -> Value:
    dtype = dtype_of(value)
    if dtype in ("float16", "bfloat16"):
        value = cast(value, "float32")
    real = ops.moveaxis(value[..., 0], axis, -1)
    is_complex = shape_of(value)[-1] == 2
    held = shape_of(real)[-1]
    if length is None:
        length = 2 * (held - 1) if inverse and onesided else held
    if not inverse and not is_complex:
        parts = [_fitted(x, length // 2 + 1) for x in ops.rfft(_fitted(real, length))]
        if not onesided:
            parts = [_whole(x, length, sign) for x, sign in zip(parts, (1, -1), strict=True)]
    else:
        imaginary = ops.moveaxis(value[..., 1], axis, -1) if is_complex else ops.zeros_like(real)
        if inverse and onesided:
            half = length // 2 + 1
            real = _whole(_fitted(real, half), length, 1)
            imaginary = _whole(_fitted(imaginary, half), length, -1)
        pair = _fitted(real, length), _fitted(imaginary, length)
        parts = _inverse(*pair, length) if inverse else list(ops.fft(pair))
        if onesided:
            parts = parts[:1] if inverse else [_fitted(x, length // 2 + 1) for x in parts]
    moved = [ops.moveaxis(x, -1, axis) for x in parts]
    return cast(ops.stack(moved, axis=-1), dtype)


def _inverse(real: Value, imaginary: Value, length: int) -> list[Value]:
    """The inverse transform as conj(F(conj(x))) / n."""
    real, imaginary = ops.fft((real, -imaginary))
    return [real / length, -imaginary / length]


def _whole(half: Value, length: int, sign: int) -> Value:
    """A whole spectrum from its first half, whose mirror image is the conjugate."""
    last = len(half.shape) - 1
    mirrored = ops.flip(part(half, last, 1, (length + 1) // 2), axis=last)
    return ops.concatenate([half, mirrored * sign], axis=last)


def _fitted(value: Value, length: int) -> Value:
    """A tensor cut or filled up with zeros to a length of its last dimension."""
    last = len(value.shape) - 1
    held = shape_of(value)[last]
    if held >= length:
        return part(value, last, 0, length)
    return ops.pad(value, [(0, 0)] * last + [(0, length - held)])
