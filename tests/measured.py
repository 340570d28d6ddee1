"""A healthy probe, to be changed field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auditor.measurement import CallMeasurement, Distribution, ProbeResult


def norms(value: float) -> Distribution:
    return Distribution(mean=value, p10=value, p50=value, p90=value, max=value, count=3)


def probe(**measured: Any) -> ProbeResult:
    """A probe of a healthy classifier, but for what is given."""
    healthy = ProbeResult(
        backend="tensorflow",
        device="CPU",
        dtype="float32",
        seed=0,
        batch_size=32,
        batches=3,
        data="synthetic",
        targets="drawn",
        loss="sparse_categorical_crossentropy",
        seconds=1.0,
        loss_at_start=2.4,
        loss_expected=2.3,
        depth=30,
        growth_rate=1.02,
        growth_interval=(0.99, 1.05),
        growth_points=30,
        gradient_ratio=1.8,
        gsc=1.2,
        gradient_norm=norms(2.0),
        trial_losses=(2.4, 2.3, 2.2, 2.1, 2.0),
        step_slope=-100.0,
        step_curvature=1e3,
        calls={"dense": CallMeasurement(rms=1.0, weight_gradient_norm=1.0, update_ratio=1e-3)},
    )
    return replace(healthy, **measured)
