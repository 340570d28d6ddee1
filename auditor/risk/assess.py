"""The risk of one model, or why there is none to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.freshness import fresh_share
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import LEARNS, ProbeResult, falls, few_normalized, learned_share
from auditor.risk.calibration import Calibration, Logistic, calibration
from auditor.risk.measures import risk_measures
from auditor.risk.risk import Risk

#: A model may have this many times as many weights as any that was trained for the calibration:
#: no measure depends on their number.
BEYOND = 10
#: Log odds that a measure has to add to be given as a reason: it raises even odds to 62 %.
TELLING = 0.5
#: Below this a number is told as nothing.
SMALLEST = 1e-9
#: What a measure says when it is too large (1) or too small (−1); `{}` is its exponential.
REASONS: Mapping[tuple[str, int], str] = MappingProxyType(
    {
        ("ratio", 1): "The gradient grows {}-fold from the last layers to the first.",
        ("ratio", -1): "Of the gradient, {} of what the last layers get reaches the first.",
        ("gsc", 1): "The gradient scale coefficient is {}: rescaling weights does not mend that.",
        ("gsc", -1): "The gradient scale coefficient is {}: rescaling weights does not mend that.",
        ("excess", 1): "The loss at start is {} times that of a healthy head.",
        ("step", 1): "The optimizer's first steps move the weights by {} of their norm.",
        ("step", -1): "The optimizer's first steps move the weights by only {} of their norm.",
        ("least_step", -1): "There is a layer that the first steps move by only {} of its norm.",
        ("trial_rise", 1): "Within the trial steps the loss rises to {} times its start.",
        ("trial_end", 1): "After the trial steps the loss is {} times its start.",
        ("learned", 1): (
            "After all trial steps the loss is {} times that of a constant answer on their batch."
        ),
        ("learning", -1): (
            "The trial steps get {} of it below the loss of a constant answer, and hardly on from "
            "there."
        ),
        ("late", -1): (
            "A trial of two hundred steps gets {} of it below the loss of a constant answer on its "
            "batch."
        ),
        ("trial_fall", -1): "The trial steps take only {} of the loss off their own batch.",
        ("overshoot", 1): "The declared rate is {} times the one that brings the loss back up.",
        ("depth", 1): "The model is {} layers with a kernel deep.",
        ("sharpness", 1): "The declared rate times the largest curvature is {}.",
    }
)


def assess(
    graph: LayerGraph, probe: ProbeResult | None, calibrated: Calibration | None = None
) -> Risk | str:
    """The risk that training as declared fails; a string says why it is not told."""
    calibrated = calibrated or calibration()
    if probe is None:
        return "no probe ran"
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    if optimizer is None:
        return "the model declares no optimizer"
    reason = outside(graph, probe, optimizer, calibrated)
    if not reason and _open(probe):
        reason = "it hardly learns in twenty steps, and is too costly for two hundred"
    if reason:
        return reason
    measures = risk_measures(probe, optimizer)
    middle, low, high = calibrated.risk.probability(measures)
    return Risk(
        probability=middle,
        low=low,
        high=high,
        reasons=reasons(measures, calibrated.risk),
        calibration=calibrated.provenance,
    )


def rate_too_high(graph: LayerGraph, probe: ProbeResult) -> float | None:
    """The probability that the declared rate fails and a lower one does not; None if untold."""
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    calibrated = calibration()
    if optimizer is None or outside(graph, probe, optimizer, calibrated):
        return None
    return calibrated.rate.probability(risk_measures(probe, optimizer))[0]


def outside(
    graph: LayerGraph, probe: ProbeResult, optimizer: OptimizerSettings, calibrated: Calibration
) -> str:
    """What sets the model apart from all that the risk was calibrated on; empty if nothing does."""
    if probe.incomplete:
        return "the probe did not come to its end"
    if reason := few_normalized(probe):
        return reason
    if probe.nonfinite_data:
        return "the data hold values that are not finite"
    if len(probe.trial_losses) > 1 and not probe.trial_further and falls(probe.trial_losses):
        return "the model is too costly for the longer trial that it is calibrated with"
    if optimizer.schedule is not None or optimizer.learning_rate is None:
        return "it is calibrated for constant learning rates alone"
    if optimizer.name not in calibrated.optimizers:
        return f"it is not calibrated for {optimizer.name}"
    if len(graph.outputs) != 1 or probe.loss not in calibrated.losses:
        losses = ", ".join(sorted(calibrated.losses))
        return f"it is calibrated for models with one output, and one of these losses: {losses}"
    if fresh_share(graph) != 1.0:
        return "it is calibrated for fresh weights, as their initializers draw them"
    if probe.depth > calibrated.depth:
        return (
            f"the model is {probe.depth} layers with a kernel deep, and it is calibrated on up to "
            f"{calibrated.depth}"
        )
    if graph.parameters > BEYOND * calibrated.parameters:
        return (
            f"the model has {graph.parameters:,} weights, and it is calibrated on up to "
            f"{calibrated.parameters:,}"
        )
    return ""


def _open(probe: ProbeResult) -> bool:
    """Whether only a long trial, which was not taken, would tell if the model learns."""
    if probe.trial_long or not probe.trial_further:
        return False
    share = learned_share(probe.trial, probe.trial_constant)
    return share is not None and share <= LEARNS


def reasons(measures: Mapping[str, float], logistic: Logistic) -> tuple[str, ...]:
    """What raises the risk, the strongest first."""
    added: dict[tuple[str, int], float] = {}
    for term, odds in zip(logistic.terms, logistic.contributions(measures), strict=True):
        key = (term.measure, term.side)
        added[key] = added.get(key, 0.0) + odds
    ranked = sorted(added.items(), key=lambda item: -item[1])
    return tuple(
        REASONS[key].format(_number(measures[key[0]])) for key, odds in ranked if odds >= TELLING
    )


def _number(logarithm: float) -> str:
    value = math.exp(logarithm)
    return f"{value:.2g}" if value >= SMALLEST else "0"
