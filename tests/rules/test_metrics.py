"""GEB609: metrics against losses and heads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from builders import GraphBuilder
from compiled import measured
from keras import losses, metrics

from auditor import audit
from auditor.graph import LayerGraph, LossSettings
from auditor.graph.compile_settings import MetricSettings

Judge = Callable[..., tuple]
ONE_HOT, INTEGERS = "categorical_crossentropy", "sparse_categorical_crossentropy"
BINARY, SQUARED = "binary_crossentropy", "mean_squared_error"


def headed(
    units: int, activation: str | None, loss: str, *named: str | MetricSettings, **settings: Any
) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((16,)), 32, "relu"), units, activation)
    return measured(build.graph(x, loss=(LossSettings(name=loss, **settings),)), *named)


@pytest.mark.parametrize(
    ("units", "activation", "loss", "metric", "count"),
    [
        # regression
        (1, None, SQUARED, "accuracy", 1),
        (1, None, "mean_absolute_error", "precision", 1),
        (3, "relu", SQUARED, "categorical_accuracy", 1),
        (1, None, SQUARED, "mean_absolute_error", 0),
        (1, None, SQUARED, "r2_score", 0),
        (10, "softmax", SQUARED, "accuracy", 0),
        (1, "tanh", SQUARED, "accuracy", 0),
        # one class of many
        (10, "softmax", INTEGERS, "accuracy", 0),
        (10, "softmax", ONE_HOT, "accuracy", 0),
        (10, "softmax", INTEGERS, "sparse_categorical_accuracy", 0),
        (10, "softmax", INTEGERS, "categorical_accuracy", 1),
        (10, "softmax", INTEGERS, "top_k_categorical_accuracy", 1),
        (10, "softmax", INTEGERS, "sparse_top_k_categorical_accuracy", 0),
        (10, "softmax", ONE_HOT, "sparse_categorical_accuracy", 1),
        (10, "softmax", ONE_HOT, "binary_accuracy", 1),
        (2, "softmax", ONE_HOT, "binary_accuracy", 0),
        (10, "softmax", INTEGERS, "precision", 1),
        (10, "softmax", INTEGERS, "f1_score", 1),
        (10, "softmax", INTEGERS, "mean_squared_error", 1),
        (10, "softmax", ONE_HOT, "precision", 0),
        (10, "softmax", ONE_HOT, "auc", 0),
        # two classes, or several labels
        (1, "sigmoid", BINARY, "accuracy", 0),
        (1, "sigmoid", BINARY, "auc", 0),
        (1, "sigmoid", BINARY, "categorical_accuracy", 1),
        (1, "sigmoid", BINARY, "sparse_categorical_accuracy", 1),
        (8, "sigmoid", BINARY, "accuracy", 1),
        (8, "sigmoid", BINARY, "binary_accuracy", 0),
        (2, "softmax", BINARY, "accuracy", 0),
        # what is not known
        (10, "softmax", INTEGERS, "own>score", 0),
        (1, "sigmoid", "own>loss", "accuracy", 0),
    ],
)
def test_metric_against_loss_and_head(
    findings: Judge, units: int, activation: str | None, loss: str, metric: str, count: int
) -> None:
    graph = headed(units, activation, loss, metric, custom=loss.startswith("own"))
    assert len(findings("GEB609", graph)) == count


def test_thresholds_over_logits(findings: Judge) -> None:
    def found(*named: str | MetricSettings) -> int:
        return len(findings("GEB609", headed(1, None, BINARY, *named, from_logits=True)))

    assert found("accuracy") == found("binary_accuracy") == found("precision") == found("auc") == 1
    assert found(MetricSettings(name="binary_accuracy", config={"threshold": 0.0})) == 0
    assert found(MetricSettings(name="precision", config={"thresholds": [0.0]})) == 0
    assert found(MetricSettings(name="precision", config={"thresholds": None})) == 1
    assert found(MetricSettings(name="auc", config={"from_logits": True})) == 0


def test_largest_of_logits_needs_no_threshold(findings: Judge) -> None:
    assert findings("GEB609", headed(10, None, INTEGERS, "accuracy", from_logits=True)) == ()


def test_the_class_accuracy_is_equality(findings: Judge) -> None:
    exact = MetricSettings(name="accuracy", config={"name": "accuracy", "dtype": "float32"})
    (found,) = findings("GEB609", headed(10, "softmax", INTEGERS, exact))
    assert "equal" in found.message
    # As Keras 2 writes what it took the string for.
    taken = MetricSettings(name="accuracy", config={"fn": "sparse_categorical_accuracy"})
    assert findings("GEB609", headed(10, "softmax", INTEGERS, taken)) == ()


def test_metrics_of_several_outputs(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 32, "relu")
    kind, size = build.dense(x, 4, "softmax"), build.dense(x, 1)
    compiled = (
        LossSettings(name=INTEGERS, output=kind),
        LossSettings(name=SQUARED, output=size),
    )
    graph = build.graph(kind, size, loss=compiled)
    assert findings("GEB609", measured(graph, "accuracy")) == ()
    named = [MetricSettings(name="accuracy", output=output) for output in (kind, size)]
    (found,) = findings("GEB609", measured(graph, *named))
    assert found.layers == (size,)


def test_a_metric_is_told_once(findings: Judge) -> None:
    assert len(findings("GEB609", headed(1, None, SQUARED, "accuracy", "accuracy"))) == 1


def test_uncompiled(findings: Judge) -> None:
    assert findings("GEB609", replace(headed(1, None, SQUARED, "accuracy"), compile=None)) == ()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_by_keras(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(
        "adam",
        losses.BinaryCrossentropy(from_logits=True),
        metrics=["accuracy", metrics.BinaryAccuracy(threshold=0.0), metrics.AUC(from_logits=True)],
    )
    path = tmp_path / f"model{suffix}"
    model.save(path)
    (found,) = audit(path, probe=False, select=("GEB609",)).findings
    assert found.place == "accuracy"
