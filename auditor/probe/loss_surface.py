"""The loss about the weights as they stand: the optimizer's first steps, and the curvature."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from auditor.measurement import RateTrial, RescaledTrial, falls, learns
from auditor.probe.backends import OptimizerStep, PassResult
from auditor.probe.curvature import Curvature, measure_curvature
from auditor.probe.curvature_cost import curvature_steps
from auditor.probe.hessian import DifferenceProducts, ExactProducts, Weights, flat_gradients
from auditor.probe.optimizers import declared_optimizer, first_learning_rate, loss_scale
from auditor.probe.out_of_memory import ran_out_of_memory
from auditor.probe.rescaling import unit_variance
from auditor.probe.session import Session, compute_dtypes, gradients_of
from auditor.probe.state import copied
from auditor.probe.trial import Gradients, Trial, TrialLength, lower_rates, run_trial
from auditor.probe.trial_cost import further_steps, long_steps

#: Rounding of one operation by compute dtype; the loss itself is taken in single precision.
ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
SINGLE = 2.0**-23
#: Decades that the signal is off, up or down, from which the kernels' scale may be what is wrong.
OFF_SCALE = math.log10(3)


def trial(session: Session, first: PassResult) -> Trial | None:
    """The declared optimizer's first steps on the first batch; None where there is none to take."""
    optimizer = _optimizer(session)
    if optimizer is None or all(gradient is None for gradient in first.gradients):
        return None
    session.progress("trial steps")
    step = session.backend.optimizer_step(optimizer)
    return _trial_of(optimizer, step, session, first, length=_length(session))


def rate_trials(
    session: Session, first: PassResult, declared: Trial | None
) -> tuple[RateTrial, ...]:
    """Where the declared rate makes the loss rise: the same steps at lower rates."""
    # A first step of NaN is the gradient's doing or the optimizer's, at whatever rate.
    if declared is None or len(declared.losses) < 2 or declared.slope is None:
        return ()
    if falls(declared.losses):
        return ()

    declared_rate = first_learning_rate(_optimizer(session))
    optimizer = _optimizer(session, declared_rate)
    # One optimizer, and so one compiled step, for all rates: each begins with it as it was new.
    step = session.backend.optimizer_step(optimizer)
    optimizer.build(session.variables)
    new = [copied(variable) for variable in optimizer.variables]

    def run_at(rate: float) -> tuple[float, ...]:
        session.progress(f"trial steps at {rate:.2g}")
        for variable, value in zip(optimizer.variables, new, strict=True):
            variable.assign(value)
        optimizer.learning_rate = rate
        return _trial_of(optimizer, step, session, first, along=False).losses

    return lower_rates(declared_rate, run_at)


def rescaled_trial(session: Session, declared: Trial | None) -> RescaledTrial | None:
    """Where the long trial does not learn: the same with kernels of unit variance.

    None where there is nothing to find out: the declared trial learns, or the kernels' scale is
    right.
    """
    constant = session.prepared.loss_constant
    if declared is None or not declared.long or learns(declared.all_losses, constant):
        return None
    session.progress("trial steps with rescaled kernels")
    batch = session.prepared.batches[0]
    session.state.begin_pass(session.settings.seed)
    found = unit_variance(
        session.model, session.graph, session.prepared.inputs, batch.x, backend=session.backend
    )
    if abs(found.decades) < OFF_SCALE:
        return None
    optimizer = _optimizer(session)
    start = [copied(variable) for variable in session.variables]
    try:
        found.apply(session.variables)
        tried = _trial_of(
            optimizer,
            session.backend.optimizer_step(optimizer),
            session,
            session.training_pass(0, session.scale),
            along=False,
            length=_length(session),
        )
    finally:
        for variable, value in zip(session.variables, start, strict=True):
            variable.assign(value)
    return RescaledTrial(decades=found.decades, kernels=len(found.kernels), losses=tried.all_losses)


def curvature(session: Session, first: PassResult) -> Curvature:
    """The Hessian's largest eigenvalue on the first batch, where it is not too dear."""
    active = [index for index, g in enumerate(first.gradients) if g is not None]
    if not active:
        return Curvature(skipped="the loss depends on no trainable weight")
    weights = Weights([session.variables[index] for index in active])
    steps, skipped = curvature_steps(
        session.graph,
        session.settings.curvature,
        weights=weights.size,
        batch=session.prepared.batch_size,
    )
    if not steps:
        return Curvature(skipped=skipped)
    session.progress("curvature of the loss")
    batch = session.prepared.batches[0]
    rounding = max(SINGLE, *(ROUNDING.get(name, 0.0) for name in compute_dtypes(session.model)))

    def of_active(found: Gradients) -> Gradients:
        return replace(found, gradients=[found.gradients[index] for index in active])

    def measured(products: Any) -> Curvature:
        at_start = flat_gradients(of_active(gradients_of(first, session.scale)), weights)
        return measure_curvature(
            products,
            weights,
            at_start,
            _optimizer(session),
            steps=steps,
            seed=session.settings.seed,
        )

    try:
        return measured(
            ExactProducts(
                session.backend,
                session.program,
                weights,
                batch.x,
                batch.y,
                begin_pass=lambda: session.state.begin_pass(session.settings.seed),
                scale=session.scale,
                rounding=rounding,
            )
        )
    except Exception as error:  # an operation without a second derivative
        if ran_out_of_memory(error):
            raise
    differences = DifferenceProducts(
        lambda: of_active(session.gradients(session.scale)), weights, rounding=rounding
    )
    return measured(differences)


def _trial_of(
    optimizer: Any,
    step: OptimizerStep,
    session: Session,
    first: PassResult,
    *,
    along: bool = True,
    length: TrialLength | None = None,
) -> Trial:
    asked = loss_scale(optimizer)
    start = gradients_of(first, asked) if asked == session.scale else session.gradients(asked)
    return run_trial(
        optimizer,
        session.variables,
        start,
        lambda: session.gradients(asked),
        step=step,
        along=along,
        length=length or TrialLength(),
    )


def _length(session: Session) -> TrialLength:
    """As far as the model is worth, and longer where it does not learn and that can be told."""
    constant = session.prepared.loss_constant
    weights = sum(math.prod(variable.shape) for variable in session.variables)
    batch = session.prepared.batch_size
    further = further_steps(session.graph, weights=weights, batch=batch)
    told = bool(further and constant)
    return TrialLength(
        further=further,
        long=long_steps(session.graph, weights=weights, batch=batch) if told else 0,
        learned=lambda losses: learns(losses, constant),
    )


def _optimizer(session: Session, rate: float | None = None) -> Any:
    """A fresh one as declared, at another rate if one is given."""
    settings = session.settings
    if rate is not None:
        settings = replace(settings, learning_rate=rate)
    return declared_optimizer(session.model, session.graph, settings)
