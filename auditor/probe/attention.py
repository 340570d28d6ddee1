"""Attention at the start: how far its weights are from uniform, and how large its logits."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.ops.nn import DotProductAttention

from auditor.measurement import AttentionMeasurement
from auditor.probe.backends import Backend, Tensor
from auditor.probe.recording import RecordedCall
from auditor.probe.state import untrained_state
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


def attention(call: RecordedCall, backend: Backend) -> AttentionMeasurement | str:
    """The call's logit scale and entropy, or why there are none.

    The call runs again on its recorded arguments, for its weights and without dropout. Weights
    are a softmax of the logits, so that their logarithm differs from the logits by the same
    number for all keys of a query, and has their standard deviation. A weight that underflowed
    counts as the smallest normal number of single precision, e^−87, so that where logits lie that
    far apart their scale is a lower bound. Keys that a mask hides are left out, and so are queries
    that see fewer than two keys.
    """
    try:
        weights = _weights(call, backend)
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

    weights: Array
    seen: Array


def _weights(call: RecordedCall, backend: Backend) -> _Weights | str:
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
    few = _FewSamples(bound.arguments, samples=samples, batch=int(query.shape[0]))
    if not of_layer:
        return _weights_of_operation(operation, few, backend)
    settings = {"return_attention_scores": True}
    if "training" in signature.parameters:
        settings["training"] = False

    def run(given: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor | None:
        asked = inspect.BoundArguments(signature, OrderedDict(few.of(given) | settings))
        outputs = operation(*asked.args, **asked.kwargs)
        two = isinstance(outputs, (tuple, list)) and len(outputs) == 2
        return outputs[1] if two else None

    weights = backend.once(run, (*operation.trainable_variables, *untrained_state(operation)))(
        few.tensors
    )
    if weights is None:
        return "asked for its attention weights, it returned none"
    masks = _masks(operation, few)
    return _laid_out(
        operation, _single(weights), masks, bool(bound.arguments.get("use_causal_mask"))
    )


def _positions(tensor: Tensor, operation: Any) -> int:
    """How many queries, or keys, a sample has: over all axes but the batch and the features."""
    if isinstance(operation, DotProductAttention):
        return int(tensor.shape[1])
    return math.prod(tensor.shape[1:-1])


class _FewSamples:
    """The first samples of a call's arguments, in tensors of our own.

    A layer may take the masks off the tensors it is given, and these are recorded ones. A mask
    over queries and keys that has no batch axis is left whole.
    """

    def __init__(self, arguments: Mapping[str, Any], *, samples: int, batch: int) -> None:
        self.arguments = dict(arguments)
        self._samples = samples
        self._batch = batch

    @property
    def tensors(self) -> list[tuple[Tensor, Tensor | None]]:
        """All tensors as they were recorded, each with its mask."""
        leaves = keras.tree.flatten(list(self.arguments.values()))
        return [(leaf, get_keras_mask(leaf)) for leaf in leaves if _is_array(leaf)]

    def of(self, given: Sequence[tuple[Tensor, Tensor | None]]) -> dict[str, Any]:
        """The arguments with the first samples of `tensors`, which are given once more."""
        pairs = iter(given)

        def own(name: str, leaf: Any) -> Any:
            if not _is_array(leaf):
                return leaf
            tensor, mask = next(pairs)
            tensor = keras.ops.copy(self.rows(name, tensor))
            if mask is not None:
                set_keras_mask(tensor, keras.ops.copy(self.rows(name, mask)))
            return tensor

        return {
            name: keras.tree.map_structure(partial(own, name), value)
            for name, value in self.arguments.items()
        }

    def mask(self, name: str, mask: Any) -> Array | None:
        """The first samples of a mask of this argument, boolean and on the host."""
        if mask is None:
            return None
        found: Array = keras.ops.convert_to_numpy(self.rows(name, mask))
        return found.astype(bool)

    def rows(self, name: str, tensor: Any) -> Any:
        """The first samples of a tensor in this argument."""
        shape = tuple(tensor.shape)
        whole = (
            not shape or shape[0] != self._batch or (name == "attention_mask" and len(shape) < 3)
        )
        return tensor if whole else tensor[: self._samples]


def _is_array(leaf: Any) -> bool:
    return bool(keras.ops.is_tensor(leaf)) or isinstance(leaf, np.ndarray)


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


def _masks(layer: Any, few: _FewSamples) -> _Masks:
    """The masks given, and those that come with the tensors where none was given."""
    arguments = few.arguments
    if isinstance(layer, keras.layers.Attention):
        given = arguments.get("mask")
        if given is None:
            given = [get_keras_mask(tensor) for tensor in arguments["inputs"]]
        queries, *keys = (few.mask("mask", mask) for mask in given[:2])
    else:
        queries, *keys = (
            few.mask(name, _mask_of_argument(arguments, name)) for name in ("query", "value", "key")
        )
    return _Masks(
        queries=queries,
        keys=tuple(mask for mask in keys if mask is not None),
        pairs=few.mask("attention_mask", arguments.get("attention_mask")),
    )


def _mask_of_argument(arguments: Mapping[str, Any], name: str) -> Any:
    given = arguments.get(f"{name}_mask")
    tensor = arguments.get(name)
    return given if given is not None or tensor is None else get_keras_mask(tensor)


def _laid_out(layer: Any, weights: Array, masks: _Masks, causal: bool) -> _Weights:
    """A layer's weights with their axes in our order, and the keys that its masks leave."""
    headed = not isinstance(layer, keras.layers.Attention)
    axes = len(getattr(layer, "attention_axes", None) or (1,))
    shape = tuple(weights.shape)
    others, queries, keys = shape[: -2 * axes], shape[-2 * axes : -axes], shape[-axes:]
    heads = others[-1] if headed else 1
    laid_out = (math.prod(others) // heads, heads, math.prod(queries), math.prod(keys))
    # Keras has sliding windows in some of its layers, under one of these names.
    window = getattr(layer, "sliding_window", getattr(layer, "_sliding_window", None))
    weights = weights.reshape(laid_out)
    if not causal and window is None and masks.none:
        return _Weights(weights=weights, seen=np.ones((1, 1, 1, laid_out[3]), bool))
    try:
        seen = _seen(masks, queries[-1], keys[-1], causal=causal, window=window)
        while headed and seen.ndim < len(shape):
            seen = np.expand_dims(seen, -2 * axes - 1)
        seen = np.broadcast_to(seen, shape).reshape(laid_out)
    except ValueError:  # over several axes, Keras' own masks may mean anything
        seen = weights > 0.0
    return _Weights(weights=weights, seen=seen)


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


def _weights_of_operation(operation: Any, few: _FewSamples, backend: Backend) -> _Weights | str:
    """The weights behind `keras.ops.dot_product_attention`, which keeps them to itself."""
    if getattr(operation, "attn_logits_soft_cap", None) is not None:
        return "its logits are capped, which its weights do not undo"

    def run(given: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
        arguments = few.of(given)
        query, key = (_single_tensor(arguments[name]) for name in ("query", "key"))
        key = keras.ops.repeat(key, query.shape[2] // key.shape[2], axis=2)
        scale = arguments.get("scale")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return keras.ops.einsum("btnh,bsnh->bnts", query, key) * scale, arguments.get("bias")

    products, bias = backend.once(run, ())(few.tensors)
    logits = _single(products)
    seen = np.ones((1, 1, *logits.shape[2:]), bool)
    if operation.is_causal:
        seen = np.tril(seen)
    mask = few.mask("mask", few.arguments.get("mask"))
    if mask is not None:
        seen = seen & mask
    if bias is not None:
        logits = logits + _single(bias)
        seen = seen & (_single(bias) > HIDING_BIAS)
    # Where a query sees no key, all are alike.
    logits = np.where(seen, logits, np.float32(-1e30))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return _Weights(weights=weights / weights.sum(axis=-1, keepdims=True), seen=seen)


def _measured(found: _Weights) -> AttentionMeasurement | str:
    """Logit scale and entropy over heads and samples, or why there are none."""
    # Where a key is hidden, whatever its weight: neither NaN nor infinity must come through.
    weights = np.where(found.seen, found.weights, np.zeros_like(found.weights))
    seen = found.seen.astype(weights.dtype)
    logs = np.log(np.maximum(weights, weights.dtype.type(SMALLEST)))
    count = seen.sum(axis=-1)
    at_least_one = np.maximum(count, 1.0)
    entropies = -(weights * logs).sum(axis=-1, dtype=np.float64)
    centre = (seen * logs).sum(axis=-1) / at_least_one
    off = logs - centre[..., None]
    scales = np.sqrt((seen * np.square(off)).sum(axis=-1, dtype=np.float64) / at_least_one)
    keys = np.broadcast_to(count, entropies.shape)
    compared = keys >= 2
    sums = weights.sum(axis=-1, dtype=np.float64)[compared]
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


def _single_tensor(tensor: Tensor) -> Tensor:
    """In single precision at least."""
    wide = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if wide else keras.ops.cast(tensor, "float32")


def _single(tensor: Tensor) -> Array:
    """On the host, in single precision at least."""
    array: Array = keras.ops.convert_to_numpy(tensor)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
