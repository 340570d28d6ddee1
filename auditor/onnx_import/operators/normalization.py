"""Normalizations by stored statistics, by those of the batch, and by those of the sample."""

from __future__ import annotations

import math

from keras import ops

from .numbers import NAMES, at_least_single, mean, root
from .table import Node, Unsupported, Value, operator
from .tensors import cast, dtype_of, tensor
from .windows import fit


@operator("BatchNormalization")
def batch_normalization(
    node: Node, x: Value, scale: Value, bias: Value, average: Value, variance: Value
) -> Value:
    """(N, C, …) by four (C) → Y; in training also the running statistics.

    Version 14 says by `training_mode` whether the batch's statistics hold; 7 and 9 by having more
    outputs than one; earlier ones by `is_test` = 0. Without `spatial` (before version 9) each
    element of a sample has statistics of its own.
    """
    momentum = float(node.get("momentum", 0.9))
    epsilon = float(node.get("epsilon", 1e-5))
    spatial = bool(node.get("spatial", 1)) or len(x.shape) < 3
    if node.since >= 14:
        training = bool(node.get("training_mode", 0))
    else:
        training = node.outputs > 1 or (node.since < 7 and not node.get("is_test", 0))
    dtype = dtype_of(x)
    shape = (1, -1, *(1,) * (len(x.shape) - 2)) if spatial else (1, *x.shape[1:])
    if not training:
        if spatial:
            parameters = [cast(value, dtype) for value in (average, variance, bias, scale)]
            return ops.batch_normalization(
                x,
                *parameters[:2],
                axis=1,
                offset=parameters[2],
                scale=parameters[3],
                epsilon=epsilon,
            )
        return _scaled(x, average, variance, scale, bias, epsilon, shape)
    axes = (0, *range(2, len(x.shape))) if spatial else (0,)
    wide = cast(x, at_least_single(dtype))
    centre = mean(wide, axes)
    batch_variance = mean(ops.square(wide - centre), axes, keepdims=False)
    batch_mean = ops.reshape(centre, ops.shape(batch_variance))
    y = _scaled(x, batch_mean, batch_variance, scale, bias, epsilon, shape)
    saved = [
        cast(ops.reshape(value, ops.shape(tensor(old))), dtype_of(old))
        for value, old in ((batch_mean, average), (batch_variance, variance))
    ]
    running = [
        tensor(old) * momentum + new * (1 - momentum)
        for old, new in zip((average, variance), saved, strict=True)
    ]
    return (y, *running) if node.since >= 14 else (y, *running, *saved)


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Value, scale: Value, bias: Value) -> Value:
    """(N, C, …) by (C), (C): statistics of each channel of each sample."""
    axes = tuple(range(2, len(x.shape)))
    shape = (1, -1, *(1,) * len(axes))
    y = standardized(x, axes, float(node.get("epsilon", 1e-5)))[0]
    return y * ops.reshape(tensor(scale), shape) + ops.reshape(tensor(bias), shape)


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Value, scale: Value, bias: Value = None) -> Value:
    """Statistics over the axes from `axis` on → Y, mean, 1 / deviation.

    The statistics are in `stash_type`, or in float64 where x is.
    """
    axes = _from_axis(node, x)
    stash = _stash(node, x)
    y, centre, inverse = standardized(cast(x, stash), axes, float(node.get("epsilon", 1e-5)))
    y = cast(y, dtype_of(x)) * tensor(scale)
    return y if bias is None else y + tensor(bias), centre, inverse


@operator("RMSNormalization")
def rms_normalization(node: Node, x: Value, scale: Value) -> Value:
    """Divided: x / √(mean x² + ε), over the axes from `axis` on, by a scale."""
    axes = _from_axis(node, x)
    wide = cast(x, _stash(node, x))
    inverse = inverse_rms(wide, axes, float(node.get("epsilon", 1e-5)))
    return cast(wide * inverse, dtype_of(x)) * tensor(scale)


