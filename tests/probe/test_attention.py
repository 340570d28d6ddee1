"""Attention weights, against the softmax of the logits in NumPy's double precision."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from auditor.measurement import AttentionMeasurement, Distribution
from auditor.probe.attention import attends, attention
from auditor.probe.backends import load_backend
from auditor.probe.recording import RecordedCall

BACKEND = load_backend(keras.backend.backend())
BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 5, 7, 8, 2


def recorded(operation: Any, *args: Any, **kwargs: Any) -> RecordedCall:
    """A call as it would be recorded in training mode."""
    tensors = [leaf for leaf in keras.tree.flatten((args, kwargs)) if ops.is_tensor(leaf)]
    return RecordedCall(
        id=operation.name,
        operation=operation,
        args=args,
        kwargs=kwargs,
        training=True,
        batch=int(tensors[0].shape[0]),
        outputs=(),
    )


def tensor(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    return ops.convert_to_tensor(
        (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    )


def masked(values: Any, lengths: list[int]) -> Any:
    """The tensor with a Keras mask that leaves so many positions of each sample."""
    mask = np.arange(values.shape[1]) < np.array(lengths)[:, None]
    keras.src.backend.set_keras_mask(values, ops.convert_to_tensor(mask))
    return values


def expected(logits: Any, seen: Any) -> tuple[Distribution, Distribution]:
    """Logit scale and relative entropy `(samples, heads, queries, keys)`, query by query."""
    logits, seen = np.broadcast_arrays(np.asarray(logits, np.float64), seen)
    scales, entropies = [], []
    for sample in range(logits.shape[0]):
        for head in range(logits.shape[1]):
            of_head: list[tuple[float, float]] = []
            for query in range(logits.shape[2]):
                row = logits[sample, head, query][seen[sample, head, query]]
                if row.size < 2:
                    continue
                weights = np.exp(row - row.max())
                weights /= weights.sum()
                entropy = -(weights * np.log(weights)).sum() / np.log(row.size)
                of_head.append((float(row.std()), float(entropy)))
            if of_head:
                scales.append(np.mean([scale for scale, _ in of_head]))
                entropies.append(np.mean([entropy for _, entropy in of_head]))
    return summary(scales), summary(entropies)


def summary(values: list[Any]) -> Distribution:
    p10, p50, p90 = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9)))
    return Distribution(
        mean=float(np.mean(values)),
        p10=p10,
        p50=p50,
        p90=p90,
        max=float(np.max(values)),
        count=len(values),
    )


def assert_agrees(found: AttentionMeasurement | str, logits: Any, seen: Any) -> None:
    assert isinstance(found, AttentionMeasurement), found
    for ours, exact in zip((found.logit_scale, found.entropy), expected(logits, seen), strict=True):
        assert ours.count == exact.count
        for name in ("mean", "p10", "p50", "p90", "max"):
            # Logits and softmax in single precision.
            assert getattr(ours, name) == pytest.approx(getattr(exact, name), rel=2e-5, abs=2e-6)


def array(value: Any) -> Any:
    return ops.convert_to_numpy(value).astype(np.float64)


def logits_of(layer: Any, query: Any, key: Any) -> Any:
    """`(samples, heads, queries, keys)` of a multi-head layer, from its kernels."""
    q, k = (
        np.einsum("btf,fnh->btnh", array(values), array(part.kernel)) + array(part.bias)
        for values, part in ((query, layer._query_dense), (key, layer._key_dense))
    )
    k = np.repeat(k, q.shape[2] // k.shape[2], axis=2)
    return np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1])


def multi_head(**settings: Any) -> Any:
    layer = layers.MultiHeadAttention(
        HEADS, 4, bias_initializer="random_normal", kernel_initializer="random_normal", **settings
    )
    layer.build((None, None, WIDTH), (None, None, WIDTH))
    for weight in layer.trainable_weights:
        weight.assign(12 * weight.value)
    return layer


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_multi_head_attention_over_all_keys(dropout: float) -> None:
    layer = multi_head(dropout=dropout)
    query, value = tensor(BATCH, QUERIES, WIDTH), tensor(BATCH, KEYS, WIDTH, seed=1)
    found = attention(recorded(layer, query, value), BACKEND)
    assert_agrees(found, logits_of(layer, query, value), np.ones((1, 1, 1, KEYS), bool))
    assert isinstance(found, AttentionMeasurement)
    assert found.keys == KEYS
    # Far from uniform, so that a wrong entropy or scale could not hide.
    assert found.entropy.mean < 0.9
    assert found.logit_scale.mean > 1.0


def test_a_key_of_its_own() -> None:
    layer = multi_head()
    query, value, key = (tensor(BATCH, n, WIDTH, seed=n) for n in (QUERIES, KEYS, KEYS))
    key = key + 1.0
    found = attention(recorded(layer, query, value, key), BACKEND)
    assert_agrees(found, logits_of(layer, query, key), np.ones((1, 1, 1, KEYS), bool))


@pytest.mark.parametrize("with_padding", [False, True])
def test_causal_mask_and_padding(with_padding: bool) -> None:
    layer = multi_head()
    x = tensor(BATCH, KEYS, WIDTH)
    seen = np.tril(np.ones((1, 1, KEYS, KEYS), bool))
    if with_padding:
        lengths = [7, 4, 1]
        x = masked(x, lengths)
        real = np.arange(KEYS) < np.array(lengths)[:, None]
        seen = seen & real[:, None, None, :] & real[:, None, :, None]
    call = recorded(layer, x, x, use_causal_mask=True)
    found = attention(call, BACKEND)
    assert_agrees(found, logits_of(layer, x, x), seen)
    assert isinstance(found, AttentionMeasurement)
    # A sample of one token has no query that sees two.
    assert found.entropy.count == HEADS * (2 if with_padding else 3)
    # What was recorded keeps its mask, which the layer takes off what it is given.
    assert (keras.src.backend.get_keras_mask(x) is not None) is with_padding


@pytest.mark.parametrize("of_heads", [False, True])
def test_a_mask_of_pairs(of_heads: bool) -> None:
    layer = multi_head()
    query, value = tensor(BATCH, QUERIES, WIDTH), tensor(BATCH, KEYS, WIDTH, seed=1)
    shape = (BATCH, HEADS, QUERIES, KEYS) if of_heads else (BATCH, QUERIES, KEYS)
    mask = np.random.default_rng(2).random(shape) < 0.5
    found = attention(
        recorded(layer, query, value, attention_mask=ops.convert_to_tensor(mask)), BACKEND
    )
    assert_agrees(found, logits_of(layer, query, value), mask if of_heads else mask[:, None])


def test_several_attention_axes() -> None:
    layer = layers.MultiHeadAttention(HEADS, 4, attention_axes=(1, 2))
    x = tensor(BATCH, 2, 3, WIDTH)
    layer(x, x)
    flat = ops.reshape(x, (BATCH, 6, WIDTH))
    found = attention(recorded(layer, x, x), BACKEND)
    assert_agrees(found, logits_of(layer, flat, flat), np.ones((1, 1, 1, 6), bool))


def test_grouped_queries() -> None:
    layer = layers.GroupQueryAttention(4, 4, 2, kernel_initializer="random_normal")
    x = tensor(BATCH, KEYS, WIDTH, scale=10.0)
    layer(x, x)
    real = np.arange(KEYS) < np.array([7, 5, 3])[:, None]
    mask = ops.convert_to_tensor(real)
    found = attention(recorded(layer, x, x, query_mask=mask, value_mask=mask), BACKEND)
    assert_agrees(found, logits_of(layer, x, x), real[:, None, None, :] & real[:, None, :, None])


@pytest.mark.parametrize("causal", [False, True])
def test_dot_product_layer_with_masked_values(causal: bool) -> None:
    layer = layers.Attention(dropout=0.5)
    query, value = tensor(BATCH, KEYS, WIDTH), masked(tensor(BATCH, KEYS, WIDTH, seed=1), [7, 5, 2])
    seen = (np.arange(KEYS) < np.array([7, 5, 2])[:, None])[:, None, None, :]
    if causal:
        seen = seen & np.tril(np.ones((KEYS, KEYS), bool))
    logits = np.einsum("btf,bsf->bts", array(query), array(value))[:, None]
    call = recorded(layer, [query, value], use_causal_mask=causal)
    assert_agrees(attention(call, BACKEND), logits, seen)


def test_additive_attention() -> None:
    layer = layers.AdditiveAttention(use_scale=False)
    query, value = tensor(BATCH, QUERIES, WIDTH), tensor(BATCH, KEYS, WIDTH, seed=1)
    logits = np.tanh(array(query)[:, :, None] + array(value)[:, None]).sum(axis=-1)[:, None]
    found = attention(recorded(layer, [query, value]), BACKEND)
    assert_agrees(found, logits, np.ones((1, 1, 1, KEYS), bool))


def test_the_operation_of_a_functional_graph() -> None:
    inputs = [keras.Input((KEYS, heads, 4)) for heads in (4, 2, 2)]
    mask = keras.Input((1, KEYS, KEYS), dtype="bool")
    output = ops.dot_product_attention(*inputs, mask=mask, is_causal=True)
    operation = keras.Model([*inputs, mask], output).operations[-1]
    assert attends(operation)
    q, k, v = (tensor(BATCH, KEYS, heads, 4, seed=heads) for heads in (4, 2, 2))
    pairs = np.random.default_rng(0).random((BATCH, 1, KEYS, KEYS)) < 0.7
    found = attention(recorded(operation, q, k, v, mask=ops.convert_to_tensor(pairs)), BACKEND)
    logits = np.einsum("btnh,bsnh->bnts", array(q), np.repeat(array(k), 2, axis=2)) / 2
    assert_agrees(found, logits, pairs & np.tril(np.ones((KEYS, KEYS), bool)))


def test_uniform_weights_have_entropy_one_and_no_scale() -> None:
    layer = layers.MultiHeadAttention(HEADS, 4, kernel_initializer="zeros")
    x = tensor(BATCH, KEYS, WIDTH)
    layer(x, x)
    found = attention(recorded(layer, x, x), BACKEND)
    assert isinstance(found, AttentionMeasurement)
    assert found.entropy.mean == pytest.approx(1.0, abs=1e-6)
    assert found.logit_scale.max == pytest.approx(0.0, abs=1e-6)


def test_underflown_weights_make_a_lower_bound() -> None:
    layer = layers.Attention()
    query = ops.ones((1, 1, 1))
    value = ops.convert_to_tensor(np.array([[[0.0], [-1000.0]]], np.float32))
    found = attention(recorded(layer, [query, value]), BACKEND)
    assert isinstance(found, AttentionMeasurement)
    assert found.entropy.mean == 0.0
    assert 40.0 < found.logit_scale.mean < 500.0


def test_few_samples_of_a_large_batch() -> None:
    layer = multi_head()
    x = tensor(20, KEYS, WIDTH)
    found = attention(recorded(layer, x, x), BACKEND)
    assert_agrees(found, logits_of(layer, x[:8], x[:8]), np.ones((1, 1, 1, KEYS), bool))


def test_bfloat16() -> None:
    layer = layers.MultiHeadAttention(HEADS, 4, dtype="mixed_bfloat16")
    x = tensor(BATCH, KEYS, WIDTH, scale=3.0)
    layer(x, x)
    found = attention(recorded(layer, x, x), BACKEND)
    assert isinstance(found, AttentionMeasurement)
    scale, entropy = expected(logits_of(layer, x, x), np.ones((1, 1, 1, KEYS), bool))
    assert found.logit_scale.mean == pytest.approx(scale.mean, rel=0.02)
    assert found.entropy.mean == pytest.approx(entropy.mean, rel=0.02)


class WithoutWeights(layers.MultiHeadAttention):
    def call(self, query: Any, value: Any) -> Any:  # type: ignore[override]
        return super().call(query, value)


class WithoutSoftmax(layers.Attention):
    def _apply_scores(self, scores: Any, value: Any, **_: Any) -> Any:
        return ops.matmul(scores, value), scores


def test_reasons() -> None:
    x = tensor(BATCH, KEYS, WIDTH)
    half = layers.MultiHeadAttention(HEADS, 4, dtype="mixed_float16")
    flash = layers.MultiHeadAttention(HEADS, 4, flash_attention=True)
    flash.build(x.shape, x.shape)
    broken = multi_head()
    broken.query_dense.bias.assign(np.full((HEADS, 4), np.nan))
    whole = layers.MultiHeadAttention(HEADS, 4)
    cases = (
        (recorded(half, x, x), "float16"),
        (recorded(flash, x, x), "[Ff]lash attention"),
        (recorded(broken, x, x), "not finite"),
        (recorded(whole, x[:, :1], x[:, :1]), "none of its queries sees two keys"),
        (recorded(WithoutWeights(HEADS, 4), x, x), "no argument return_attention_scores"),
        (recorded(WithoutSoftmax(), [x, x]), "does not sum to 1"),
    )
    for call, reason in cases:
        found = attention(call, BACKEND)
        assert isinstance(found, str)
        assert re.search(reason, found), found


def test_which_calls() -> None:
    assert attends(layers.AdditiveAttention())
    assert not attends(layers.Dense(1))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = "causal_mask or grouped or dot_product_layer or functional"
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-o", "addopts=--import-mode=importlib --strict-markers", __file__, "-k", chosen),
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[2],
        check=True,
    )
