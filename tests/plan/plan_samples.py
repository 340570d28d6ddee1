"""Findings, probes and graphs as plans meet them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import GraphBuilder, Kernel

from auditor.finding import Confidence, Finding, Severity
from auditor.graph import CompileSettings, LayerGraph, LossSettings, OptimizerSettings
from auditor.measurement import CallMeasurement, Distribution, ProbeResult


def finding(code: str, *layers: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(
        code=code,
        name="as-found",
        severity=severity,
        confidence=Confidence.HIGH,
        message="found",
        layers=layers,
    )


def norms(*values: float) -> Distribution:
    ordered = sorted(values)
    at = lambda share: ordered[min(int(share * len(ordered)), len(ordered) - 1)]  # noqa: E731
    return Distribution(
        mean=sum(values) / len(values),
        p10=at(0.1),
        p50=at(0.5),
        p90=at(0.9),
        max=ordered[-1],
        count=len(values),
    )


def probe(**measured: Any) -> ProbeResult:
    """A probe of a healthy small network under Adam at 1e-3, but for what is given."""
    healthy = ProbeResult(
        backend="tensorflow",
        device="cpu",
        dtype="float32",
        seed=0,
        batch_size=16,
        batches=3,
        data="synthetic",
        targets="random classes",
        loss="sparse_categorical_crossentropy",
        seconds=1.0,
        loss_at_start=2.5,
        step_slope=-250.0,
        step_curvature=1e4,
        trial_losses=(2.5, 2.3, 2.1, 1.9, 1.7),
        gradient_norm=norms(1.8, 2.0, 2.4),
        calls={"dense": CallMeasurement(update_ratio=8e-3, zero_share=0.5)},
    )
    return replace(healthy, **measured)


def mlp(
    depth: int = 3, kernel: Kernel = "he_normal", activation: str = "relu", **compiled: Any
) -> LayerGraph:
    """A plain stack of Dense layers with a softmax head; compiled when a loss is given."""
    build = GraphBuilder()
    call = build.input((64,))
    for _ in range(depth - 1):
        call = build.dense(call, 64, activation, kernel=kernel)
    return build.graph(build.dense(call, 10, "softmax"), **compiled)


def compiled(graph: LayerGraph, name: str, rate: float | None, **config: Any) -> LayerGraph:
    """The graph compiled with an optimizer."""
    return replace(
        graph,
        compile=CompileSettings(
            optimizer=OptimizerSettings(name=name, learning_rate=rate, config=config),
            losses=(LossSettings(name="sparse_categorical_crossentropy"),),
            metrics=("accuracy",),
        ),
    )
