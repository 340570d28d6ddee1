"""The rules on what a probe measured of single layers: what fires, and what is healthy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import GraphBuilder, Stored
from measured import probe

from auditor.finding import Confidence, Severity
from auditor.graph import CompileSettings, LossSettings, Op, OptimizerSettings
from auditor.measurement import (
    AttentionMeasurement,
    BlockProfile,
    CallMeasurement,
    Distribution,
    Estimate,
    JacobianMeasurement,
    TimeGrowth,
)


def estimate(value: float, error: float = 0.0) -> Estimate:
    return Estimate(value=value, low=value, high=value, error=error, method="by hand")


def jacobian(gain: float, isometry: float = 0.25, width: int = 32) -> JacobianMeasurement:
    frobenius = gain * math.sqrt(width)
    return JacobianMeasurement(
        spectral_norm=estimate(gain / math.sqrt(isometry)),
        frobenius_norm=estimate(frobenius),
        inputs=width,
        outputs=width,
        samples=4,
    )


def stack(layers: int = 6, activation: str = "relu", *, norm: bool = False):
    build = GraphBuilder()
    call = build.input((32,))
    for _ in range(layers):
        call = build.dense(call, 32, activation, kernel="he_normal")
        if norm:
            call = build.batch_norm(call)
    return build.graph(build.dense(call, 3, "softmax"), loss="categorical_crossentropy")


def trained(graph):
    """The same model with weights that no initializer drew."""

    def moved(weight):
        values = 0.9 + 0.1 * np.asarray(weight.read())
        return replace(weight, read=Stored(values.astype(np.float32)))

    return replace(
        graph,
        calls=tuple(
            replace(call, weights=tuple(moved(weight) for weight in call.weights))
            for call in graph.calls
        ),
    )


def gains(graph, **odd: float):
    return probe(
        calls={
            call.id: CallMeasurement(jacobian=jacobian(odd.get(call.id, 0.9)))
            for call in graph.calls
            if call.op is Op.DENSE
        }
    )


# GEB206


def saturated(share: float, *names: str, **more):
    return probe(calls={name: CallMeasurement(saturated_share=share) for name in names}, **more)


@pytest.mark.parametrize(("share", "fires"), [(0.03, False), (0.49, False), (0.7, True)])
def test_saturated_units(findings, share, fires) -> None:
    graph = stack(activation="tanh")
    found = findings("GEB206", graph, saturated(share, "dense", "dense_1"))
    assert [finding.severity for finding in found] == [Severity.WARNING] * fires
    if fires:
        assert found[0].layers == ("dense", "dense_1")
        assert (
            findings("GEB206", stack(activation="tanh"), saturated(share, "dense"), share=0.8) == ()
        )


def test_outputs_and_gates_may_be_sure(findings) -> None:
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu")
    gate = build.dense(call, 8, "sigmoid", kernel="glorot_uniform")
    call = build.add(Op.MULTIPLY, call, gate)
    head = build.dense(call, 1, "sigmoid")
    graph = build.graph(head, loss="binary_crossentropy")
    assert findings("GEB206", graph, saturated(0.99, gate, head)) == ()


def test_trained_codes_saturate_on_synthetic_batches(findings) -> None:
    graph = trained(stack(activation="tanh"))
    assert findings("GEB206", graph, saturated(0.9, "dense")) == ()
    assert findings("GEB206", graph, saturated(0.9, "dense", data="own.npz")) != ()


# GEB504


@pytest.mark.parametrize(
    ("gain", "fires"), [(0.02, False), (5.0, False), (9.0, False), (12.0, True), (0.003, True)]
)
def test_a_layer_off_its_neighbours(findings, gain, fires) -> None:
    graph = stack()
    found = findings("GEB504", graph, gains(graph, dense_2=gain))
    assert [finding.layers for finding in found] == [("dense_2",)] * fires
    assert all(finding.severity is Severity.WARNING for finding in found)


def test_options_of_gains(findings) -> None:
    graph = stack()
    assert findings("GEB504", graph, gains(graph, dense_2=12.0), factor=20.0) == ()
    cold = {"cold-factor": 1e4}
    assert findings("GEB504", graph, gains(graph, dense_2=0.003), **cold) == ()


def test_scales_that_nobody_has_to_mind(findings) -> None:
    graph = stack(norm=True)
    assert findings("GEB504", graph, gains(graph, dense_2=50.0)) == (), "normalized behind it"
    graph = stack()
    assert findings("GEB504", graph, gains(graph, dense_6=0.001)) == (), "a small head"
    assert findings("GEB504", graph, gains(graph, dense_2=0.0)) == (), "starts at zero"
    short = stack(2)
    assert findings("GEB504", short, gains(short, dense_1=50.0)) == (), "too few to compare"


def test_a_change_of_width_is_no_gain(findings) -> None:
    """512 to 4 channels: the backward gain is small, the forward gain is not, or the reverse."""
    graph = stack()
    measured = gains(graph)
    narrow = JacobianMeasurement(
        spectral_norm=estimate(2.0),
        frobenius_norm=estimate(20.0),
        inputs=40_000,
        outputs=4,
        samples=4,
    )
    calls = {**measured.calls, "dense_2": CallMeasurement(jacobian=narrow)}
    assert findings("GEB504", graph, replace(measured, calls=calls)) == ()


# GEB505


def ranks(rank: float, width: int = 32, **more):
    measured = jacobian(0.9, isometry=rank / width, width=width)
    return probe(calls={"dense_1": CallMeasurement(jacobian=measured, **more)})


@pytest.mark.parametrize(
    ("rank", "width", "fires"),
    [(8, 32, False), (2.5, 32, False), (1.2, 32, True), (1.2, 10, False)],
)
def test_stable_rank(findings, rank, width, fires) -> None:
    found = findings("GEB505", stack(), ranks(rank, width))
    assert [finding.severity for finding in found] == [Severity.WARNING] * fires
    assert findings("GEB505", stack(), ranks(rank, width), rank=1.1) == ()


def test_low_ranks_with_another_reason(findings) -> None:
    assert findings("GEB505", trained(stack()), ranks(1.2)) == (), "trained"
    assert findings("GEB505", stack(), ranks(1.2, saturated_share=0.9)) == (), "saturated"
    assert findings("GEB505", stack(), ranks(1.2, dead_share=0.9)) == (), "dead"


# GEB506


def recurrent(optimizer: dict | None = None, *, trainable: bool = True):
    build = GraphBuilder()
    call = build.lstm(build.input((60, 4)), 8)
    graph = build.graph(build.dense(call, 1), loss="mse")
    settings = CompileSettings(
        optimizer=OptimizerSettings(name="adam", learning_rate=1e-3, config=optimizer or {}),
        losses=(LossSettings(name="mse"),),
    )
    calls = tuple(replace(c, trainable=trainable or c.op is not Op.LSTM) for c in graph.calls)
    return replace(graph, compile=settings, calls=calls)


def grows(value: float, error: float = 0.01, length: int = 60):
    time = TimeGrowth(growth=estimate(value, error), steps=60, length=length)
    return probe(calls={"lstm": CallMeasurement(time=time)})


@pytest.mark.parametrize(
    ("value", "error", "length", "severity"),
    [
        (0.8, 0.02, 60, None),
        (1.0, 0.02, 1000, None),
        (1.05, 0.01, 60, None),
        (1.2, 0.25, 60, None),  # it may be 1 as well
        (1.2, 0.02, 60, Severity.WARNING),
        (1.5, 0.05, 60, Severity.ERROR),
        (1.5, 0.05, 10, None),
        (math.inf, 0.0, 60, None),
    ],
)
def test_growth_along_time(findings, value, error, length, severity) -> None:
    found = findings("GEB506", recurrent(), grows(value, error, length))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_what_makes_an_explosion_less_than_certain(findings) -> None:
    clipped = recurrent({"global_clipnorm": 1.0})
    (finding,) = findings("GEB506", clipped, grows(1.5))
    assert finding.severity is Severity.WARNING
    assert findings("GEB506", recurrent(trainable=False), grows(1.5)) == (), "a reservoir"
    bounds = {"growth": 1e20, "error-growth": 1e30}
    assert findings("GEB506", recurrent(), grows(1.5), **bounds) == ()


# GEB508


def still(graph, *names: str, **more):
    return probe(
        calls={
            call.id: CallMeasurement(weight_gradient_norm=0.0 if call.id in names else 1.0)
            for call in graph.calls
            if call.weights
        },
        **more,
    )


def test_layers_without_a_gradient(findings) -> None:
    graph = stack()
    assert findings("GEB508", graph, still(graph)) == ()
    (finding,) = findings("GEB508", graph, still(graph, "dense_1", data="own.npz"))
    assert (finding.severity, finding.layers) == (Severity.ERROR, ("dense_1",))
    (finding,) = findings("GEB508", graph, still(graph, "dense_1"))
    assert finding.severity is Severity.WARNING, "synthetic batches may leave a branch alone"
    everything = still(graph, *(call.id for call in graph.calls))
    (finding,) = findings("GEB508", graph, everything)
    assert finding.severity is Severity.ERROR


def test_a_last_kernel_of_zeros_moves_first(findings) -> None:
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu")
    graph = build.graph(build.dense(call, 1, kernel="zeros"), loss="mse")
    assert findings("GEB508", graph, still(graph, "dense")) == ()


def test_dead_and_frozen_layers_are_told_elsewhere(findings) -> None:
    graph = stack(2)
    measured = still(graph, "dense")
    dead = {**measured.calls, "dense_1": CallMeasurement(dead_share=1.0)}
    assert findings("GEB508", graph, replace(measured, calls=dead)) == ()
    frozen = replace(graph, calls=tuple(replace(c, trainable=c.id != "dense") for c in graph.calls))
    assert findings("GEB508", frozen, still(graph, "dense", data="own")) == ()


def test_an_output_without_a_loss_teaches_nothing(findings) -> None:
    build = GraphBuilder()
    trunk = build.dense(build.input((8,)), 8, "relu")
    first, second = build.dense(trunk, 1), build.dense(trunk, 1)
    losses = (LossSettings(name="mse", output=first),)
    graph = build.graph(first, second, loss=losses)
    assert findings("GEB508", graph, still(graph, second, data="own")) == ()
    assert findings("GEB508", graph, still(graph, first, data="own")) != ()


# GEB509


def blocks(count: int = 12):
    build = GraphBuilder()
    call = build.dense(build.input((16,)), 16)
    for _ in range(count):
        branch = build.dense(build.dense(call, 16, "relu"), 16)
        call = build.add(Op.ADD, call, branch)
    return build.graph(build.dense(call, 3, "softmax"), loss="categorical_crossentropy")


def variances(graph, law):
    sums = [call.id for call in graph.calls if call.op is Op.ADD]
    return probe(
        residual_profile=tuple(
            BlockProfile(
                call=name, branch=None, squared_mean=0.0, variance=law(k), branch_variance=None
            )
            for k, name in enumerate(sums)
        )
    )


@pytest.mark.parametrize(
    ("law", "fires"),
    [
        (lambda k: 1.0, False),
        (lambda k: 1.0 + k, False),
        (lambda k: 0.001 + k, False),  # a small embedding, and normalized branches
        (lambda k: 1.5**k, False),
        (lambda k: 2.0**k, True),
        (lambda k: math.nan, False),
        (lambda k: 0.0, False),
    ],
)
def test_variance_along_blocks(findings, law, fires) -> None:
    graph = blocks()
    found = findings("GEB509", graph, variances(graph, law))
    assert [finding.severity for finding in found] == [Severity.WARNING] * fires
    assert findings("GEB509", graph, variances(graph, law), growth=1e9) == ()


# GEB510


def attends(scale: float, entropy: float, keys: int = 32):
    def spread(value: float) -> Distribution:
        return Distribution(mean=value, p10=value, p50=value, p90=value, max=value, count=8)

    measured = AttentionMeasurement(logit_scale=spread(scale), entropy=spread(entropy), keys=keys)
    return probe(calls={"dense_2": CallMeasurement(attention=measured)})


@pytest.mark.parametrize(
    ("scale", "entropy", "keys", "fires"),
    [
        (0.6, 0.95, 32, False),
        (2.5, 0.6, 32, False),
        (2.5, 0.3, 32, False),  # sharp, and yet below where chance decides
        (16.0, 0.01, 32, True),
        (16.0, 0.01, 4, False),
    ],
)
def test_attention(findings, scale, entropy, keys, fires) -> None:
    found = findings("GEB510", stack(), attends(scale, entropy, keys))
    assert [finding.severity for finding in found] == [Severity.WARNING] * fires
    assert findings("GEB510", stack(), attends(scale, entropy, keys), scale=10.0) == ()


def test_trained_heads_are_sharp(findings) -> None:
    assert findings("GEB510", trained(stack()), attends(16.0, 0.01)) == ()


# GEB511


@pytest.mark.parametrize(
    ("low", "data", "fires"),
    [(50.0, "own", False), (400.0, "own", True), (400.0, "synthetic", False)],
)
def test_noise(findings, low, data, fires) -> None:
    scale = Estimate(value=2 * low, low=low, high=math.inf, error=math.inf, method="moments")
    found = findings("GEB511", stack(), probe(data=data, noise_scale=scale))
    assert [finding.severity for finding in found] == [Severity.INFO] * fires
    large = {"batch-size": 512}
    assert findings("GEB511", stack(), probe(data=data, noise_scale=scale), **large) == ()


def test_a_healthy_probe_gets_none_of_them(findings) -> None:
    graph = stack()
    codes = ("GEB206", "GEB504", "GEB505", "GEB506", "GEB508", "GEB509", "GEB510", "GEB511")
    assert [findings(code, graph, gains(graph)) for code in codes] == [()] * len(codes)


def test_noise_may_drive_a_trained_model_to_where_it_is_flat(findings):
    graph = trained(stack(3))
    (found,) = findings("GEB508", graph, still(graph, "dense_1"))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.LOW)
    everything = still(graph, *(call.id for call in graph.calls if call.op is Op.DENSE))
    (found,) = findings("GEB508", graph, everything)
    assert found.severity is Severity.WARNING
    (found,) = findings("GEB508", graph, still(graph, "dense_1", data="own.npz"))
    assert found.severity is Severity.ERROR
