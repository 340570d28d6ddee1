"""GEB610: half precision, with and without loss scaling."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from builders import GraphBuilder
from compiled import optimized
from keras import layers, losses, optimizers

from auditor import audit
from auditor.graph import LayerGraph

Judge = Callable[..., tuple]


def half(dtype: str = "float16", scaled: bool | None = False) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 8, "relu")
    made = build.graph(build.dense(x, 1), loss="mean_squared_error")
    calls = tuple(replace(call, dtype=dtype) if call.id == "dense" else call for call in made.calls)
    return optimized(replace(made, calls=calls), loss_scaling=scaled)


def test_half_precision_wants_a_scaled_loss(findings: Judge) -> None:
    (found,) = findings("GEB610", half())
    assert found.layers == ("dense",)
    assert findings("GEB610", half(scaled=True)) == ()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_types_do_not(findings: Judge, dtype: str) -> None:
    assert findings("GEB610", half(dtype)) == ()


def test_what_the_file_does_not_tell_is_not_judged(
    findings: Judge, skipped: Callable[[LayerGraph], dict[str, str]]
) -> None:
    assert findings("GEB610", half(scaled=None)) == ()
    assert "does not tell" in skipped(half(scaled=None))["GEB610"]


def test_frozen_layers_have_no_gradient(findings: Judge) -> None:
    graph = half()
    frozen = tuple(
        replace(call, trainable=False) if call.id == "dense" else call for call in graph.calls
    )
    assert findings("GEB610", replace(graph, calls=frozen)) == ()


@pytest.fixture
def policy() -> Iterator[Callable[[str], None]]:
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def accused(model: keras.Model, path: Path) -> int:
    model.save(path)
    return len(audit(path, probe=False, select=("GEB610",)).findings)


def functional(dtype: str | None = None) -> keras.Model:
    entry = keras.Input((4,))
    x = layers.Dense(4, dtype=dtype)(entry)
    return keras.Model(entry, layers.Dense(1, dtype="float32")(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_by_keras(suffix: str, tmp_path: Path, policy: Callable[[str], None]) -> None:
    path = tmp_path / f"model{suffix}"
    squared = losses.MeanSquaredError()
    by_layer = functional("mixed_float16")
    by_layer.compile(optimizers.Adam(), squared)
    assert accused(by_layer, path) == 1
    by_layer.compile(optimizers.LossScaleOptimizer(optimizers.Adam()), squared)
    assert accused(by_layer, path) == 0
    by_layer.compile(optimizers.Adam(loss_scale_factor=1024.0), squared)
    assert accused(by_layer, path) == 0
    policy("mixed_float16")
    throughout = functional()
    throughout.compile(optimizers.Adam(), squared)
    assert accused(throughout, path) == 0
    policy("float16")
    throughout = functional()
    throughout.compile(optimizers.Adam(), squared)
    assert accused(throughout, path) == 1
