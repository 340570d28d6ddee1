"""Optimizers whose first step loses the initial weights: what stands in for them."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.operators import KERNEL_OPS
from auditor.plan.case import DEFAULT_OPTIMIZER, Case

#: A first step this long, against the weights, leaves nothing of where they were drawn.
LOST = 0.5
#: Optimizers that begin from their own state and not from the weights: FTRL solves anew for the
#: weights at every step, from the gradients alone (McMahan 2013), whatever the rate.
FORGETFUL = frozenset({"ftrl"})


def lost_steps(case: Case) -> str:
    """Why the declared optimizer cannot train from the weights given; empty where it can."""
    declared, probe = case.declared, case.probe
    if declared is None or probe is None:
        return ""
    lost = [
        call.update_ratio
        for call in probe.calls.values()
        if call.update_ratio is not None and math.isnan(call.update_ratio)
    ]
    norms = probe.gradient_norm
    if lost and norms is not None and math.isfinite(norms.mean):
        return (
            f"the first step of {declared.name} makes NaN of the weights of {len(lost)} layers "
            "whose gradients are finite"
        )
    if declared.name not in FORGETFUL:
        return ""
    ratios = [
        seen.update_ratio
        for call in case.graph.calls
        if call.op in KERNEL_OPS
        and (seen := probe.calls.get(call.id)) is not None
        and seen.update_ratio is not None
    ]
    if len(ratios) < 2 or statistics.median(ratios) < LOST:
        return ""
    return (
        f"the first step of {declared.name} moves the weights by {statistics.median(ratios):.0%} "
        "of their norm: it forgets where they were drawn, and layers that start alike stay alike"
    )


def with_default_optimizer(case: Case) -> Case:
    """The case as if it were declared with the default optimizer; its steps were not measured."""
    settings = case.graph.compile
    if settings is None or case.probe is None:
        return case
    optimizer = OptimizerSettings(name=DEFAULT_OPTIMIZER)
    return replace(
        case,
        graph=replace(case.graph, compile=replace(settings, optimizer=optimizer)),
        probe=replace(
            case.probe,
            trial_losses=(),
            trial_further=(),
            trial_long=(),
            rate_trials=(),
            rescaled_trial=None,
            step_slope=None,
            step_curvature=None,
            calls={
                call_id: replace(call, update_ratio=None)
                for call_id, call in case.probe.calls.items()
            },
        ),
    )
