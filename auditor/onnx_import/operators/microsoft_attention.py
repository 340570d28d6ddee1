"""Attention as onnxruntime's optimizer fuses it."""

from __future__ import annotations

from functools import partial

import numpy as np
from keras import ops

from .attention import attended, heads_apart, heads_together, rotated
from .numbers import product
from .table import Node, Unsupported, Value, operator
from .tensors import cast, dtype_of, tensor

microsoft = partial(operator, domain="com.microsoft")


@microsoft("Attention", note="masks of lengths, (N, S) and (N, L, S)")
def packed_attention(
    node: Node,
    x: Value,
    weights: Value,
    bias: Value = None,
    mask: Value = None,
    past: Value = None,
    added: Value = None,
    past_length: Value = None,
) -> Value:
    """Self-attention with its projections: x (N, L, D), weights (D, 3 heads · E) → Y, present."""
    if past_length is not None or node.get("do_rotary", 0):
        raise Unsupported("a shared cache, or rotary embeddings within")
    projected = product(tensor(x), tensor(weights))
    projected = projected if bias is None else projected + tensor(bias)
    sizes = node.get("qkv_hidden_sizes") or [projected.shape[-1] // 3] * 3
    first, second = int(sizes[0]), int(sizes[0] + sizes[1])
    heads = int(node.get("num_heads"))
    q = heads_apart(projected[..., :first], heads)
    k = heads_apart(projected[..., first:second], heads)
    v = heads_apart(projected[..., second:], heads)
    if past is not None:
        past = tensor(past)
        k = ops.concatenate([past[0], k], axis=2)
        v = ops.concatenate([past[1], v], axis=2)
    y = _attended(node, q, k, v, mask, added)
    # Only a cache asks for it, and then keys and values have one size.
    return (y, ops.stack([k, v], axis=0)) if node.outputs > 1 else y


@microsoft("MultiHeadAttention", note="not with packed keys and values")
def multi_head_attention(
    node: Node,
    q: Value,
    k: Value = None,
    v: Value = None,
    bias: Value = None,
    mask: Value = None,
    added: Value = None,
    past_key: Value = None,
    past_value: Value = None,
    *rest: Value,
) -> Value:
    """Attention of (N, L, heads · E) on (N, S, heads · E) or (N, heads, S, E) → Y, k, v."""
    if k is None or v is None or len(q.shape) != 3 or any(value is not None for value in rest):
        raise Unsupported("packed keys and values, or a shared cache")
    heads = int(node.get("num_heads"))
    q, k, v = tensor(q), tensor(k), tensor(v)
    if bias is not None:
        bias = tensor(bias)
        first, second = q.shape[2], 2 * q.shape[2]
        q = q + bias[:first]
        if len(k.shape) == 3:
            k, v = k + bias[first:second], v + bias[second:]
    q = heads_apart(q, heads)
    k = heads_apart(k, heads) if len(k.shape) == 3 else k
    v = heads_apart(v, heads) if len(v.shape) == 3 else v
    if past_key is not None:
        k = ops.concatenate([tensor(past_key), k], axis=2)
        v = ops.concatenate([tensor(past_value), v], axis=2)
    return _attended(node, q, k, v, mask, added), k, v


@microsoft("RotaryEmbedding")
def rotary_embedding(node: Node, x: Value, positions: Value, cosines: Value, sines: Value) -> Value:
    """Features turned by their positions: x (N, L, heads · E) or (N, heads, L, E)."""
    if node.get("is_packed_batching", 0):
        raise Unsupported("packed batches")
    x, positions = tensor(x), tensor(positions)
    cosines, sines = tensor(cosines), tensor(sines)
    flat = len(x.shape) == 3
    size = int(node.get("rotary_embedding_dim", 0))
    length = x.shape[1] if flat else x.shape[2]
    if len(positions.shape) == 1:  # the position of the first
        positions = ops.reshape(positions, (1, 1)) + ops.arange(length, dtype=dtype_of(positions))
    # Without a number of heads, the tables say how large one is.
    heads = int(node.get("num_heads", 0)) or (x.shape[2] // (2 * cosines.shape[1]) if flat else 0)
    y = rotated(
        heads_apart(x, heads) if flat else x,
        ops.expand_dims(ops.take(cosines, positions, axis=0), 1),
        ops.expand_dims(ops.take(sines, positions, axis=0), 1),
        size=size,
        interleaved=bool(node.get("interleaved", 0)),
    )
    return heads_together(y) if flat else y


def _attended(node: Node, q: Value, k: Value, v: Value, mask: Value, added: Value) -> Value:
    """Attention with masks that add a large negative number, (N, L, heads · E)."""
    queries, keys = q.shape[2], k.shape[2]
    dtype = dtype_of(q)
    filter_value = float(node.get("mask_filter_value", -10000.0))
    bias = None if added is None else tensor(added)
    if mask is not None:
        filtered = (1 - cast(_seen(tensor(mask), keys), dtype)) * filter_value
        bias = filtered if bias is None else bias + filtered
    allowed = None
    if node.get("unidirectional", 0):
        ahead = np.arange(keys)[None, :] - np.arange(queries)[:, None]
        allowed = ops.convert_to_tensor(ahead <= keys - queries)
    y = attended(q, k, v, scale=node.get("scale") or None, bias=bias, allowed=allowed)[0]
    return heads_together(y)


def _seen(mask: Value, keys: int) -> Value:
    """Which keys count, broadcasting over (N, heads, L, S)."""
    rank = len(mask.shape)
    if rank == 1:
        ends = ops.reshape(cast(mask, "int32"), (-1, 1, 1, 1))
        return ops.less(ops.arange(keys, dtype="int32"), ends)
    if rank == 2:
        return ops.not_equal(mask[:, None, None, :], 0)
    if rank == 3:
        return ops.not_equal(mask[:, None], 0)
    raise Unsupported(f"a mask of rank {rank}")
