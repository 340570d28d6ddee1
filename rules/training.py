"""GEB6: the training configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.compile_settings import OptimizerSettings
from auditor.measurement import ProbeResult
from auditor.risk import rate_too_high
from auditor.rule import Context, Needs, Option, rule

from .clipping import clipping_advised
from .metrics import metric_mismatch
from .non_finite import nan_steps
from .optimizer import optimizer_hyperparameters
from .precision import half_precision_without_loss_scaling
from .step_size import learning_rate_too_low
from .warmup import warmup_advised
from .wrong_loss import wrong_loss

__all__ = [
    "clipping_advised",
    "half_precision_without_loss_scaling",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "metric_mismatch",
    "not_compiled",
    "optimizer_hyperparameters",
    "warmup_advised",
    "wrong_loss",
]

#: Learning rates above which hardly any published recipe goes, by optimizer. Rates of optimizers
#: that normalize the step are lengths a weight moves; those of SGD depend on the loss's scale.
USUAL_MAXIMUM = {
    "sgd": 10.0,
    "adam": 0.1,
    "adamw": 0.1,
    "nadam": 0.1,
    "adamax": 0.1,
    "lamb": 0.1,
    "lion": 0.03,
    "rmsprop": 0.1,
    "adagrad": 2.0,
    "adadelta": 20.0,
}


@rule(
    "GEB601",
    "learning-rate-too-high",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
    options=(
        Option(
            name="error-growth",
            default=1e3,
            meaning="growth of the loss within the trial steps that is an error",
        ),
        Option(name="warning-growth", default=10.0, meaning="the same for a warning"),
        Option(
            name="chance",
            default=0.8,
            meaning="calibrated chance that a lower rate trains and this one does not: a warning",
        ),
    ),
)
def learning_rate_too_high(context: Context) -> Iterator[Finding | Skipped]:
    """The declared learning rate makes the loss jump within the first steps.

    ## What it does
    With a probe: looks at the loss of one and the same batch over a few steps of the declared
    optimizer at its declared rate, on a copy of the weights. An error when the loss stops being
    finite or grows by `error-growth`; a warning when it ends at `warning-growth` times its start,
    or when the size of the steps, the curvature and what the trial makes of the loss amount to a
    calibrated `chance` that a lower rate trains and this one does not.
    Without a probe: a warning of low confidence when the rate is above what any published recipe
    for that optimizer uses.

    ## Why is this bad
    Steps that overshoot raise the loss of the very batch they were taken on. What follows is
    divergence, or units that a huge step has switched off for good.

    ## Evidence
    The losses before each trial step, and the largest rate at which a quadratic model of the loss
    along the optimizer's own step still goes down (2 × slope / curvature). The chance is that of a
    logistic regression on these measures, fitted to the training of several hundred networks
    (docs/outcomes.md).

    ## Example
    ```python
    model.compile(keras.optimizers.SGD(50.0), "sparse_categorical_crossentropy")
    ```

    ## Use instead
    ```python
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    ```

    ## Options
    - `error-growth`: growth of the loss within the trial steps that is an error.
    - `warning-growth`: the same for a warning.
    - `chance`: calibrated chance that is a warning, 0.8 by default.

    ## Known problems
    A few steps show a rate that is too high at the start of training, not one that fails later;
    a schedule with warm-up starts low and passes. A rise that the next steps undo is not accused.

    ## References
    - Smith 2017, Cyclical learning rates for training neural networks.
    - Cohen, Kaur, Li, Kolter, Talwalkar 2021, Gradient descent on neural networks typically occurs
      at the edge of stability.
    """
    settings = context.graph.compile
    optimizer = settings.optimizer if settings is not None else None
    if optimizer is None or optimizer.learning_rate is None:
        yield context.skip("the saved optimizer has no readable learning rate")
        return
    rate = optimizer.learning_rate
    probe = context.optional_probe
    if probe is None or not probe.trial_losses:
        usual = USUAL_MAXIMUM.get(optimizer.name)
        if usual is None or rate <= usual:
            return
        yield context.finding(
            f"A learning rate of {rate:g} is above what published recipes for {optimizer.name} "
            f"use (at most about {usual:g}).",
            evidence=(Evidence(name="learning rate", value=rate, method="compile settings"),),
            remedy="Lower the rate, or probe the model: a few trial steps tell more.",
            confidence=Confidence.LOW,
        )
        return
    first, last = probe.trial_losses[0], probe.trial_losses[-1]
    if not math.isfinite(first):
        yield context.skip("the loss is not finite before any step: see GEB503")
        return
    if _gradient_lost(probe):
        yield context.skip("the gradient or the first step is not finite: see GEB503")
        return
    finite = all(math.isfinite(loss) for loss in probe.trial_losses)
    # A loss that starts near zero would make any rise look infinite.
    scale = max(abs(first), 0.1 * abs(probe.loss_expected or 0.0), 1e-6)
    growth, at_last = (
        (abs(first) + loss - first) / scale for loss in (max(probe.trial_losses), last)
    )
    # A loss that goes below zero has no zero to be so many times as large from.
    signed = min(probe.trial_losses) < 0
    severe = not finite or (growth >= context.number("error-growth") and not signed)
    chance = rate_too_high(context.graph, probe)
    likely = chance is not None and chance >= context.number("chance")
    if not severe and not likely and (at_last < context.number("warning-growth") or signed):
        return
    evidence = [
        Evidence(name="learning rate", value=rate, method="compile settings"),
        *(
            Evidence(
                name=f"loss before step {index + 1}",
                value=loss,
                method=f"{optimizer.name} at the declared rate, one batch, copied weights",
            )
            for index, loss in enumerate(probe.trial_losses)
        ),
    ]
    if chance is not None:
        evidence.append(
            Evidence(
                name="chance that a lower rate trains and this one does not",
                value=chance,
                method="logistic regression, calibrated on outcomes",
            )
        )
    if probe.step_slope is not None and (probe.step_curvature or 0) > 0:
        evidence.append(
            Evidence(
                name="largest rate a quadratic model allows",
                value=2 * abs(probe.step_slope) / (probe.step_curvature or math.nan),
                method="2 × slope / curvature along the optimizer's first step",
            )
        )
    outcome = (
        "is no longer finite"
        if not finite
        else f"rises {growth:.2g}-fold, from {first:.3g} to {max(probe.trial_losses):.3g},"
    )
    count = len(probe.trial_losses) - 1
    jumps = severe or at_last >= context.number("warning-growth")
    yield context.finding(
        f"At the declared learning rate{_at(optimizer)} the loss {outcome} within "
        f"{count} step{'s' if count != 1 else ''} of {optimizer.name} on one batch."
        if jumps or chance is None
        else f"The declared learning rate{_at(optimizer)} is likely too high: networks whose first "
        f"steps of {optimizer.name} look like these mostly failed, and trained at a lower rate "
        f"(calibrated chance {min(chance, 0.99):.0%}).",
        evidence=tuple(evidence),
        remedy="Take the learning rate the plan recommends; see its interval.",
        severity=Severity.ERROR if severe else Severity.WARNING,
        confidence=Confidence.HIGH if severe else Confidence.MEDIUM,
    )


def _gradient_lost(probe: ProbeResult) -> bool:
    """Whether NaN comes of the gradient or the optimizer itself, at whatever rate."""
    measured = [probe.gradient_norm.mean] if probe.gradient_norm is not None else []
    return not all(math.isfinite(value) for value in measured) or nan_steps(probe) != ()


def _at(optimizer: OptimizerSettings) -> str:
    """The rate of the trial's steps, in words: a schedule changes it from step to step."""
    if optimizer.schedule is not None:
        return f" (its schedule, {optimizer.schedule})"
    return f" of {optimizer.learning_rate:g}" if optimizer.learning_rate is not None else ""


@rule("GEB607", "not-compiled", severity=Severity.INFO, since="0.1")
def not_compiled(context: Context) -> Iterator[Finding | Skipped]:
    """The model was saved without its training configuration.

    ## What it does
    Says so when a Keras model holds neither optimizer nor loss.

    ## Why is this bad
    It is not: models are often saved for inference. But then nothing can be said of its loss and
    learning rate, and the probe has to assume both.

    ## Evidence
    The file holds no compile settings.

    ## Example
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.save("model.keras")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error")
    model.save("model.keras")
    ```

    ## Options
    None.

    ## Known problems
    ONNX files never hold a training configuration; they are not accused of it.

    ## References
    - Keras API documentation, Model training APIs: compile.
    """
    if context.graph.compile is None and context.graph.format != "onnx":
        yield context.finding(
            "The model was saved uncompiled: loss, optimizer and learning rate are unknown.",
            remedy=(
                "Compile it before saving, or name them: --loss, --optimizer and --learning-rate."
            ),
        )
