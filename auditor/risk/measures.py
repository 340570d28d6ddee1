"""The measures that a risk is made of: what a probe saw before training, as natural logarithms."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from types import MappingProxyType

from auditor.graph.compile_settings import OptimizerSettings
from auditor.measurement import ProbeResult, learned_share

#: Logarithms beyond this say no more than it does.
FAR = 30.0
#: Shares below this that a long trial takes off are nothing: rounding, and losses that go up and
#: down.
LEAST_SHARE = 0.03
#: What each measure is.
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "ratio": "gradient norm of the first eighth of the layers over that of the last",
        "gsc": "gradient scale coefficient over the same layers",
        "excess": "loss at start over what a healthy head starts at",
        "step": "first step over weights, median over layers; with momentum, what steps add up to",
        "least_step": "the same of the layer that moves least",
        "trial_rise": "largest loss of the trial steps over the first",
        "trial_end": "loss after the trial steps over the first",
        "learned": "least loss of the trial over that of the best constant answer on its batch",
        "learning": "share of the best constant answer's loss that the trial takes off, or of its "
        "own loss that its second half does, whichever is larger",
        "late": "the same of the long trial, where there was one",
        "trial_fall": "share of the loss that the trial steps take off",
        "overshoot": "declared rate over the one at which a quadratic model of the loss is back up",
        "depth": "layers with a kernel on the longest path",
        "sharpness": "declared rate times the largest curvature, preconditioned where the step is",
    }
)


def risk_measures(probe: ProbeResult, optimizer: OptimizerSettings) -> dict[str, float]:
    """Natural logarithms by name, within ±FAR; what was not measured is left out."""
    losses = (*probe.trial_losses, *probe.trial_further)
    ratios = [c.update_ratio for c in probe.calls.values() if c.update_ratio is not None]
    sums_to = 1 / (1 - _momentum(optimizer))
    measured = {
        "ratio": probe.gradient_ratio,
        "gsc": probe.gsc,
        "excess": _over(probe.loss_at_start, probe.loss_expected),
        "step": sums_to * statistics.median(ratios) if ratios else None,
        "least_step": sums_to * min(ratios) if ratios else None,
        "trial_rise": _over(_largest(losses), losses[0]) if len(losses) > 1 else None,
        "trial_end": _over(_ended(losses), losses[0]) if len(losses) > 1 else None,
        "learned": _over(min(losses), probe.trial_constant) if _finite(losses) else None,
        "learning": learned_share(losses, probe.trial_constant),
        "late": _late(probe),
        "trial_fall": _fall(losses) if len(losses) > 1 else None,
        "overshoot": _overshoot(probe, optimizer),
        "sharpness": _sharpness(probe, optimizer),
        "depth": float(max(probe.depth, 1)),
    }
    return {name: _log(value) for name, value in measured.items() if value is not None}


def _log(value: float) -> float:
    if math.isnan(value):
        return FAR
    return max(-FAR, min(FAR, math.log(value))) if value > 0 else -FAR


def _over(value: float | None, start: float | None) -> float | None:
    """Their ratio; None where there is none to speak of."""
    if value is None or start is None or start <= 0:
        return None
    return math.nan if math.isnan(value) else max(value, 0.0) / start


def _momentum(optimizer: OptimizerSettings) -> float:
    momentum = optimizer.number("momentum") or 0.0
    return momentum if optimizer.name == "sgd" and 0 < momentum < 1 else 0.0


def _finite(losses: tuple[float, ...]) -> bool:
    return len(losses) > 1 and all(map(math.isfinite, losses))


def _largest(losses: tuple[float, ...]) -> float:
    return max(losses) if _finite(losses) else math.inf


def _ended(losses: tuple[float, ...]) -> float:
    return losses[-1] if _finite(losses) else math.inf


def _late(probe: ProbeResult) -> float | None:
    """What the long trial takes off, where there was one."""
    share = learned_share(probe.trial, probe.trial_constant) if probe.trial_long else None
    return None if share is None else max(share, LEAST_SHARE)


def _fall(losses: tuple[float, ...]) -> float | None:
    """None where the loss is lost: then nothing is known of how fast it would fall."""
    if not _finite(losses) or losses[0] <= 0:
        return None
    return (losses[0] - min(losses)) / losses[0]


def _overshoot(probe: ProbeResult, optimizer: OptimizerSettings) -> float | None:
    slope, curvature, rate = probe.step_slope, probe.step_curvature, optimizer.learning_rate
    if not slope or curvature is None or rate is None:
        return None
    return max(rate * curvature / (2 * abs(slope)), 0.0)


def _sharpness(probe: ProbeResult, optimizer: OptimizerSettings) -> float | None:
    if probe.sharpness is None or optimizer.learning_rate is None:
        return None
    largest = probe.sharpness.preconditioned or probe.sharpness.largest
    return max(optimizer.learning_rate * largest.value, 0.0)
