"""What the training passes over a few batches show of the model and of every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.measurement import CallMeasurement, ProbeResult
from auditor.probe.backends import PassResult
from auditor.probe.batch_statistics import fewest_normalized
from auditor.probe.layer_weights import WeightsByLayer
from auditor.probe.noise_scale import GradientMoments
from auditor.probe.propagation import propagation
from auditor.probe.residual_profile import residual_profile
from auditor.probe.session import Session, gradients_of
from auditor.probe.tally import Tally, distribution
from auditor.probe.trial import Trial
from auditor.probe.weight_penalties import WeightPenalties


@dataclass(frozen=True, kw_only=True)
class TrainingMeasures:
    """The passes over all batches, of which only the first keeps its gradients."""

    session: Session
    first: PassResult
    values: tuple[Mapping[str, np.ndarray[Any, Any]], ...]
    tally: Tally
    moments: GradientMoments
    penalties: WeightPenalties

    def result(self, trial: Trial | None = None) -> ProbeResult:
        """All that is known so far."""
        session, program = self.session, self.session.program
        prepared = session.prepared
        weights = WeightsByLayer(
            program.variables, self.values, session.scale, trial, self.penalties
        )
        calls = {
            slots.id: self.tally.measurement(slots, weights.of(slots))
            for slots in program.slots.calls
        }
        found = propagation(session.graph, self.tally)
        global_norms = [
            float(np.sqrt(np.sum(np.square(norms)))) / session.scale
            for norms in (values["variable_gradient_norms"] for values in self.values)
            if norms.size
        ]
        losses = [float(values["loss"]) for values in self.values]
        return ProbeResult(
            backend=session.backend.name,
            device=session.backend.device(),
            dtype=_dtype_policies(session.model),
            seed=session.settings.seed,
            batch_size=prepared.batch_size,
            batches=len(prepared.batches),
            data=prepared.data,
            targets=prepared.targets,
            normalized_values=(
                None if prepared.fixed_batch else fewest_normalized(program.slots.calls)
            ),
            nonfinite_data=prepared.nonfinite_data,
            loss=prepared.losses.name,
            seconds=0.0,
            assumptions=(*prepared.assumptions, *found.assumptions),
            loss_at_start=float(np.mean(losses)),
            loss_expected=prepared.loss_expected,
            depth=found.depth,
            growth_rate=None if found.growth is None else found.growth.rate,
            growth_interval=None if found.growth is None else found.growth.interval,
            growth_points=found.points,
            gradient_ratio=found.gradient_ratio,
            forward_ratio=found.forward_ratio,
            gsc=found.gsc,
            gradient_norm=distribution(global_norms),
            trial_losses=() if trial is None else trial.losses,
            trial_further=() if trial is None else trial.further,
            trial_long=() if trial is None else trial.long,
            trial_constant=prepared.loss_constant,
            step_slope=None if trial is None else trial.slope,
            step_curvature=None if trial is None else trial.curvature,
            first_nonfinite_forward=_first(calls, lambda call: not call.finite_forward),
            first_nonfinite_backward=_first(
                dict(reversed(calls.items())), lambda call: not call.finite_backward
            ),
            stages=found.stages,
            residual_profile=residual_profile(session.graph, self.tally),
            noise_scale=self.moments.estimate(prepared.batch_size),
            calls=calls,
            skipped=_skipped(session.graph, program.slots.skipped, calls),
        )


def training_measures(session: Session) -> TrainingMeasures:
    """Run the training pass over every batch."""
    prepared = session.prepared
    scale, first = session.first
    tally = Tally(
        slots=session.program.slots,
        calls=session.graph.by_id,
        batch=prepared.batch_size,
        sample_factor=1.0 if prepared.losses.sums_samples else float(prepared.batch_size),
    )
    moments = GradientMoments(session.settings.seed)
    penalties = WeightPenalties(session.variables)
    values = []
    for index in range(len(prepared.batches)):
        session.progress(f"batch {index + 1} of {len(prepared.batches)}")
        found = session.training_pass(index, scale) if index else first
        tally.add(found.values, scale)
        gradients = gradients_of(found, scale)
        moments.add(gradients)
        penalties.add(gradients, found.values["variable_gradient_norms"])
        values.append(found.values)
    return TrainingMeasures(
        session=session,
        first=first,
        values=tuple(values),
        tally=tally,
        moments=moments,
        penalties=penalties,
    )


def _skipped(
    graph: LayerGraph, unmeasured: Mapping[str, str], calls: Mapping[str, CallMeasurement]
) -> dict[str, str]:
    """Calls of the graph without measurements, with the reason."""
    expected = [c for c in graph.calls if c.op not in (Op.INPUT, Op.CONSTANT)]
    # Masks run as nodes that Keras adds by itself; a graph that was read does not have them.
    known = graph.by_id
    skipped = {call_id: why for call_id, why in unmeasured.items() if call_id in known}
    whole = len(expected) == 1 and expected[0].op is Op.OPAQUE and calls
    reason = (
        "a subclassed model: the layers it calls were measured instead"
        if whole
        else "it was not called in a training pass"
    )
    for call in expected:
        if call.id not in calls:
            skipped.setdefault(call.id, reason)
    return skipped


def _first(
    calls: Mapping[str, CallMeasurement], bad: Callable[[CallMeasurement], bool]
) -> str | None:
    return next((call_id for call_id, call in calls.items() if bad(call)), None)


def _dtype_policies(model: Any) -> str:
    """The dtype policies of the layers with weights, or of the model where none has any."""
    policies = {
        layer.dtype_policy.name
        for layer in model._flatten_layers(include_self=False)  # noqa: SLF001
        if layer.weights
    }
    return ", ".join(sorted(policies)) or str(model.dtype_policy.name)
