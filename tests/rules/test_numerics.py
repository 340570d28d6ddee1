"""GEB8: each rule on a bad graph, its mended twin, and the healthy pattern nearest to it."""

from dataclasses import replace

import keras
import pytest
from builders import GraphBuilder, Stored, normal
from keras import layers, ops
from measured import probe

from auditor.finding import Confidence, Finding, Severity
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph import LayerGraph, Op
from auditor.graph.forecast import forecast
from auditor.judgement import Selection, judge
from auditor.measurement import CallMeasurement, ProbeResult
from auditor.rule import Facts, Rule
from auditor.rules import numerics

Tensor = keras.KerasTensor


def found(
    rule: Rule, graph: LayerGraph, seen: ProbeResult | None = None, **options: float
) -> tuple[Finding, ...]:
    facts = Facts(graph=graph, forecast=forecast(graph), probe=seen)
    selection = Selection(options={rule.code: options} if options else {})
    return judge((rule,), facts, selection)[0]


def live(*outputs: Tensor, inputs: Tensor) -> LayerGraph:
    return read_live_model(keras.Model(inputs, list(outputs)), DEFAULT_LIMITS).graph


# GEB801


def test_a_mask_that_is_infinite_in_half_precision() -> None:
    x = keras.Input((8,), dtype="float16")
    scores = layers.Dense(8, dtype="float16")(x)
    bad = live(ops.softmax(scores + (1.0 - x) * -1e9), inputs=x)
    mended = live(ops.softmax(scores + (1.0 - x) * -3e4), inputs=x)
    (finding,) = found(numerics.half_precision_overflow, bad)
    assert "65504" in finding.message
    assert finding.severity is Severity.WARNING
    assert not found(numerics.half_precision_overflow, mended)


def test_the_same_mask_in_single_precision() -> None:
    x = keras.Input((8,))
    graph = live(ops.softmax(layers.Dense(8)(x) + (1.0 - x) * -1e9), inputs=x)
    assert not found(numerics.half_precision_overflow, graph)


def half(graph: LayerGraph) -> LayerGraph:
    return replace(graph, calls=tuple(replace(call, dtype="float16") for call in graph.calls))


def stack(sigma: float) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((64,))
    for _ in range(6):
        x = build.dense(x, 64, "relu", kernel=normal(sigma))
    return half(build.graph(build.dense(x, 3)))


def test_signals_that_grow_beyond_half_precision() -> None:
    (finding,) = found(numerics.half_precision_overflow, stack(2.0))
    assert finding.layers[-1] == "dense_6"
    assert finding.confidence is Confidence.MEDIUM
    assert not found(numerics.half_precision_overflow, stack(0.18))


def test_the_margin_is_an_option() -> None:
    graph = stack(0.8)
    most = max(call.variance for call in forecast(graph).calls.values()) ** 0.5  # type: ignore[union-attr]
    assert most < 65504
    margin = 65504 / most
    assert found(numerics.half_precision_overflow, graph, margin=1.1 * margin)
    assert not found(numerics.half_precision_overflow, graph, margin=0.9 * margin)


def test_what_the_probe_saw_comes_before_the_forecast() -> None:
    graph = stack(2.0)
    for largest, expected in ((40_000.0, 1), (900.0, 0)):
        seen = probe(calls={"dense_2": CallMeasurement(max_abs=largest)})
        assert len(found(numerics.half_precision_overflow, graph, seen)) == expected


# GEB802


def classifier(x: Tensor) -> Tensor:
    return layers.Dense(4, activation="softmax")(x)


