"""Quantised layers, low-rank fine-tuning and dtype policies: read as Keras has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from keras_comparison import differences, randomize

from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_weight_variants import quantization
from auditor.formats.keras_weights import weight_specs
from auditor.formats.read import read_model
from auditor.graph.operators import Op

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
]


@pytest.fixture(autouse=True)
def _own_policy() -> Iterator[None]:
    keras.utils.clear_session()
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


QUANTISED: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(4)]),
    "no bias": lambda: keras.Sequential([keras.Input((8,)), layers.Dense(6, use_bias=False)]),
    "einsum": lambda: keras.Sequential(
        [keras.Input((5, 8)), layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d")]
    ),
    "embedding": lambda: keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(11, 8)]
    ),
    "reversible": lambda: keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.ReversibleEmbedding(11, 8, tie_weights=False)]
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_layers(name: str, mode: str, suffix: str, tmp_path: Path) -> None:
    model = QUANTISED[name]()
    randomize(model)
    if mode == "float8" and "embeddings" in {weight.name for weight in model.weights}:
        pytest.skip("Keras has no float8 embeddings")
    model.quantize(mode)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    file = read_model(path)
    # Layer.weights has a quantised kernel after the bias, a file before it.
    assert differences(model, file.graph, ordered=False) == []
    assert file.hazards == ()
    call = file.graph.calls[1]
    assert call.op in (Op.DENSE, Op.EINSUM_DENSE, Op.EMBEDDING)
    kernel = call.weights[0]
    if mode == "int8":
        assert (kernel.dtype, kernel.trainable) == ("int8", False)
        assert kernel.role in ("kernel", "embeddings")
    if mode == "int4":
        # Two numbers to a byte: values and fans would be those of no kernel.
        assert (kernel.role, kernel.fan_in) == ("other", None)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("float32", ("", None)),
        ("mixed_bfloat16", ("", None)),
        ("int8_from_float32", ("int8", None)),
        ({"config": {"mode": "int4/128", "source_name": "float32"}}, ("int4", 128)),
        ({"config": {"mode": "int4/-1", "source_name": "float32"}}, ("int4", -1)),
        ({"config": {"mode": "gptq/4/64", "source_name": "bfloat16"}}, ("gptq", 64)),
        ({"config": {"mode": 3}}, ("", None)),
        ({"config": {"mode": "int4/" + "9" * 99}}, ("int4", None)),
        (None, ("", None)),
    ],
)
def test_modes_of_quantization(policy: object, expected: tuple[str, int | None]) -> None:
    assert quantization(LayerConfig(name="x", kind="Dense", config={"dtype": policy})) == expected


@pytest.mark.parametrize("mode", ["gptq/4/8", "awq/4/8", "int4/-1", "int8", "float8"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_order_of_saving_is_that_of_keras(mode: str, bias: bool) -> None:
    dense = layers.Dense(3, use_bias=bias)
    order = dense.variable_serialization_spec[mode.partition("/")[0]]
    skipped = {*(() if bias else ("bias",)), *(("kernel_zero", "g_idx") if "-1" in mode else ())}
    # The variable of GPTQ's and AWQ's quantized_kernel is named kernel.
    expected = [name.removeprefix("quantized_") for name in order if name not in skipped]
    config = {"units": 3, "use_bias": bias, "dtype": {"config": {"mode": mode}}}
    specs = weight_specs(LayerConfig(name="x", kind="Dense", config=config))
    assert specs is not None
    assert [spec.name for spec in specs] == expected
    assert [spec.index for spec in specs] == list(range(len(expected)))


def low_rank() -> keras.Model:
    entry = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, name="table")(entry)
    x = layers.Conv1D(6, 3, name="conv")(x)
    x = layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d", name="einsum")(x)
    return keras.Model(entry, layers.Dense(3, name="dense")(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("frozen", [True, False])
def test_low_rank_matrices(suffix: str, frozen: bool, tmp_path: Path) -> None:
    model = low_rank()
    randomize(model)
    for layer in model.layers[1:]:
        layer.enable_lora(2)
        layer.trainable = not frozen
    path = tmp_path / f"model{suffix}"
    model.save(path)
    graph = read_model(path).graph
    assert differences(keras.saving.load_model(path), graph) == []
    dense = graph.by_id["dense"]
    kernel, _, *matrices = dense.weights
    assert kernel.trainable is False
    assert [weight.shape for weight in matrices] == [(4, 2), (2, 3)]
    assert [weight.trainable for weight in matrices] == [not frozen] * 2
    # A .keras holds the product added to the kernel.
    assert all((weight.read is None) == (suffix == ".keras") for weight in matrices)


def convolutional() -> keras.Model:
    entry = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(entry)
    x = layers.Dense(3)(layers.Flatten()(layers.BatchNormalization()(x)))
    return keras.Model(entry, layers.Activation("softmax", dtype="float32")(x))


def mapped() -> keras.Model:
    policy: Any = keras.dtype_policies.DTypePolicyMap(
        default_policy="mixed_float16", policy_map={"mha/query": keras.DTypePolicy("bfloat16")}
    )
    entry = keras.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4, name="mha", dtype=policy)(entry, entry)
    return keras.Model(entry, layers.Dense(2)(x))


def embedded() -> keras.Model:
    entry = keras.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(entry))
    return keras.Model(entry, layers.Dense(2, dtype="float64")(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("make", [convolutional, mapped, embedded])
def test_dtype_policies(
    make: Callable[[], keras.Model], policy: str, suffix: str, tmp_path: Path
) -> None:
    keras.config.set_dtype_policy(policy)
    model = make()
    randomize(model)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    # Keras 3.15 does not load bfloat16 from HDF5.
    assert differences(model, read_model(path).graph) == []
