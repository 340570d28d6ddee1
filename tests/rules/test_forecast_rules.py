"""GEB512 and GEB513: what is forecast where no probe ran."""

from collections.abc import Callable

import numpy as np
import pytest
from builders import GraphBuilder, Kernel, normal
from measured import probe

from auditor.finding import Confidence, Finding, Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple[Finding, ...]]
WIDTH = 64


def stack(
    kernel: Kernel,
    activation: str = "relu",
    *,
    depth: int = 24,
    norm: bool = False,
    opaque: int = 0,
    trainable: bool = True,
    format_: str = "keras",
    values: bool = True,
) -> LayerGraph:
    build = GraphBuilder(format_=format_, values=values)
    x = build.input((WIDTH,))
    for place in range(depth):
        x = build.dense(x, WIDTH, kernel=kernel, trainable=trainable)
        x = build.batch_norm(x) if norm else x
        x = build.activation(x, activation)
        if place < opaque:
            x = build.normalization(Op.LAYER_NORM, build.add(Op.OPAQUE, x, kind="Mystery"))
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


def test_an_exploding_stack_and_its_twin(findings: Judge) -> None:
    (finding,) = findings("GEB512", stack(normal(0.4)))
    assert finding.confidence is Confidence.HIGH
    assert len(finding.layers) == 5
    assert not findings("GEB513", stack(normal(0.4)))
    assert not findings("GEB512", stack("he_normal"))
    assert not findings("GEB513", stack("he_normal"))


def test_a_vanishing_stack_and_its_twin(findings: Judge) -> None:
    (finding,) = findings("GEB513", stack("glorot_uniform", "sigmoid"))
    assert finding.severity is Severity.WARNING
    assert "shrink" in finding.message
    assert not findings("GEB512", stack("glorot_uniform", "sigmoid"))
    assert not findings("GEB513", stack("glorot_uniform", "tanh"))


@pytest.mark.parametrize(("code", "stddev"), [("GEB512", 0.4), ("GEB513", 0.03)])
def test_what_the_scale_of_the_weights_explains_is_told_once(
    findings: Judge, code: str, stddev: float
) -> None:
    graph = stack(normal(stddev))
    (cause,) = findings("GEB302", graph)
    (effect,) = findings(code, graph)
    assert cause.severity is Severity.ERROR
    assert effect.severity is Severity.INFO
    assert "GEB302" in effect.message
    assert "he_normal" in effect.remedy


def test_what_the_scale_does_not_explain_is_a_warning(findings: Judge) -> None:
    # Normalization takes the scale out again: what grows is what its depth makes grow.
    (finding,) = findings(
        "GEB512", stack("he_normal", depth=48, norm=True), **{"normalized-ratio": 1e3}
    )
    assert finding.severity is Severity.WARNING
    assert "GEB302" not in finding.message
    # Two layers are too large by the factor that many others are too small.
    build = GraphBuilder()
    x = build.input((WIDTH,))
    for place in range(24):
        x = build.dense(x, WIDTH, "sigmoid", kernel=normal(0.125 if place else 2.0))
    (finding,) = findings("GEB513", build.graph(build.dense(x, 10, "softmax"), loss="mse"))
    assert finding.severity is Severity.WARNING


def test_architecture_alone_will_do(findings: Judge) -> None:
    assert findings("GEB512", stack(normal(0.4), values=False))


def test_silent_where_the_probe_ran(findings: Judge) -> None:
    assert not findings("GEB512", stack(normal(0.4)), probe())
    assert not findings("GEB513", stack("glorot_uniform", "sigmoid"), probe())


def test_depth_of_normalized_layers_is_forgiven(findings: Judge) -> None:
    # √(π/(π − 1)) = 1.21 a layer: 10⁴ over 48 layers, which train slowly.
    graph = stack("he_normal", depth=48, norm=True)
    assert not findings("GEB512", graph)
    assert findings("GEB512", graph, **{"normalized-ratio": 1e3})


def test_the_ratio_is_an_option(findings: Judge) -> None:
    graph = stack(normal(0.25), depth=10)  # 1.41 a layer
    assert not findings("GEB512", graph)
    assert findings("GEB512", graph, ratio=10.0)
    shrinking = stack(normal(0.12), depth=10)
    assert not findings("GEB513", shrinking)
    assert findings("GEB513", shrinking, ratio=0.2)


@pytest.mark.parametrize(("opaque", "confidence"), [(0, Confidence.HIGH), (4, Confidence.MEDIUM)])
def test_confidence_follows_what_is_covered(
    findings: Judge, opaque: int, confidence: Confidence
) -> None:
    (finding,) = findings("GEB512", stack(normal(0.6), opaque=opaque))
    assert finding.confidence is confidence


def test_trained_weights_are_not_judged(
    skipped: Callable[[LayerGraph], dict[str, str]], findings: Judge
) -> None:
    build = GraphBuilder()
    x = build.input((WIDTH,))
    trained = np.random.default_rng(0).normal(0.1, 0.4, (WIDTH, WIDTH)).astype("float32")
    for _ in range(12):
        x = build.dense(x, WIDTH, "relu", kernel=trained)
    graph = build.graph(build.dense(x, 3, kernel=trained[:, :3]))
    assert not findings("GEB512", graph)
    assert "drawn" in skipped(graph)["GEB512"]


def test_frozen_layers_need_no_gradient(findings: Judge) -> None:
    assert not findings("GEB512", stack(normal(0.4), trainable=False))


def test_zero_kernels_are_no_vanishing(findings: Judge) -> None:
    assert not findings("GEB513", stack("zeros"))
