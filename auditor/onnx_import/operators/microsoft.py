"""Operators of onnxruntime's own domain that its optimizer fuses from float ones."""

from __future__ import annotations

from functools import partial

import numpy as np
from keras import ops

from .convolution import conv
from .normalization import inverse_rms, standardized
from .numbers import at_least_single, product
from .recurrent import activation
from .sampling import grid_sample
from .table import Node, Unsupported, Value, is_known, operator
from .tensors import cast, dtype_of, tensor
from .windows import elements

DOMAIN = "com.microsoft"
microsoft = partial(operator, domain=DOMAIN)

microsoft("GridSample")(grid_sample)


@microsoft("Gelu")
def gelu(node: Node, x: Value) -> Value:
    """The product x Φ(x)."""
    return ops.gelu(tensor(x), approximate=False)


@microsoft("BiasGelu")
def bias_gelu(node: Node, x: Value, bias: Value) -> Value:
    """Gelu of x + bias."""
    return ops.gelu(tensor(x) + tensor(bias), approximate=False)


@microsoft("FastGelu")
def fast_gelu(node: Node, x: Value, bias: Value = None) -> Value:
    """Gelu of x + bias, by its tanh approximation."""
    x = tensor(x) if bias is None else tensor(x) + tensor(bias)
    return ops.gelu(x, approximate=True)


@microsoft("QuickGelu")
def quick_gelu(node: Node, x: Value) -> Value:
    """The product x σ(alpha x)."""
    return x * ops.sigmoid(float(node.get("alpha", 1.702)) * x)


@microsoft("BiasSplitGelu")
def bias_split_gelu(node: Node, x: Value, bias: Value) -> Value:
    """(…, 2 D) + bias → the first half by Gelu of the second."""
    x = tensor(x) + tensor(bias)
    half = x.shape[-1] // 2
    return x[..., :half] * ops.gelu(x[..., half:], approximate=False)


@microsoft("BiasAdd")
def bias_add(node: Node, x: Value, bias: Value, skip: Value) -> Value:
    """The sum x + bias + skip."""
    return tensor(x) + tensor(bias) + tensor(skip)


@microsoft("FusedMatMul", "TransposeMatMul")
def fused_matmul(node: Node, a: Value, b: Value) -> Value:
    """The product alpha · a b; either may be transposed, in its last axes or its batch's."""
    a = _turned(tensor(a), bool(node.get("transA", 0)), bool(node.get("transBatchA", 0)))
    b = _turned(tensor(b), bool(node.get("transB", 0)), bool(node.get("transBatchB", 0)))
    y = product(a, b)
    alpha = float(node.get("alpha", 1.0))
    return y if alpha == 1 else y * alpha


@microsoft("FusedGemm")
def fused_gemm(node: Node, a: Value, b: Value, c: Value = None) -> Value:
    """An activation of alpha · a b + beta · c."""
    a = _turned(tensor(a), bool(node.get("transA", 0)), False)
    b = _turned(tensor(b), bool(node.get("transB", 0)), False)
    y = product(a, b) * float(node.get("alpha", 1.0))
    if c is not None:
        y = y + tensor(c) * float(node.get("beta", 1.0))
    given = (node.get("activation_alpha"), node.get("activation_beta"))
    return _activated(node, y, [value for value in given if value is not None])


@microsoft("FusedConv")
def fused_conv(node: Node, x: Value, w: Value, b: Value = None, z: Value = None) -> Value:
    """An activation of a convolution plus z."""
    y = conv(node, x, w, b)
    return _activated(node, y if z is None else y + tensor(z), node.get("activation_params") or ())


@microsoft("SkipLayerNormalization")
def skip_layer_normalization(
    node: Node, x: Value, skip: Value, gamma: Value, beta: Value = None, bias: Value = None
) -> Value:
    """LayerNormalization of x + skip + bias → Y, mean, 1 / deviation, the sum."""
    total = tensor(x) + tensor(skip)
    total = total if bias is None else total + tensor(bias)
    y, centre, inverse = _normalized(node, total, gamma, beta)
    return y, centre, inverse, total


@microsoft("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    node: Node, x: Value, skip: Value, gamma: Value, bias: Value = None
) -> Value:
    """RMS normalization of x + skip + bias → Y, nothing, 1 / rms, the sum."""
    total = tensor(x) + tensor(skip)
    total = total if bias is None else total + tensor(bias)
    wide = cast(total, at_least_single(dtype_of(total)))
    inverse = inverse_rms(wide, (-1,), float(node.get("epsilon", 1e-12)))
    return cast(wide * inverse, dtype_of(total)) * tensor(gamma), None, inverse, total


