"""What a long trial that does not learn says of propagation, and its twin of rescaled kernels."""

from __future__ import annotations

import math

from auditor.finding import Evidence
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult, learned_share, least_loss
from auditor.risk.measures import risk_measures

from .optimizer import ADAM_LIKE

#: A long trial that takes less than this off the constant answer's loss has learned nothing.
NOTHING = 0.1
#: First steps over the weights' norm: below these a higher rate may be what is missing, above the
#: last a lower one. Those of Adam do not shrink with the gradient. (docs/outcomes.md)
TINY = 5e-6
TINY_DIVIDED = 5e-5
HUGE = 5e-2


def divides_by_gradient(graph: LayerGraph) -> bool:
    """Whether the declared optimizer divides each weight's step by its gradient's size."""
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    return optimizer is not None and optimizer.name in ADAM_LIKE


def kept_by_propagation(graph: LayerGraph, probe: ProbeResult) -> bool:
    """Whether the model cannot learn one batch, and the size of its steps does not explain it."""
    share = learned_share(probe.trial, probe.trial_constant) if probe.trial_long else None
    return share is not None and share <= NOTHING and moves_as_usual(graph, probe)


def moves_as_usual(graph: LayerGraph, probe: ProbeResult) -> bool:
    """Whether first steps are of a size that trains; tiny ones count where rescaled kernels learn.

    Without an optimizer, or steps that were measured, nothing speaks against it.
    """
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    step = risk_measures(probe, optimizer).get("step") if optimizer is not None else None
    if step is None:
        return True
    moved = math.exp(step)
    if moved > HUGE:
        return False
    if moved >= (TINY_DIVIDED if divides_by_gradient(graph) else TINY):
        return True
    rescaled = probe.rescaled_trial
    return rescaled is not None and rescaled.learns(probe.trial_constant)


def rescaled_evidence(probe: ProbeResult) -> tuple[Evidence, ...]:
    """Where both trials ended; nothing where the long one learned or was not taken."""
    rescaled, losses = probe.rescaled_trial, probe.trial
    if rescaled is None or not losses:
        return ()
    return (
        Evidence(
            name="loss after the trial",
            value=least_loss(losses),
            unit=probe.loss,
            method=f"least of {len(losses) - 1} steps on one batch, from {losses[0]:.3g}",
        ),
        Evidence(
            name="the same, kernels rescaled",
            value=least_loss(rescaled.losses),
            unit=probe.loss,
            method=(
                f"least of {len(rescaled.losses) - 1} steps after LSUV on {rescaled.kernels} "
                f"kernels, from {rescaled.losses[0]:.3g}"
            ),
        ),
    )


def rescaled_remedy(probe: ProbeResult) -> str:
    """What the trial of rescaled kernels says of the remedy, as a further sentence."""
    rescaled = probe.rescaled_trial
    if rescaled is None:
        return ""
    losses = rescaled.losses
    if not rescaled.learns(probe.trial_constant):
        return (
            " Other scales of the same kernels alone do not mend it: with every kernel's output at "
            "unit variance (LSUV) the model learns no more of its batch."
        )
    return (
        " Tried: with every kernel's output brought to unit variance (LSUV) the same optimizer "
        f"takes the loss of its batch from {losses[0]:.3g} to {least_loss(losses):.3g} in "
        f"{len(losses) - 1} steps."
    )
