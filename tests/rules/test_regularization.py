"""GEB405: penalties and decay against the loss."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from builders import GraphBuilder
from compiled import optimized
from measured import probe

from auditor.finding import Confidence
from auditor.graph import LayerGraph, Op
from auditor.graph.penalties import penalties
from auditor.measurement import CallMeasurement, ProbeResult

Judge = Callable[..., tuple]


def l2(strength: float) -> dict[str, Any]:
    return {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": strength}}


def l1(strength: float) -> dict[str, Any]:
    return {"class_name": "L1", "config": {"l1": strength}}


def penalized(optimizer: str = "adam", **regularizers: Any) -> LayerGraph:
    """Two layers of 64 units, each with these regularizers."""
    build = GraphBuilder()
    x = build.input((64,))
    for _ in range(2):
        x = build.dense(x, 64, "relu")
        build.calls[-1] = replace(
            build.calls[-1], config={**build.calls[-1].config, **regularizers}
        )
    graph = build.graph(build.dense(x, 5, "softmax"), loss="categorical_crossentropy")
    return optimized(graph, optimizer)


def seen(penalty: float, rest: float) -> ProbeResult:
    """Two layers whose gradients are of these norms, together; the head has no penalty."""
    call = CallMeasurement(
        weight_gradient_norm=1.0,
        penalty_gradient_norm=penalty / 2**0.5,
        unpenalized_gradient_norm=rest / 2**0.5,
    )
    head = CallMeasurement(weight_gradient_norm=1.0)
    return probe(calls={"dense": call, "dense_1": call, "dense_2": head})


@pytest.mark.parametrize(
    ("regularizer", "count"),
    [
        (l2(1.0), 1), (l2(0.1), 1), (l2(0.05), 0), (l2(1e-4), 0),
        (l1(0.1), 1), (l1(0.01), 0), ("l2", 0), ("l1_l2", 0), (None, 0),
        ({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}}, 1),
        ({"class_name": "own>Huge", "config": {"l2": 9.0}}, 0),
        ({"class_name": "OrthogonalRegularizer", "config": {"factor": 9.0}}, 0),
        ({"class_name": "L2", "config": {"l2": "9"}}, 0),
    ],
)  # fmt: skip
def test_coefficients(findings: Judge, regularizer: Any, count: int) -> None:
    found = findings("GEB405", penalized(kernel_regularizer=regularizer))
    assert len(found) == count
    assert all(one.layers == ("dense", "dense_1") for one in found)


def test_coefficients_are_options(findings: Judge) -> None:
    assert len(findings("GEB405", penalized(kernel_regularizer=l2(0.01)), l2=0.005)) == 1
    assert findings("GEB405", penalized(kernel_regularizer=l1(0.1)), l1=0.5) == ()


def test_an_activity_penalty(findings: Judge) -> None:
    assert len(findings("GEB405", penalized(activity_regularizer=l1(0.5)))) == 1
    # Sparse autoencoders.
    assert findings("GEB405", penalized(activity_regularizer=l1(1e-5))) == ()
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 8)
    x = build.add(Op.REGULARIZATION, x, config={"l1": 0.3, "l2": 0.0})
    assert len(findings("GEB405", build.graph(build.dense(x, 1), loss="mse"))) == 1


def test_measured_dominance(findings: Judge) -> None:
    graph = penalized(kernel_regularizer=l2(0.05))
    (found,) = findings("GEB405", graph, seen(10.0, 1.9))
    assert found.confidence is Confidence.HIGH
    assert "5.3 times" in found.message
    values = {one.name: one.value for one in found.evidence}
    assert values["gradient of the penalties"] == pytest.approx(10.0)
    assert values["gradient of the loss"] == pytest.approx(1.9)
    assert findings("GEB405", graph, seen(10.0, 2.1)) == ()
    assert len(findings("GEB405", graph, seen(10.0, 2.1), dominance=4)) == 1


def test_a_loss_without_a_gradient(findings: Judge) -> None:
    (found,) = findings("GEB405", penalized(kernel_regularizer=l2(1e-4)), seen(1.0, 0.0))
    assert "over a thousand times" in found.message
    assert findings("GEB405", penalized(kernel_regularizer=l2(1e-4)), seen(0.0, 0.0)) == ()


def test_what_is_measured_counts_more_than_a_coefficient(findings: Judge) -> None:
    assert findings("GEB405", penalized(kernel_regularizer=l2(0.2)), seen(1.0, 1e3)) == ()


@pytest.mark.parametrize("rest", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_no_measure(findings: Judge, rest: float) -> None:
    graph = penalized(kernel_regularizer=l2(1.0))
    (found,) = findings("GEB405", graph, seen(1.0, rest))
    assert found.confidence is Confidence.MEDIUM


def test_layers_without_a_measure_leave_it_to_the_coefficient(findings: Judge) -> None:
    calls = {name: CallMeasurement(weight_gradient_norm=1.0) for name in ("dense", "dense_1")}
    graph = penalized(kernel_regularizer=l2(1.0))
    (found,) = findings("GEB405", graph, probe(calls=calls))
    assert found.confidence is Confidence.MEDIUM


def test_twice(findings: Judge) -> None:
    (found,) = findings("GEB405", penalized("adamw", kernel_regularizer=l2(1e-4)))
    assert "twice" in found.message
    assert findings("GEB405", penalized("adamw")) == ()
    assert findings("GEB405", penalized("adamw", bias_regularizer=l2(1e-4))) == ()
    graph = optimized(penalized(kernel_regularizer=l2(1e-4)), "adamw", weight_decay=None)
    assert findings("GEB405", graph) == ()


@pytest.mark.parametrize(
    ("name", "rate", "decay", "count"),
    [
        ("adamw", 1e-3, 0.1, 0), ("adamw", 1e-3, 10.0, 1), ("adamw", 1e-3, 1.0, 0),
        ("lion", 3e-4, 1.0, 0), ("sgd", 0.1, 5e-4, 0), ("sgd", 0.1, 0.1, 1),
        ("sgd", 0.1, 20.0, 1), ("adam", None, 10.0, 0),
    ],
)  # fmt: skip
def test_decay(findings: Judge, name: str, rate: float | None, decay: float, count: int) -> None:
    graph = optimized(penalized(), name, rate, weight_decay=decay)
    assert len(findings("GEB405", graph)) == count


def test_frozen_weights_are_not_penalized() -> None:
    graph = penalized(kernel_regularizer=l2(1.0))
    frozen = replace(graph, calls=tuple(replace(call, trainable=False) for call in graph.calls))
    assert len(penalties(graph)) == 2
    assert penalties(frozen) == ()


def test_uncompiled(findings: Judge) -> None:
    assert findings("GEB405", replace(penalized(kernel_regularizer=l2(1.0)), compile=None)) == ()