@operator("SimplifiedLayerNormalization")
@microsoft("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node, x: Value, scale: Value) -> Value:
    """RMS normalization over the axes from `axis` on → Y, 1 / rms.

    onnxruntime's own, though it puts it into the domain of ONNX.
    """
    x = tensor(x)
    axis = int(node.get("axis", -1)) % len(x.shape)
    wide = cast(x, at_least_single(dtype_of(x)))
    axes = tuple(range(axis, len(x.shape)))
    inverse = inverse_rms(wide, axes, float(node.get("epsilon", 1e-5)))
    return cast(wide * inverse, dtype_of(x)) * tensor(scale), inverse


@microsoft("EmbedLayerNormalization")
def embed_layer_normalization(
    node: Node,
    words: Value,
    segments: Value,
    word_table: Value,
    position_table: Value,
    segment_table: Value = None,
    gamma: Value = None,
    beta: Value = None,
    mask: Value = None,
    positions: Value = None,
) -> Value:
    """LayerNormalization of the sum of three embeddings → Y, the mask's lengths, the sum."""
    words = tensor(words)
    length = words.shape[1]
    total = ops.take(tensor(word_table), words, axis=0)
    if positions is None:
        total = total + tensor(position_table)[:length]
    else:
        total = total + ops.take(tensor(position_table), tensor(positions), axis=0)
    if segments is not None and segment_table is not None:
        total = total + ops.take(tensor(segment_table), tensor(segments), axis=0)
    y = _normalized(node, total, gamma, beta)[0]
    if mask is None:
        filled = ops.zeros((words.shape[0],), "int32")
    else:
        filled = ops.sum(cast(mask, "int32"), axis=1)
    return y, cast(filled, "int32"), total


@microsoft("MatMulNBits", note="blocks of 2, 4 and 8 bits")
def matmul_n_bits(
    node: Node,
    a: Value,
    b: Value,
    scales: Value,
    zero_points: Value = None,
    group: Value = None,
    bias: Value = None,
) -> Value:
    """(…, K) by a known matrix of small blocks of small integers, (N, blocks, bytes) → (…, N)."""
    bits, block = int(node.get("bits", 4)), int(node.get("block_size"))
    inner, outputs = int(node.get("K")), int(node.get("N"))
    if not is_known(b) or bits not in (2, 4, 8) or (group is not None and elements(group.shape)):
        raise Unsupported("packed weights that are computed, reordered, or of other bits")
    blocks = -(-inner // block)
    whole = _unpacked(np.asarray(b).reshape(outputs, blocks, -1), bits)[..., :block]
    middle: Value = float(1 << (bits - 1))
    if zero_points is not None:
        if is_known(zero_points) and zero_points.dtype == np.uint8:
            middle = _unpacked(np.asarray(zero_points).reshape(outputs, -1), bits)[:, :blocks, None]
            middle = middle.astype(np.float32)
        else:
            middle = ops.reshape(tensor(zero_points), (outputs, blocks, 1))
    dtype = dtype_of(a)
    centred = cast(whole, dtype) - (middle if isinstance(middle, float) else cast(middle, dtype))
    weights = centred * ops.reshape(cast(scales, dtype), (outputs, blocks, 1))
    weights = ops.reshape(weights, (outputs, blocks * block))[:, :inner]
    y = product(tensor(a), ops.transpose(weights))
    return y if bias is None else y + tensor(bias)


def _turned(x: Value, matrix: bool, batch: bool) -> Value:
    """The last two axes swapped; with `batch` the first of them was in front of the batch."""
    rank = len(x.shape)
    if batch and rank > 2:
        x = ops.transpose(x, (*range(1, rank - 1), 0, rank - 1))
    return ops.swapaxes(x, -1, -2) if matrix and rank > 1 else x


def _activated(node: Node, x: Value, parameters: object) -> Value:
    name = str(node.get("activation", "") or "").lower()
    values = [float(value) for value in parameters]  # type: ignore[attr-defined]
    if not name:
        return x
    if name == "clip":
        return ops.clip(x, *values)
    if name == "hardswish":
        return x * ops.clip(x / 6 + 0.5, 0.0, 1.0)
    return activation(name, iter(values[:1]), iter(values[1:]))(x)


def _normalized(node: Node, x: Value, gamma: Value, beta: Value) -> tuple[Value, Value, Value]:
    wide = cast(x, at_least_single(dtype_of(x)))
    y, centre, inverse = standardized(wide, (-1,), float(node.get("epsilon", 1e-12)))
    y = cast(y, dtype_of(x)) * tensor(gamma)
    return (y if beta is None else y + tensor(beta)), centre, inverse


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """(…, bytes) → (…, bytes · 8 / bits), the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    apart = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return apart.reshape(*packed.shape[:-1], -1)