@operator("GroupNormalization", since=18)
def group_normalization(node: Node, x: Value, scale: Value, bias: Value) -> Value:
    """(N, C, …): statistics of groups of channels; scale and bias (C), before version 21 (G)."""
    groups = int(node.get("num_groups"))
    channels = x.shape[1]
    if channels % groups:
        raise Unsupported(f"{channels} channels in {groups} groups")
    sizes = x.shape[2:]
    batch = ops.shape(x)[0]
    wide = cast(x, _stash(node, x)) if node.since >= 21 else x
    apart = ops.reshape(wide, (batch, groups, -1))
    y = cast(standardized(apart, (2,), float(node.get("epsilon", 1e-5)))[0], dtype_of(x))
    y = ops.reshape(y, (batch, groups, channels // groups, *sizes))
    inner = 1 if node.since < 21 else channels // groups
    shape = (1, groups, inner, *(1,) * len(sizes))
    y = y * ops.reshape(tensor(scale), shape) + ops.reshape(tensor(bias), shape)
    return ops.reshape(y, (batch, channels, *sizes))


@operator("LRN")
def local_response_normalization(node: Node, x: Value) -> Value:
    """Divided: x / (bias + alpha / size · Σ x²)^beta, the sum over `size` neighbouring channels."""
    size = int(node.get("size"))
    before, after = (size - 1) // 2, math.ceil((size - 1) / 2)
    channels = x.shape[1]
    squares = fit(ops.square(x), [(before, after)], first=1)
    total = sum(squares[:, place : place + channels] for place in range(size))
    base = float(node.get("bias", 1.0)) + float(node.get("alpha", 1e-4)) / size * total
    return x * ops.power(base, -float(node.get("beta", 0.75)))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Value) -> Value:
    """(x − mean) / (deviation + 1e-9) over `axes`."""
    axes = tuple(int(a) for a in node.get("axes") or (0, 2, 3))
    centred = x - mean(x, axes)
    return centred / (root(mean(ops.square(centred), axes)) + 1e-9)


@operator("LpNormalization")
def lp_normalization(node: Node, x: Value) -> Value:
    """The direction x / ‖x‖ₚ along `axis`, p of 1 or 2; 0 where the norm is."""
    axis = int(node.get("axis", -1))
    p = int(node.get("p", 2))
    if p not in (1, 2):
        raise Unsupported(f"a norm with p of {p}")
    if p == 1:
        norm = ops.sum(ops.abs(x), axis=axis, keepdims=True)
    else:
        norm = root(ops.sum(ops.square(x), axis=axis, keepdims=True))
    nothing = ops.equal(norm, 0)
    return ops.where(nothing, 0 * x, x / ops.where(nothing, ops.ones_like(norm), norm))


def standardized(x: Value, axes: tuple[int, ...], epsilon: float) -> tuple[Value, Value, Value]:
    """((x − mean) / √(variance + ε), mean, 1 / √(variance + ε)); axes are kept."""
    centre = mean(x, axes)
    centred = x - centre
    variance = mean(ops.square(centred), axes)
    inverse = ops.rsqrt(variance + epsilon)
    return centred * inverse, centre, inverse


def inverse_rms(x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """1 / √(mean x² + ε)."""
    return ops.rsqrt(mean(ops.square(x), axes) + epsilon)


def _scaled(
    x: Value,
    average: Value,
    variance: Value,
    scale: Value,
    bias: Value,
    epsilon: float,
    shape: tuple[int, ...],
) -> Value:
    dtype = dtype_of(x)
    average, variance, scale, bias = (
        ops.reshape(cast(value, dtype), shape) for value in (average, variance, scale, bias)
    )
    return (x - average) * (ops.rsqrt(variance + epsilon) * scale) + bias


def _from_axis(node: Node, x: Value) -> tuple[int, ...]:
    rank = len(x.shape)
    axis = int(node.get("axis", -1))
    return tuple(range(axis + rank if axis < 0 else axis, rank))


def _stash(node: Node, x: Value) -> str:
    return "float64" if dtype_of(x) == "float64" else NAMES[int(node.get("stash_type", 1))]
