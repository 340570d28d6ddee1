"""Curvature and noise of the loss at the start: figures, and what they do and do not say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.graph.compile_settings import OptimizerSettings
from auditor.measurement import Estimate, ProbeResult, Sharpness
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .prose import Span
from .stability_cap import StabilityCap, stability_cap


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number, what it is, its interval, and how it came about."""

    label: str
    value: str
    interval: str
    how: str


@dataclass(frozen=True, kw_only=True)
class CurvatureView:
    """`remarks` are sentences; `missing` says why there is no curvature, or ""."""

    figures: tuple[Figure, ...]
    remarks: tuple[tuple[Span, ...], ...]
    missing: str


def curvature_view(result: AuditResult) -> CurvatureView | None:
    """Sharpness and noise scale; None where neither was measured."""
    probe = result.probe
    if probe is None or (probe.sharpness is None and probe.noise_scale is None):
        return None
    figures: list[Figure] = []
    remarks: list[str] = []
    if probe.sharpness is not None:
        cap = stability_cap(probe.sharpness, _optimizer(result))
        figures.extend(_sharpness(probe.sharpness, cap))
        remarks.append(_cap_remark(result, probe.sharpness, cap))
    if probe.noise_scale is not None:
        figures.append(_noise(probe.noise_scale))
        remarks.append(_noise_remark(probe, probe.noise_scale))
    return CurvatureView(
        figures=tuple(figures),
        remarks=tuple(prose.spans(remark) for remark in remarks),
        missing="" if probe.sharpness is not None else prose.plain(probe.sharpness_skipped),
    )


def _sharpness(sharpness: Sharpness, cap: StabilityCap | None) -> Iterator[Figure]:
    yield _eigenvalue("Sharpness λ₁(H)", sharpness.largest)
    if sharpness.preconditioned is not None:
        yield _eigenvalue("As the optimizer sees it, λ₁(P⁻¹H)", sharpness.preconditioned)
    if cap is not None:
        yield Figure(
            label="Cap on the learning rate",
            value=f"≤ {quantity.number(cap.value)}",
            interval="",
            how=f"{cap.formula}, λ₁ that of {'P⁻¹H' if cap.preconditioned else 'H'}; no more than "
            "a remark",
        )


def _eigenvalue(label: str, estimate: Estimate) -> Figure:
    # Its interval begins below the value, which is a lower bound of an operator known to rounding.
    products = wording.plural(estimate.products, "product", "products")
    bound = wording.BOUNDS[estimate.bound]
    return Figure(
        label=label,
        value=quantity.number(estimate.value),
        interval=f"95 %: {quantity.interval(estimate.low, estimate.high)}",
        how=f"{prose.plain(estimate.method)}; {products}"
        + (f"; {bound} but for the products' own error" if bound else ""),
    )


def _noise(estimate: Estimate) -> Figure:
    return Figure(
        label="Gradient noise scale B",
        value=f"{quantity.number(estimate.value)} samples",
        interval=f"95 %: {quantity.interval(estimate.low, estimate.high)}",
        how=prose.plain(estimate.method),
    )


def _cap_remark(result: AuditResult, sharpness: Sharpness, cap: StabilityCap | None) -> str:
    optimizer = _optimizer(result)
    named = "" if optimizer is None else wording.optimizer(printable.name(optimizer.name, 24))
    if cap is None:
        if sharpness.preconditioned is None and sharpness.largest.value > 0:
            return (
                f"{named} does not step along the gradient itself, so λ₁(H) sets its learning "
                "rate no cap."
            )
        return (
            "The largest eigenvalue is not positive here, as it often is behind "
            "BatchNormalization: the start sets no cap on the learning rate."
        )
    rate = optimizer.learning_rate if optimizer is not None else None
    head = (
        "Beyond the cap a step along the sharpest direction overshoots further every time. It is a "
        "cap at the start and no recommendation: the plan's rate rests on more"
    )
    if optimizer is None or rate is None or not 0 < rate < math.inf:
        return f"{head} (Cohen et al. 2021, 2022)."
    room = cap.value / rate
    where = (
        f"{quantity.number(room, 2)} times below it"
        if room >= 1
        else f"{quantity.number(1 / room, 2)} times above it, so a warm-up or a lower rate is due"
    )
    return (
        f"{head}. {named}'s declared rate, {quantity.number(rate)}, is {where} "
        "(Cohen et al. 2021, 2022; Gilmer et al. 2021)."
    )


def _noise_remark(probe: ProbeResult, estimate: Estimate) -> str:
    synthetic = ", synthetic ones" if probe.data == "synthetic" else ""
    batches = wording.plural(probe.batches, "batch", "batches")
    samples = wording.plural(probe.batch_size, "sample", "samples")
    sure = (
        ""
        if estimate.low > 0 and math.isfinite(estimate.high)
        else " So few leave its interval open at an end; more batches (`--batches`) close it."
    )
    return (
        "In batches much smaller than B noise dominates the gradient, and twice the samples are "
        "nearly worth twice the steps; much larger ones waste samples (McCandlish et al. 2018). B "
        f"grows during training, and was measured on {batches} of {samples}{synthetic}.{sure}"
    )


def _optimizer(result: AuditResult) -> OptimizerSettings | None:
    return result.graph.compile.optimizer if result.graph.compile else None
