"""The probe's engine: passes over a few batches, and everything measured on them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditor.errors import GebAuditError, ProbeFailed
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.measurement import CallMeasurement, ProbeResult, RateTrial, falls
from auditor.probe.backends import Backend, CompiledPass, PassInputs, PassResult
from auditor.probe.batches import Batch, mixed
from auditor.probe.blocks import Linearizer
from auditor.probe.jacobians import measure_jacobians
from auditor.probe.layer_weights import WeightsByLayer
from auditor.probe.optimizers import (
    HALF_PRECISION_SCALES,
    declared_optimizer,
    first_learning_rate,
    loss_scale,
)
from auditor.probe.prepare import Prepared, prepare
from auditor.probe.propagation import propagation
from auditor.probe.recording import record
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import ModelState, preserved
from auditor.probe.tally import Tally, distribution
from auditor.probe.to_output import measure_to_output
from auditor.probe.training_pass import TrainingPass, first_line
from auditor.probe.trial import Gradients, Trial, lower_rates, run_trial

Progress = Callable[[str], None]
#: Given what has been measured so far, whenever a phase has come to its end.
Partial = Callable[[ProbeResult], None]
Array = np.ndarray[Any, Any]


def unheard(_: ProbeResult) -> None:
    """A `Partial` for those who wait for the whole."""


def measure(
    model: Any,
    graph: LayerGraph,
    settings: ProbeSettings,
    backend: Backend,
    progress: Progress,
    *,
    partial: Partial = unheard,
    assumptions: tuple[str, ...] = (),
) -> ProbeResult:
    """Probe a built `keras.Model`, and leave it as it was, to the bit, also when this raises.

    Args:
        model: the model; its own optimizer is not touched.
        graph: its static graph, whose ids the measurements carry.
        settings: what to measure on; the bounds in it are the worker's business.
        backend: the one Keras runs on.
        progress: told each phase in a few words.
        partial: given the result as far as it goes after each phase, for whoever may have to do
            with less than all of it.
        assumptions: what had to be assumed before, to be told along with what is assumed here.

    Raises:
        ProbeFailed: the model could not be run, differentiated or fitted with a batch.
        UsageError: the data file or an option is wrong.
    """
    started = time.perf_counter()

    def told(result: ProbeResult) -> ProbeResult:
        return replace(
            result,
            assumptions=(*assumptions, *result.assumptions),
            seconds=time.perf_counter() - started,
        )

    try:
        with preserved(model) as state, backend.on_device(settings.device):
            probe = _Probe(
                model=model,
                graph=graph,
                settings=settings,
                state=state,
                progress=progress,
                partial=lambda result: partial(told(result)),
                prepared=prepare(model, graph, settings),
            )
            result = probe.run(backend)
    except GebAuditError:
        raise
    except Exception as error:
        raise ProbeFailed(
            f"the model raised {type(error).__name__}: {first_line(error)}",
            detail=traceback.format_exc(),
        ) from error
    return told(result)


@dataclass(kw_only=True)
class _Probe:
    """One probe under way."""

    model: Any
    graph: LayerGraph
    settings: ProbeSettings
    state: ModelState
    progress: Progress
    partial: Partial
    prepared: Prepared

    def run(self, backend: Backend) -> ProbeResult:
        """Everything from the first pass to the result, told after each phase."""
        prepared = self.prepared
        program = TrainingPass(
            model=self.model,
            graph=self.graph,
            inputs=prepared.inputs,
            losses=prepared.losses,
            batch=prepared.batch_size,
        )
        run = backend.compile(program)
        self.progress("tracing the model")
        scale, first = self._first_pass(run)
        tally = Tally(
            slots=program.slots,
            calls=self.graph.by_id,
            batch=prepared.batch_size,
            sample_factor=1.0 if prepared.losses.sums_samples else float(prepared.batch_size),
        )
        passes = [first]
        tally.add(first.values, scale)
        for index, batch in enumerate(prepared.batches[1:], start=1):
            self.progress(f"batch {index + 1} of {len(prepared.batches)}")
            passes.append(self._pass(run, batch, index, scale))
            tally.add(passes[-1].values, scale)
        self.partial(self._result(backend, program, tally, passes, scale, None, ()))
        trial = self._trial(run, program.variables, scale, first)
        lower = self._lower_rates(run, program.variables, scale, first, trial)
        result = self._result(backend, program, tally, passes, scale, trial, lower)
        del passes, tally, first
        self.partial(result)
        result = self._with_outputs(result, run, program, scale)
        self.partial(result)
        return self._with_calls(result, backend, program)

    def _with_outputs(
        self, result: ProbeResult, run: CompiledPass, program: TrainingPass, scale: float
    ) -> ProbeResult:
        """With what each call means to the model's outputs."""
        self.progress("from every call to the output")

        def pull_back(cotangents: tuple[Array, ...]) -> Mapping[str, Array]:
            self.state.begin_pass(self.settings.seed)
            batch = self.prepared.batches[0]
            inputs = PassInputs(
                x=batch.x, y=batch.y, cotangents=cotangents, loss_share=0.0, scale=scale
            )
            values = dict(run(inputs).values)
            if "gradient_norms" in values:
                values["gradient_norms"] = values["gradient_norms"] / scale
            return values

        shapes = [head.output.shape for head in self.prepared.losses.heads]
        found = measure_to_output(pull_back, lambda: program.slots, shapes, seed=self.settings.seed)
        calls = {
            call_id: replace(
                call, to_output_norm=found[call_id].to_output_norm, gsc=found[call_id].gsc
            )
            if call_id in found
            else call
            for call_id, call in result.calls.items()
        }
        return replace(result, calls=calls)

    def _with_calls(
        self, result: ProbeResult, backend: Backend, program: TrainingPass
    ) -> ProbeResult:
        """With what each call does by itself: its Jacobian."""
        self.progress("recording the calls")
        self.state.begin_pass(self.settings.seed)
        recorded = record(self.model, self.prepared.inputs, mixed(self.prepared.batches))
        linearizer = Linearizer(
            backend=backend,
            variables=(*program.variables, *program.state),
            restart=lambda: self.state.reseed(self.settings.seed),
        )
        jacobians = measure_jacobians(
            recorded, linearizer, seed=self.settings.seed, progress=self.progress
        )
        self.state.begin_pass(self.settings.seed)
        calls = {
            call_id: replace(
                call,
                jacobian=jacobians.found.get(call_id),
                jacobian_skipped=jacobians.skipped.get(call_id),
            )
            for call_id, call in result.calls.items()
        }
        return replace(result, calls=calls)

    def _pass(self, run: CompiledPass, batch: Batch, index: int, scale: float) -> PassResult:
        self.state.begin_pass(self.settings.seed + index)
        return run(
            PassInputs(x=batch.x, y=batch.y, cotangents=self.prepared.no_cotangents, scale=scale)
        )

    def _first_pass(self, run: CompiledPass) -> tuple[float, PassResult]:
        """The first batch at the largest loss scale whose gradients are all finite.

        Only half precision takes one; without it small gradients would be lost to underflow,
        which training avoids in the same way.
        """
        scales = HALF_PRECISION_SCALES if "float16" in _compute_dtypes(self.model) else (1.0,)
        for scale in scales[:-1]:
            result = self._pass(run, self.prepared.batches[0], 0, scale)
            if all(
                bool(np.isfinite(result.values[name]).all())
                for name in ("gradient_norms", "variable_gradient_norms")
                if name in result.values
            ):
                return scale, result
        return scales[-1], self._pass(run, self.prepared.batches[0], 0, scales[-1])

    def _trial(
        self, run: CompiledPass, variables: Sequence[Any], scale: float, first: PassResult
    ) -> Trial | None:
        """The declared optimizer's first steps on the first batch."""
        optimizer = declared_optimizer(self.model, self.graph, self.settings)
        if optimizer is None or all(gradient is None for gradient in first.gradients):
            return None
        self.progress("trial steps")
        return self._trial_of(optimizer, run, variables, scale, first)

    def _trial_of(
        self,
        optimizer: Any,
        run: CompiledPass,
        variables: Sequence[Any],
        scale: float,
        first: PassResult,
    ) -> Trial:
        def gradients_at() -> Gradients:
            asked = loss_scale(optimizer)
            return _gradients(self._pass(run, self.prepared.batches[0], 0, asked), asked)

        start = _gradients(first, scale) if scale == loss_scale(optimizer) else gradients_at()
        return run_trial(optimizer, variables, start, gradients_at)

    def _lower_rates(
        self,
        run: CompiledPass,
        variables: Sequence[Any],
        scale: float,
        first: PassResult,
        trial: Trial | None,
    ) -> tuple[RateTrial, ...]:
        """Where the declared rate makes the loss rise: the same steps at lower rates."""
        # A first step of NaN is the gradient's doing or the optimizer's, at whatever rate.
        if trial is None or len(trial.losses) < 2 or falls(trial.losses) or trial.slope is None:
            return ()
        declared = first_learning_rate(declared_optimizer(self.model, self.graph, self.settings))

        def run_at(rate: float) -> tuple[float, ...]:
            self.progress(f"trial steps at {rate:.2g}")
            lower = replace(self.settings, learning_rate=rate)
            optimizer = declared_optimizer(self.model, self.graph, lower)
            return self._trial_of(optimizer, run, variables, scale, first).losses

        return lower_rates(declared, run_at)

    def _result(
        self,
        backend: Backend,
        program: TrainingPass,
        tally: Tally,
        passes: Sequence[PassResult],
        scale: float,
        trial: Trial | None,
        lower: tuple[RateTrial, ...],
    ) -> ProbeResult:
        weights = WeightsByLayer(program.variables, passes, scale, trial)
        calls = {
            slots.id: tally.measurement(slots, weights.of(slots)) for slots in program.slots.calls
        }
        prepared = self.prepared
        found = propagation(self.graph, tally)
        global_norms = [
            float(np.sqrt(np.sum(np.square(norms)))) / scale
            for norms in (result.values["variable_gradient_norms"] for result in passes)
            if norms.size
        ]
        losses = [float(result.values["loss"]) for result in passes]
        return ProbeResult(
            backend=backend.name,
            device=backend.device(),
            dtype=_dtype_policies(self.model),
            seed=self.settings.seed,
            batch_size=prepared.batch_size,
            batches=len(prepared.batches),
            data=prepared.data,
            targets=prepared.targets,
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
            rate_trials=lower,
            step_slope=None if trial is None else trial.slope,
            step_curvature=None if trial is None else trial.curvature,
            first_nonfinite_forward=_first(calls, lambda call: not call.finite_forward),
            first_nonfinite_backward=_first(
                dict(reversed(calls.items())), lambda call: not call.finite_backward
            ),
            calls=calls,
            skipped=self._skipped(program.slots.skipped, calls),
        )

    def _skipped(
        self, unmeasured: Mapping[str, str], calls: Mapping[str, CallMeasurement]
    ) -> dict[str, str]:
        """Calls of the graph without measurements, with the reason."""
        expected = [c for c in self.graph.calls if c.op not in (Op.INPUT, Op.CONSTANT)]
        # Masks run as nodes that Keras adds by itself; a graph that was read does not have them.
        known = self.graph.by_id
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


def _gradients(result: PassResult, scale: float) -> Gradients:
    loss = float(result.values["objective"])
    return Gradients(loss=loss, gradients=result.gradients, scale=scale)


def _first(
    calls: Mapping[str, CallMeasurement], bad: Callable[[CallMeasurement], bool]
) -> str | None:
    return next((call_id for call_id, call in calls.items() if bad(call)), None)


def _compute_dtypes(model: Any) -> set[str]:
    return {str(layer.compute_dtype) for layer in model._flatten_layers()}  # noqa: SLF001


def _dtype_policies(model: Any) -> str:
    """The dtype policies of the layers with weights, or of the model where none has any."""
    policies = {
        layer.dtype_policy.name
        for layer in model._flatten_layers(include_self=False)  # noqa: SLF001
        if layer.weights
    }
    return ", ".join(sorted(policies)) or str(model.dtype_policy.name)
