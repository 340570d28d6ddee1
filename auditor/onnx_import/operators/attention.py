"""Scaled dot-product attention and rotary position embeddings."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from .numbers import NAMES, at_least_single, product
from .table import Node, Unsupported, Value, operator
from .tensors import cast, dtype_of, tensor
from .windows import fit


@operator("Attention", since=23)
def attention(
    node: Node,
    q: Value,
    k: Value,
    v: Value,
    mask: Value = None,
    past_key: Value = None,
    past_value: Value = None,
    lengths: Value = None,
) -> Value:
    """softmax(q kᵀ · scale + bias) v, with grouped heads, a cache and masks.

    q: (N, heads, L, E) or (N, L, heads · E); k and v likewise with their own heads.
    lengths: (N) how many of the keys hold something (an external cache).
    Returns: Y in q's layout, the present keys and values (N, heads, S, E), and the scores as far
    as `qk_matmul_output_mode` says. A query that may attend to nothing gets 0.
    """
    flat = len(q.shape) == 3
    q, k, v = tensor(q), tensor(k), tensor(v)
    if flat:
        q = heads_apart(q, int(node.get("q_num_heads")))
        k = heads_apart(k, int(node.get("kv_num_heads")))
        v = heads_apart(v, int(node.get("kv_num_heads")))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k = ops.concatenate([tensor(past_key), k], axis=2)
        v = ops.concatenate([tensor(past_value), v], axis=2)
    dtype = dtype_of(q)
    queries, keys = q.shape[2], k.shape[2]
    offset = past if lengths is None else tensor(lengths) - queries
    allowed = _allowed(node, queries, keys, offset)
    if lengths is not None:
        filled = ops.less(
            ops.arange(keys, dtype="int32"),
            ops.reshape(ops.cast(tensor(lengths), "int32"), (-1, 1, 1, 1)),
        )
        allowed = filled if allowed is None else ops.logical_and(allowed, filled)
    bias = None
    if mask is not None:
        mask = tensor(mask)
        missing = keys - mask.shape[-1]
        axis = len(mask.shape) - 1
        if dtype_of(mask) == "bool":
            seen = ops.cast(fit(ops.cast(mask, "int32"), [(0, missing)], first=axis), "bool")
            allowed = seen if allowed is None else ops.logical_and(allowed, seen)
        else:
            bias = fit(mask, [(0, missing)], first=axis, fill=-np.inf)
    y, scores = attended(
        q,
        k,
        v,
        scale=node.get("scale"),
        bias=bias,
        allowed=allowed,
        softcap=float(node.get("softcap", 0.0)),
        precision=node.get("softmax_precision"),
        mode=int(node.get("qk_matmul_output_mode", 0)),
    )
    if flat:
        y = heads_together(y)
    return cast(y, dtype), k, v, cast(scores, dtype)


def attended(
    q: Value,
    k: Value,
    v: Value,
    *,
    scale: float | None = None,
    bias: Value = None,
    allowed: Value = None,
    softcap: float = 0.0,
    precision: int | None = None,
    mode: int = 0,
) -> tuple[Value, Value]:
    """Attention of (N, heads, L, E) on (N, heads of keys, S, E).

    bias: added to the scores; allowed: bool, which keys a query sees; both broadcast to
    (N, heads, L, S). softcap: c tanh(scores / c), before the bias. precision: the element type of
    the softmax, where the inputs have less than float64. mode: which scores are returned: 0 plain,
    1 capped, 2 with bias, 3 after softmax.
    """
    dtype = dtype_of(q)
    heads, groups = q.shape[1], k.shape[1]
    if heads != groups:
        if heads % groups:
            raise Unsupported(f"{heads} heads of queries on {groups} of keys")
        k = ops.repeat(k, heads // groups, axis=1)
        v = ops.repeat(v, heads // groups, axis=1)
    factor = math.sqrt(1 / math.sqrt(q.shape[3]) if scale is None else float(scale))
    factor = ops.cast(factor, dtype)  # as the operator's body rounds it
    scores = returned = _product(q * factor, ops.swapaxes(k, 2, 3) * factor)
    if softcap > 0:
        scores = softcap * ops.tanh(scores / softcap)
        returned = scores if mode == 1 else returned
    if bias is not None:
        scores = scores + cast(bias, dtype)
    if allowed is not None:
        scores = ops.where(allowed, scores, ops.cast(-math.inf, dtype))
    returned = scores if mode == 2 else returned
    if precision is not None and dtype != "float64":
        scores = cast(scores, NAMES[int(precision)])
    shares = cast(masked_softmax(scores), dtype)
    returned = shares if mode == 3 else returned
    return _product(shares, v), returned


def masked_softmax(scores: Value) -> Value:
    """Softmax over the last axis; a row of −∞ alone gives zeros, and a zero derivative."""
    dtype = dtype_of(scores)
    scores = cast(scores, at_least_single(dtype))
    largest = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    largest = ops.where(ops.isfinite(largest), largest, ops.zeros_like(largest))
    exponentials = cast(cast(ops.exp(scores - largest), dtype), dtype_of(scores))
    total = ops.sum(exponentials, axis=-1, keepdims=True)
    total = cast(cast(total, dtype), dtype_of(scores))
    shares = exponentials / ops.where(ops.equal(total, 0), ops.ones_like(total), total)
    return cast(shares, dtype)


def heads_apart(x: Value, heads: int) -> Value:
    """(N, L, heads · E) → (N, heads, L, E)."""
    size = x.shape[2] // heads
    return ops.transpose(ops.reshape(x, (-1, x.shape[1], heads, size)), (0, 2, 1, 3))


def heads_together(x: Value) -> Value:
    """(N, heads, L, E) → (N, L, heads · E)."""
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, x.shape[2], x.shape[1] * x.shape[3]))


@operator("RotaryEmbedding", since=23)
def rotary_embedding(
    node: Node, x: Value, cosines: Value, sines: Value, positions: Value = None
) -> Value:
    """Pairs of features turned by an angle of their position (Su et al. 2021).

    x: (N, heads, L, E) or (N, L, heads · E). cosines, sines: (N, L, R / 2), or (positions, R / 2)
    to look `positions` (N, L) up in.
    """
    x, cosines, sines = tensor(x), tensor(cosines), tensor(sines)
    if positions is not None:
        cosines = ops.take(cosines, tensor(positions), axis=0)
        sines = ops.take(sines, tensor(positions), axis=0)
    flat = len(x.shape) == 3
    apart = heads_apart(x, int(node.get("num_heads"))) if flat else x
    turned = rotated(
        apart,
        ops.expand_dims(cosines, 1),
        ops.expand_dims(sines, 1),
        size=int(node.get("rotary_embedding_dim", 0)),
        interleaved=bool(node.get("interleaved", 0)),
    )
    return heads_together(turned) if flat else turned


def rotated(
    x: Value, cosines: Value, sines: Value, *, size: int = 0, interleaved: bool = False
) -> Value:
    """The first `size` features (0: all) of (N, heads, L, E), turned in pairs.

    cosines, sines: broadcast to (N, heads, L, size / 2). interleaved: pairs are neighbours, else
    halves.
    """
    size = size or x.shape[-1]
    turning, rest = x[..., :size], x[..., size:]
    if interleaved:
        first, second = turning[..., 0::2], turning[..., 1::2]
    else:
        first, second = turning[..., : size // 2], turning[..., size // 2 :]
    real = cosines * first - sines * second
    imaginary = sines * first + cosines * second
    if interleaved:
        shape = (*ops.shape(real)[:-1], size)
        turned = ops.reshape(ops.stack([real, imaginary], axis=-1), shape)
    else:
        turned = ops.concatenate([real, imaginary], axis=-1)
    return turned if size == x.shape[-1] else ops.concatenate([turned, rest], axis=-1)


def _product(a: Value, b: Value) -> Value:
    """A matrix product whose sums are at least float32."""
    dtype = dtype_of(a)
    wide = at_least_single(dtype)
    return cast(product(cast(a, wide), cast(b, wide)), dtype)


def _allowed(node: Node, queries: int, keys: int, offset: Value) -> Value:
    """Which keys a query sees, by causality and a sliding window; None for all.

    offset: how many keys precede the block of queries: a number, or one a sample.
    """
    left = int(node.get("left_window_size", -1))
    right = int(node.get("right_window_size", -1))
    if node.get("is_causal", 0):
        right = 0 if right < 0 else min(right, 0)
    if left < 0 and right < 0:
        return None
    ahead = np.arange(keys, dtype=np.int32)[None, :] - np.arange(queries, dtype=np.int32)[:, None]
    ahead = ops.convert_to_tensor(ahead)
    if isinstance(offset, int):
        ahead = ahead - offset
    else:
        ahead = ahead - ops.reshape(ops.cast(offset, "int32"), (-1, 1, 1, 1))
    allowed = ops.ones_like(ahead, dtype="bool")
    if right >= 0:
        allowed = ops.logical_and(allowed, ops.less_equal(ahead, right))
    if left >= 0:
        allowed = ops.logical_and(allowed, ops.greater_equal(ahead, -left))
    return allowed
