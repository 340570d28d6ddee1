"""Attention at the start: how far its weights are from uniform, and how large its logits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.ops.nn import DotProductAttention

from auditor.measurement import AttentionMeasurement
from auditor.probe.backends import Tensor
from auditor.probe.recording import RecordedCall
from auditor.probe.tally import distribution
from auditor.probe.training_pass import first_line

Array = np.ndarray[Any, Any]

#: Samples of the batch that are looked at, fewer where they have more weights in all.
SAMPLES = 8
MOST_WEIGHTS = 2**25
#: What the weights of a query may miss of 1, by rounding alone.
SUM_TOLERANCE = 0.02
ONE_KEY = "none of its queries sees two keys"
ATTENTION_LAYERS = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,
)
#: The smallest normal number of bfloat16 and single precision; their logarithms reach to −87.
SMALLEST = 2.0**-126
#: A bias this far below stands for a mask: exp of it is nothing.
HIDING_BIAS = -1e4


def attends(operation: Any) -> bool:
    """Whether `attention` is to be asked of this layer's or operation's calls."""
    return isinstance(operation, (*ATTENTION_LAYERS, DotProductAttention))


def attention(call: RecordedCall) -> AttentionMeasurement | str:
    """The call's logit scale and entropy, or why there are none.

    The call runs again on its recorded arguments, for its weights and without dropout. Weights
    are a softmax of the logits, so that their logarithm differs from the logits by the same
    number for all keys of a query, and has their standard deviation. A weight that underflowed
    counts as the smallest normal number of single precision, e^−87, so that where logits lie that
    far apart their scale is a lower bound. Keys that a mask hides are left out, and so are queries
    that see fewer than two keys.
    """
    try:
        weights = _weights(call)
    except Exception as error:  # a subclass is the model's own code and may raise anything
        kind = type(error).__name__
        return f"asked for its attention weights, it raised {kind}: {first_line(error)}"
    return weights if isinstance(weights, str) else _measured(weights)


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """What a call's queries weigh their keys by.

    weights: `(samples, heads, queries, keys)`. seen: whether no mask hides a key, boolean, of
    the same shape or one that broadcasts to it.
    """

    weights: Tensor
    seen: Tensor


def _weights(call: RecordedCall) -> _Weights | str:
    """The weights of a few samples, or why there are none."""
    operation = call.operation
    signature = inspect.signature(operation.call)
    of_layer = not isinstance(operation, DotProductAttention)
    if of_layer and "return_attention_scores" not in signature.parameters:
        return "it has no argument return_attention_scores to ask for its weights"
    if of_layer and operation.compute_dtype == "float16":
        return "in float16 its weights underflow from 17 nats below 1 on"
    bound = signature.bind(*call.args, **call.kwargs)
    if isinstance(operation, keras.layers.Attention):
        query, value = bound.arguments["inputs"][:2]
    else:
        query, value = bound.arguments["query"], bound.arguments["value"]
    if _positions(value, operation) < 2:
        return ONE_KEY
    heads = getattr(operation, "num_query_heads", getattr(operation, "num_heads", 1))
    heads = heads if of_layer else query.shape[2]
    sample = heads * _positions(query, operation) * _positions(value, operation)
    if sample > MOST_WEIGHTS:
        return f"a sample has {sample:,} attention weights, more than {MOST_WEIGHTS:,}"
    samples = min(SAMPLES, max(1, MOST_WEIGHTS // sample))
    for name, given in bound.arguments.items():
        bound.arguments[name] = _first(given, samples, int(query.shape[0]), name)
    if not of_layer:
        return _weights_of_operation(operation, bound.arguments)
    bound.arguments["return_attention_scores"] = True
    if "training" in signature.parameters:
        bound.arguments["training"] = False
    masks = _masks(operation, bound.arguments)
    outputs = operation(*bound.args, **bound.kwargs)
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2 or outputs[1] is None:
        return "asked for its attention weights, it returned none"
    return _laid_out(operation, outputs[1], masks, bool(bound.arguments.get("use_causal_mask")))


def _positions(tensor: Tensor, operation: Any) -> int:
    """How many queries, or keys, a sample has: over all axes but the batch and the features."""
    if isinstance(operation, DotProductAttention):
        return int(tensor.shape[1])
    return math.prod(tensor.shape[1:-1])


def _first(value: Any, samples: int, batch: int, name: str) -> Any:
    """The first samples of an argument, in tensors of our own.

    A layer may take the masks off the tensors it is given, and these are recorded ones. A mask
    over queries and keys that has no batch axis is left whole.
    """

    def rows(leaf: Tensor) -> Tensor:
        shape = tuple(leaf.shape)
        whole = not shape or shape[0] != batch or (name == "attention_mask" and len(shape) < 3)
        return keras.ops.copy(leaf if whole else leaf[:samples])

    def own(leaf: Any) -> Any:
        if not keras.ops.is_tensor(leaf) and not isinstance(leaf, np.ndarray):
            return leaf
        tensor, mask = rows(leaf), get_keras_mask(leaf)
        if mask is not None:
            set_keras_mask(tensor, rows(mask))
        return tensor

    return keras.tree.map_structure(own, value)


@dataclass(frozen=True, kw_only=True)
class _Masks:
    """Boolean masks that a call goes by, None where it has none.

    queries `(samples, queries)`; keys, one or more, `(samples, keys)`; pairs: which query sees
    which key, `(samples, queries, keys)`, with an axis for the heads or without.
    """

    queries: Array | None
    keys: tuple[Array, ...]
    pairs: Array | None

    @property
    def none(self) -> bool:
        """Whether nothing is masked."""
        return self.queries is None and not self.keys and self.pairs is None


def _masks(layer: Any, arguments: Mapping[str, Any]) -> _Masks:
    """The masks given, and those that come with the tensors where none was given."""
    if isinstance(layer, keras.layers.Attention):
        given = arguments.get("mask")
        if given is None:
            given = [get_keras_mask(tensor) for tensor in arguments["inputs"]]
        queries, *keys = (_boolean(mask) for mask in given[:2])
    else:
        queries, *keys = (
            _boolean(_mask_of_argument(arguments, name)) for name in ("query", "value", "key")
        )
    return _Masks(
        queries=queries,
        keys=tuple(mask for mask in keys if mask is not None),
        pairs=_boolean(arguments.get("attention_mask")),
    )


def _mask_of_argument(arguments: Mapping[str, Any], name: str) -> Any:
    given = arguments.get(f"{name}_mask")
    tensor = arguments.get(name)
    return given if given is not None or tensor is None else get_keras_mask(tensor)


def _boolean(mask: Any) -> Array | None:
    return None if mask is None else keras.ops.convert_to_numpy(mask).astype(bool)


def _laid_out(layer: Any, weights: Tensor, masks: _Masks, causal: bool) -> _Weights:
    """A layer's weights with their axes in our order, and the keys that its masks leave."""
    headed = not isinstance(layer, keras.layers.Attention)
    axes = len(getattr(layer, "attention_axes", None) or (1,))
    shape = tuple(weights.shape)
    others, queries, keys = shape[: -2 * axes], shape[-2 * axes : -axes], shape[-axes:]
    heads = others[-1] if headed else 1
    laid_out = (math.prod(others) // heads, heads, math.prod(queries), math.prod(keys))
    # Keras has sliding windows in some of its layers, under one of these names.
    window = getattr(layer, "sliding_window", getattr(layer, "_sliding_window", None))
    weights = keras.ops.reshape(weights, laid_out)
    if not causal and window is None and masks.none:
        return _Weights(weights=weights, seen=keras.ops.ones((1, 1, 1, laid_out[3]), "bool"))
    try:
        seen = _seen(masks, queries[-1], keys[-1], causal=causal, window=window)
        while headed and seen.ndim < len(shape):
            seen = np.expand_dims(seen, -2 * axes - 1)
        seen = np.broadcast_to(seen, shape).reshape(laid_out)
    except ValueError:  # over several axes, Keras' own masks may mean anything
        return _Weights(weights=weights, seen=keras.ops.greater(weights, 0.0))
    return _Weights(weights=weights, seen=keras.ops.convert_to_tensor(seen))


def _seen(masks: _Masks, queries: int, keys: int, *, causal: bool, window: int | None) -> Array:
    """Which query sees which key, `(..., queries, keys)`."""
    seen = np.ones((1, queries, keys), bool)
    place = np.arange(queries)[:, None] - np.arange(keys)
    if causal:
        seen = seen & (place >= 0)
    if window is not None:
        seen = seen & (np.abs(place) < window)
    if masks.queries is not None:
        seen = seen & masks.queries[..., :, None]
    for mask in masks.keys:
        seen = seen & mask[..., None, :]
    if masks.pairs is None:
        return seen
    # A pair mask has its axis of heads before those of queries and keys.
    while seen.ndim < masks.pairs.ndim:
        seen = np.expand_dims(seen, -3)
    return np.asarray(seen & masks.pairs)


def _weights_of_operation(operation: Any, arguments: Mapping[str, Any]) -> _Weights | str:
    """The weights behind `keras.ops.dot_product_attention`, which keeps them to itself."""
    if getattr(operation, "attn_logits_soft_cap", None) is not None:
        return "its logits are capped, which its weights do not undo"
    ops = keras.ops
    query, key = (_single(arguments[name]) for name in ("query", "key"))
    key = ops.repeat(key, query.shape[2] // key.shape[2], axis=2)
    scale = arguments.get("scale")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = ops.einsum("btnh,bsnh->bnts", query, key) * scale
    seen = np.ones((1, 1, query.shape[1], key.shape[1]), bool)
    if operation.is_causal:
        seen = np.tril(seen)
    mask, bias = _boolean(arguments.get("mask")), arguments.get("bias")
    if mask is not None:
        seen = seen & mask
    if bias is not None:
        bias = _single(bias)
        logits = logits + bias
        seen = seen & (ops.convert_to_numpy(bias) > HIDING_BIAS)
    hidden = ops.full_like(logits, -1e30)
    shown = ops.convert_to_tensor(np.ascontiguousarray(seen))
    return _Weights(weights=ops.softmax(ops.where(shown, logits, hidden)), seen=shown)


def _measured(found: _Weights) -> AttentionMeasurement | str:
    """Logit scale and entropy over heads and samples, or why there are none."""
    ops = keras.ops
    weights = _single(found.weights)
    seen = ops.cast(found.seen, weights.dtype)
    # Where a key is hidden, whatever its weight: neither NaN nor infinity must come through.
    weights = ops.where(found.seen, weights, ops.zeros_like(weights))
    logs = ops.log(ops.maximum(weights, SMALLEST))
    count = ops.sum(seen, axis=-1)
    at_least_one = ops.maximum(count, 1.0)
    entropy = -ops.sum(weights * logs, axis=-1)
    centre = ops.sum(seen * logs, axis=-1) / at_least_one
    off = logs - ops.expand_dims(centre, -1)
    scale = ops.sqrt(ops.sum(seen * ops.square(off), axis=-1) / at_least_one)
    shape = tuple(entropy.shape)
    keys = np.broadcast_to(_wide(count), shape)
    compared = keys >= 2
    entropies, scales = _wide(entropy), _wide(scale)
    sums = _wide(ops.sum(weights, axis=-1))[compared]
    if not all(np.isfinite(values).all() for values in (entropies[compared], sums)):
        return "its attention weights are not finite"
    if (np.abs(sums - 1.0) > SUM_TOLERANCE).any():
        return "what it returns as attention weights does not sum to 1 over the keys it can see"
    relative = entropies / np.log(np.maximum(keys, 2))
    logit_scale = distribution(_over_queries(scales, compared))
    spread = distribution(_over_queries(relative, compared))
    if logit_scale is None or spread is None:
        return ONE_KEY
    return AttentionMeasurement(logit_scale=logit_scale, entropy=spread, keys=int(keys.max()))


def _over_queries(values: Array, compared: Array) -> list[float]:
    """Means over the queries that see two keys, for each head and sample that has such."""
    counts = compared.sum(axis=-1)
    sums = np.where(compared, values, 0.0).sum(axis=-1)
    return [float(mean) for mean in sums[counts > 0] / counts[counts > 0]]


def _single(tensor: Tensor) -> Tensor:
    """In single precision at least."""
    wide = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if wide else keras.ops.cast(tensor, "float32")


def _wide(tensor: Tensor) -> Array:
    array: Array = keras.ops.convert_to_numpy(tensor)
    return array.astype(np.float64)