DOMAINS = {
    "entropy": (
        lambda x: ops.log(classifier(x)),
        lambda x: ops.log(classifier(x) + 1e-7),
    ),
    "log of a linear layer": (
        lambda x: ops.log(layers.Dense(4)(x)),
        lambda x: ops.log(1.0 + ops.exp(layers.Dense(4)(x))),
    ),
    "distance": (
        lambda x: ops.sqrt(ops.sum(ops.square(layers.Dense(4)(x) - x), axis=-1)),
        lambda x: ops.sqrt(ops.maximum(ops.sum(ops.square(layers.Dense(4)(x) - x), axis=-1), 1e-9)),
    ),
    "quotient": (
        lambda x: x / layers.Dense(4)(x),
        lambda x: x / layers.Dense(4, activation="sigmoid")(1e-3 + ops.abs(x)).__add__(0.1),
    ),
    "weights of a mean": (
        lambda x: x / ops.sum(layers.Dense(4, activation="relu")(x), axis=-1, keepdims=True),
        lambda x: (
            x / (ops.sum(layers.Dense(4, activation="relu")(x), axis=-1, keepdims=True) + 1e-6)
        ),
    ),
    "power": (
        lambda x: ops.power(layers.Dense(4, activation="tanh")(x), 0.5),
        lambda x: ops.power(ops.clip(layers.Dense(4, activation="tanh")(x), 1e-6, 1.0), 0.5),
    ),
    "angle": (
        lambda x: ops.arccos(layers.Dense(4)(x)),
        lambda x: ops.arccos(ops.clip(layers.Dense(4)(x), -1.0, 1.0)),
    ),
    "pixels": (
        lambda x: ops.exp(255.0 * layers.Dense(4, activation="sigmoid")(x)),
        lambda x: ops.exp(5.0 * layers.Dense(4, activation="sigmoid")(x)),
    ),
    "reciprocal": (
        lambda x: 1.0 / layers.Dense(4, activation="relu")(x),
        lambda x: 1.0 / (1.0 + layers.Dense(4, activation="relu")(x)),
    ),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_unguarded_domains_and_their_twins(name: str) -> None:
    bad, mended = DOMAINS[name]
    x = keras.Input((4,))
    (finding,) = found(numerics.unguarded_domain, live(bad(x), inputs=x))
    assert finding.severity is Severity.WARNING
    assert finding.evidence
    assert "```python" in finding.remedy
    assert not found(numerics.unguarded_domain, live(mended(x), inputs=x))


HEALTHY = {
    "variational sampling": lambda x: ops.exp(0.5 * layers.Dense(4)(x)) * layers.Dense(4)(x),
    "logarithm of data": lambda x: ops.log(x),
    "masked mean": lambda x: (
        ops.sum(x, axis=-1) / ops.sum(ops.cast(ops.not_equal(x, 0.0), "float32"), axis=-1)
    ),
    "own guard": lambda x: ops.log(ops.where(layers.Dense(4)(x) > 0, x, 1.0)),
    "standardised by hand": lambda x: (x - ops.mean(x)) / ops.sqrt(ops.var(x) + 1e-6),
    "softplus scale": lambda x: (
        layers.Dense(4)(x) / (1e-3 + layers.Dense(4, activation="softplus")(x))
    ),
    "log of a sum of exponentials": lambda x: ops.logsumexp(layers.Dense(4)(x), axis=-1),
    "log spectrum": lambda x: ops.log(
        layers.Dense(4, kernel_initializer="ones", use_bias=False)(ops.square(x)) + 1e-6
    ),
    "divides by a number": lambda x: layers.Dense(4)(x) / 8.0,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_arithmetic(name: str) -> None:
    x = keras.Input((4,))
    graph = live(layers.Dense(2)(ops.reshape(HEALTHY[name](x), (-1, 1))), inputs=x)
    assert not found(numerics.unguarded_domain, graph)
    assert not found(numerics.unstable_softmax, graph)


def test_an_edge_is_less_certain_and_no_matter_at_inference() -> None:
    def graph(activation: str, format_: str) -> LayerGraph:
        build = GraphBuilder(format_=format_)
        x = build.dense(build.input((4,)), 4, activation)
        return build.graph(build.add(Op.ELEMENTWISE, x, kind="Sqrt"))

    (edge,) = found(numerics.unguarded_domain, graph("relu", "keras"))
    (inside,) = found(numerics.unguarded_domain, graph("tanh", "keras"))
    assert (edge.confidence, inside.confidence) == (Confidence.MEDIUM, Confidence.HIGH)
    assert not found(numerics.unguarded_domain, graph("relu", "onnx"))
    assert found(numerics.unguarded_domain, graph("tanh", "onnx"))


# GEB803


def test_an_epsilon_that_half_precision_does_not_hold() -> None:
    x = keras.Input((4,), dtype="float16")
    (finding,) = found(numerics.epsilon_underflow, live(ops.log(ops.abs(x) + 1e-8), inputs=x))
    assert "1e-08" in finding.message
    for mended in (
        ops.log(ops.abs(x) + 1e-6),
        ops.log(ops.cast(ops.abs(x), "float32") + 1e-8),
        layers.LayerNormalization(epsilon=1e-12, dtype="float16")(x),
        x + 0.0,
    ):
        assert not found(numerics.epsilon_underflow, live(mended, inputs=x))


def test_single_precision_holds_an_epsilon() -> None:
    x = keras.Input((4,))
    held = live(ops.log(ops.maximum(x, 1e-12)), inputs=x)
    lost = live(ops.log(ops.maximum(x, 1e-60)), inputs=x)
    assert not found(numerics.epsilon_underflow, held)
    assert found(numerics.epsilon_underflow, lost)


# GEB804


def normalized(x: Tensor) -> Tensor:
    return ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)


def test_a_softmax_by_hand() -> None:
    x = keras.Input((4,))
    y = layers.Dense(4)(x)
    (finding,) = found(numerics.unstable_softmax, live(normalized(y), inputs=x))
    assert finding.confidence is Confidence.HIGH
    powers = ops.exp(y)
    padded = powers / (ops.sum(powers, axis=-1, keepdims=True) + 1e-9)
    assert found(numerics.unstable_softmax, live(padded, inputs=x))


def test_a_softmax_by_hand_that_cannot_overflow() -> None:
    x = keras.Input((4,))
    y = layers.Dense(4)(x)
    shifted = y - ops.max(y, axis=-1, keepdims=True)
    bounded = 20.0 * layers.Dense(4, activation="tanh")(x)
    for logits in (shifted, bounded):
        assert not found(numerics.unstable_softmax, live(normalized(logits), inputs=x))
    assert not found(numerics.unstable_softmax, live(ops.softmax(y), inputs=x))
    graph = live(normalized(bounded), inputs=x)
    assert found(numerics.unstable_softmax, graph, **{"largest-logit": 10.0})


# GEB805


def convolutions(count: int, *, format_: str = "onnx", norm: bool = False) -> LayerGraph:
    build = GraphBuilder(format_=format_)
    x = build.input((16, 16, 8))
    for _ in range(count):
        x = build.conv(x, 8, 3, "relu")
        x = build.batch_norm(x) if norm else x
    return build.graph(build.dense(build.global_average(x), 3))


def test_folded_normalization() -> None:
    (finding,) = found(numerics.inference_export, convolutions(10))
    assert finding.severity is Severity.INFO
    assert "no dropout" in finding.message
    for other in (
        convolutions(4),
        convolutions(10, norm=True),
        convolutions(10, format_="keras"),
    ):
        assert not found(numerics.inference_export, other)
    assert found(numerics.inference_export, convolutions(4), convolutions=3)


def test_quantized_weights() -> None:
    graph = convolutions(1)
    calls = tuple(
        replace(
            call,
            weights=tuple(
                replace(weight, dtype="int8", read=Stored(weight.read().astype("int8")))
                if weight.role == "kernel" and weight.read
                else weight
                for weight in call.weights
            ),
        )
        for call in graph.calls
    )
    (finding,) = found(numerics.inference_export, replace(graph, calls=calls))
    assert "2 layers with quantized weights" in finding.message
