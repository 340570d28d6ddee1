"""GEB407 and GEB603: clipping that is set wrongly, and clipping that is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from builders import GraphBuilder
from compiled import optimized
from measured import norms, probe

from auditor import audit
from auditor.finding import Severity
from auditor.graph import LayerGraph
from auditor.measurement import CallMeasurement, Distribution

Judge = Callable[..., tuple]


def clipped(name: str = "sgd", **clip: Any) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.dense(build.input((64,)), 64, "relu"), 5, "softmax")
    return optimized(build.graph(x, loss="categorical_crossentropy"), name, 0.1, **clip)


def recurrent(name: str = "sgd", steps: int | None = 400, **clip: Any) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.lstm(build.input((steps, 4)), 8), 1)
    return optimized(build.graph(x, loss="mean_squared_error"), name, 0.1, **clip)


def test_two_modes(findings: Judge) -> None:
    (found,) = findings("GEB407", clipped(clipnorm=1.0, clipvalue=0.5))
    assert "clipnorm and by clipvalue" in found.message
    assert findings("GEB407", clipped(clipnorm=1.0, clipvalue=None)) == ()


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_clip_that_is_none(findings: Judge, value: float) -> None:
    (found,) = findings("GEB407", clipped(global_clipnorm=value))
    assert "clips nothing" in found.message


@pytest.mark.parametrize(("clip", "count"), [(1.0, 0), (0.03, 0), (0.01, 1), (1e-6, 1)])
def test_a_clip_far_below_the_gradient(findings: Judge, clip: float, count: int) -> None:
    measured = probe(gradient_norm=norms(2.0))
    found = findings("GEB407", clipped(global_clipnorm=clip), measured)
    assert [one.severity for one in found] == [Severity.WARNING] * count


def test_orders_are_an_option(findings: Judge) -> None:
    graph, measured = clipped(global_clipnorm=0.03), probe(gradient_norm=norms(2.0))
    assert len(findings("GEB407", graph, measured, orders=10.0)) == 1


def test_an_adaptive_step_bears_a_low_clip(findings: Judge) -> None:
    measured = probe(gradient_norm=norms(2.0))
    (found,) = findings("GEB407", clipped("adam", global_clipnorm=0.01), measured)
    assert found.severity is Severity.INFO
    # What is left of the gradient is below Adam's epsilon.
    (found,) = findings("GEB407", clipped("adam", global_clipnorm=1e-6), measured)
    assert found.severity is Severity.WARNING
    (found,) = findings("GEB407", clipped("lion", global_clipnorm=1e-6), measured)
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    ("mode", "clip", "count"),
    [("clipnorm", 0.1, 0), ("clipnorm", 1e-3, 1), ("clipvalue", 1e-3, 0), ("clipvalue", 1e-6, 1)],
)
def test_other_modes_have_other_measures(
    findings: Judge, mode: str, clip: float, count: int
) -> None:
    calls = {name: CallMeasurement(weight_gradient_norm=0.5) for name in ("dense", "dense_1")}
    assert len(findings("GEB407", clipped(**{mode: clip}), probe(calls=calls))) == count


def spiked(largest: float, count: int = 8) -> Distribution:
    return Distribution(mean=1.5, p10=0.9, p50=1.0, p90=1.2, max=largest, count=count)


@pytest.mark.parametrize(("largest", "count"), [(1.3, 0), (4.9, 0), (6.0, 1), (1e4, 1)])
def test_a_spike(findings: Judge, largest: float, count: int) -> None:
    measured = probe(gradient_norm=spiked(largest))
    assert len(findings("GEB603", clipped("adam"), measured)) == count
    assert findings("GEB603", clipped("adam", clipnorm=1.0), measured) == ()


def test_two_batches_have_no_tail(findings: Judge) -> None:
    assert findings("GEB603", clipped(), probe(gradient_norm=spiked(50.0, count=2))) == ()
    assert findings("GEB603", clipped(), probe(gradient_norm=spiked(float("inf")))) == ()


def test_long_recurrence_under_plain_descent(findings: Judge) -> None:
    (found,) = findings("GEB603", recurrent())
    assert found.layers == ("lstm",)
    assert "400 steps" in found.message


@pytest.mark.parametrize(
    "graph",
    [
        recurrent("adam"),
        recurrent("rmsprop"),
        recurrent(steps=30),
        recurrent(steps=None),
        recurrent(global_clipnorm=1.0),
        replace(recurrent(), compile=None),
    ],
    ids=["adam", "rmsprop", "short", "unknown length", "clipped", "uncompiled"],
)
def test_recurrence_that_needs_no_advice(findings: Judge, graph: LayerGraph) -> None:
    assert findings("GEB603", graph) == ()


def test_steps_and_tail_are_options(findings: Judge) -> None:
    assert len(findings("GEB603", recurrent(steps=30), steps=20)) == 1
    measured = probe(gradient_norm=spiked(3.0))
    assert len(findings("GEB603", clipped(), measured, tail=2.0)) == 1


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_by_keras(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(clipvalue=0.5)
    optimizer.clipnorm = 1.0  # the constructor would refuse it
    model.compile(optimizer, keras.losses.MeanSquaredError())
    path = tmp_path / f"model{suffix}"
    model.save(path)
    (found,) = audit(path, probe=False, select=("GEB407",)).findings
    assert found.severity is Severity.WARNING
