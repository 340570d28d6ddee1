"""Activations, element by element.

Where a formula has two branches, each is computed on numbers at which it is finite: a select
alone would hand the gradient 0 · inf = NaN from the branch not taken.
"""

from __future__ import annotations

import math

from keras import ops

from .mathematics import evaluated
from .table import Node, Unsupported, Value, operator
from .tensors import shape_of, tensor


@operator("Relu")
def relu(node: Node, value: Value) -> Value:
    """max(0, x)."""
    return ops.relu(tensor(value))


@operator("LeakyRelu")
def leaky_relu(node: Node, value: Value) -> Value:
    """The value, or α · x below 0."""
    value = tensor(value)
    return ops.where(value < 0, value * node.get("alpha", 0.01), value)


@operator("PRelu")
def parametric_relu(node: Node, value: Value, slope: Value) -> Value:
    """The value, or slope · x below 0; before version 7 a slope of rank 1 is one a channel."""
    value, slope = tensor(value), tensor(slope)
    rank = len(value.shape)
    if node.since < 7 and len(slope.shape) == 1 and shape_of(slope) != (1,) and rank > 1:
        slope = ops.reshape(slope, shape_of(slope) + (1,) * (rank - 2))
    return ops.where(value < 0, value * slope, value)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, value: Value) -> Value:
    """The value above α, else 0."""
    value = tensor(value)
    return ops.where(value > node.get("alpha", 1.0), value, ops.zeros_like(value))


@operator("Elu")
def elu(node: Node, value: Value) -> Value:
    """The value, or α (eˣ − 1) below 0."""
    return _exponential_linear(tensor(value), node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, value: Value) -> Value:
    """γ x, or γ α (eˣ − 1) below 0."""
    scale = node.get("gamma", 1.0507)
    return _exponential_linear(tensor(value), node.get("alpha", 1.6732)) * scale


@operator("Celu")
def celu(node: Node, value: Value) -> Value:
    """The value, or α (e^(x/α) − 1) below 0."""
    alpha = node.get("alpha", 1.0)
    return _exponential_linear(tensor(value), alpha, width=alpha)


def _exponential_linear(value: Value, alpha: float, width: float = 1.0) -> Value:
    below = value < 0
    safe = ops.where(below, value, ops.zeros_like(value))
    return ops.where(below, ops.expm1(safe / width) * alpha, value)


@operator("Sigmoid")
def sigmoid(node: Node, value: Value) -> Value:
    """1 / (1 + e⁻ˣ)."""
    return ops.sigmoid(tensor(value))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, value: Value) -> Value:
    """α x + β, held between 0 and 1."""
    return _ramp(tensor(value), node.get("alpha", 0.2), node.get("beta", 0.5))


@operator("HardSwish")
def hard_swish(node: Node, value: Value) -> Value:
    """The product x · (x / 6 + 1/2 held between 0 and 1)."""
    value = tensor(value)
    return value * _ramp(value, 1 / 6, 0.5)


def _ramp(value: Value, slope: float, offset: float) -> Value:
    line = value * slope + offset
    line = ops.where(line < 0, ops.zeros_like(line), line)
    return ops.where(line > 1, ops.ones_like(line), line)


@operator("Gelu")
def gelu(node: Node, value: Value) -> Value:
    """The product x · Φ(x), exact or by tanh."""
    return ops.gelu(tensor(value), approximate=node.get("approximate", "none") == "tanh")


@operator("Swish")
def swish(node: Node, value: Value) -> Value:
    """The product x · sigmoid(α x)."""
    value = tensor(value)
    return value * ops.sigmoid(value * node.get("alpha", 1.0))


@operator("SwiGLU")
def swiglu(node: Node, gate: Value, value: Value) -> Value:
    """swish(A) · B."""
    return swish(node, gate) * tensor(value)


@operator("Mish")
def mish(node: Node, value: Value) -> Value:
    """The product x · tanh(softplus(x))."""
    value = tensor(value)
    return value * evaluated("Tanh", ops.softplus(value))


@operator("Softplus")
def softplus(node: Node, value: Value) -> Value:
    """ln(1 + eˣ)."""
    return ops.softplus(tensor(value))


@operator("Softsign")
def softsign(node: Node, value: Value) -> Value:
    """The quotient x / (1 + |x|)."""
    value = tensor(value)
    return value / (1 + ops.absolute(value))


@operator("Shrink")
def shrink(node: Node, value: Value) -> Value:
    """The value moved by `bias` toward 0 beyond ±`lambd`, else 0."""
    value = tensor(value)
    threshold, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    moved = ops.where(value < -threshold, value + bias, value - bias)
    inside = ops.logical_and(value >= -threshold, value <= threshold)
    return ops.where(inside, ops.zeros_like(value), moved)


@operator("Softmax")
def softmax(node: Node, value: Value) -> Value:
    """eˣ over its sum."""
    return _over_axis(node, value, "Softmax")


@operator("LogSoftmax")
def log_softmax(node: Node, value: Value) -> Value:
    """The logarithm of the softmax."""
    return _over_axis(node, value, "LogSoftmax")


@operator("Hardmax", differentiable=False)
def hardmax(node: Node, value: Value) -> Value:
    """1 at the first greatest element, else 0."""
    return _over_axis(node, value, "Hardmax")


def _over_axis(node: Node, value: Value, kind: str) -> Value:
    """Along one axis; before version 13 over all dimensions from an axis (by default 1) on."""
    value = tensor(value)
    shape = shape_of(value)
    if not shape:
        raise Unsupported("a softmax of a scalar")
    if node.since >= 13:
        return _normalized(value, node.get("axis", -1), kind)
    axis = node.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    rows = 1
    for size in shape[:axis]:
        rows *= size
    flat = ops.reshape(value, (rows, -1) if 0 not in shape else (rows, 0))
    return ops.reshape(_normalized(flat, -1, kind), shape)


def _softmax(value: Value, axis: int) -> Value:
    """NaN where every score is −inf, with the gradient 0 there instead of NaN.

    A masked row whose NaN the graph replaces afterwards must not spoil the rest's gradient.
    """
    dead = ops.max(ops.stop_gradient(value), axis=axis, keepdims=True) == -math.inf
    shares = ops.softmax(ops.where(dead, ops.zeros_like(value), value), axis=axis)
    return ops.where(dead, ops.full_like(value, math.nan), shares)


def _normalized(value: Value, axis: int, kind: str) -> Value:
    if 0 in shape_of(value):
        return value
    if kind == "Softmax":
        return _softmax(value, axis)
    if kind == "LogSoftmax":
        return ops.log_softmax(value, axis=axis)
    size = shape_of(value)[axis]
    first = ops.argmax(value, axis=axis)
    return ops.one_hot(first, size, axis=axis, dtype=value.dtype)
