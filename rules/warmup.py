"""GEB605: a rate that the start does not bear, and the rest of training may."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.schedules import rate_at
from auditor.measurement import ProbeResult
from auditor.rule import Context, Needs, Option, rule

#: Loss after the trial over its start from which GEB601 has the word.
DIVERGED = 10.0
#: Steps at which a rate that warms up has risen.
WARM_STEPS = (10, 100, 1_000, 10_000)


@rule(
    "GEB605",
    "warmup-advised",
    severity=Severity.WARNING,
    needs=Needs.PROBE | Needs.COMPILED,
    since="0.1",
    options=(
        Option(
            name="overshoot",
            default=1.5,
            meaning="rate × sharpness over what the optimizer bears, from which it overshoots",
        ),
    ),
)
def warmup_advised(context: Context) -> Iterator[Finding | Skipped]:
    """The first steps overshoot: the loss is too sharp at the start for the declared rate.

    ## What it does
    Multiplies the declared learning rate by the sharpness of the loss at the start (the largest
    eigenvalue of its Hessian, in the optimizer's own preconditioning where it has one) and holds
    it against what the optimizer bears on a quadratic: 2 for plain descent, 2 + 2β for momentum,
    (2 + 2β₁)/(1 − β₁) for Adam and kin. Warns when it is `overshoot` times that or more and the
    trial steps show it: the loss of the very batch they are taken on rises above its start. Where
    the loss leaves for good, GEB601 says so instead. Rates under a schedule that warms up are not
    judged.

    ## Why is this bad
    Beyond that product each step along the sharpest direction lands further out than it began.
    Training may recover, in a flatter and often worse place, with units lost on the way. The
    sharpness at random weights is often the highest there will be: a rate that rises over the
    first hundred steps meets it later, when it has come down.

    ## Evidence
    Sharpness by Lanczos iterations (a lower bound), the rate, and the losses before each trial
    step.

    ## Example
    ```python
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "sparse_categorical_crossentropy")
    ```

    ## Use instead
    ```python
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, 500, end_learning_rate=1.0)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "sparse_categorical_crossentropy")
    ```

    ## Options
    - `overshoot`: rate × sharpness over what the optimizer bears, from which the rule looks at the
      trial, 1.5 by default.

    ## Known problems
    Sharpness is measured where it costs little; without it the rule is skipped. A batch of
    synthetic data may be sharper than real ones.

    ## References
    - Gilmer et al. 2021, A loss curvature perspective on training instability in deep learning,
      https://arxiv.org/abs/2110.04369
    - Cohen et al. 2022, Adaptive gradient methods at the edge of stability,
      https://arxiv.org/abs/2207.14484
    - Goyal et al. 2017, Accurate, large minibatch SGD, https://arxiv.org/abs/1706.02677
    """
    settings, probe = context.graph.compile, context.probe
    optimizer = settings.optimizer if settings is not None else None
    if optimizer is None or optimizer.learning_rate is None:
        yield context.skip("the saved optimizer has no readable learning rate")
        return
    if warms_up(optimizer):
        return
    if probe.sharpness is None:
        yield context.skip(probe.sharpness_skipped or "the sharpness was not measured")
        return
    sharpness, bearable = _sharpness(probe, optimizer)
    product = optimizer.learning_rate * sharpness
    losses = probe.trial_losses
    if not math.isfinite(product) or len(losses) < 3:
        return
    if product < context.number("overshoot") * bearable or not _overshoots(losses):
        return
    peak = max(losses)
    yield context.finding(
        f"The first steps at a rate of {optimizer.learning_rate:g} overshoot: rate × sharpness is "
        f"{product:.3g} where {optimizer.name} bears {bearable:.3g}, and the loss of one batch "
        f"rises from {losses[0]:.3g} to {peak:.3g}.",
        evidence=(
            Evidence(name="rate × sharpness", value=product, method="Lanczos, at the start"),
            Evidence(name="what the optimizer bears", value=bearable, method="on a quadratic"),
            *(
                Evidence(name=f"loss before step {index + 1}", value=loss, method="trial")
                for index, loss in enumerate(losses)
            ),
        ),
        remedy=(
            "Raise the rate from a hundredth over the first few hundred steps, or lower it.\n\n"
            "```python\n"
            "rate = keras.optimizers.schedules.PolynomialDecay(\n"
            f"    {optimizer.learning_rate / 100:g}, 500, "
            f"end_learning_rate={optimizer.learning_rate:g}\n"
            ")\n```\n"
        ),
        confidence=Confidence.MEDIUM,
    )


def warms_up(optimizer: OptimizerSettings) -> bool:
    """Whether the declared schedule begins below the rate it goes to."""
    config = optimizer.schedule_config
    if config.get("warmup_target") is not None and config.get("warmup_steps"):
        return True
    first, later = rate_at(optimizer, 0), (rate_at(optimizer, step) for step in WARM_STEPS)
    return first is not None and any(rate is not None and rate > first for rate in later)


def _sharpness(probe: ProbeResult, optimizer: OptimizerSettings) -> tuple[float, float]:
    """The sharpness that counts for the optimizer, and the rate × sharpness that it bears."""
    found = probe.sharpness
    if found is None:
        raise LookupError("no sharpness was measured")
    if found.preconditioned is not None:
        beta = optimizer.number("beta_1") or 0.0
        beta = beta if 0 <= beta < 1 else 0.0
        return found.preconditioned.value, (2 + 2 * beta) / (1 - beta)
    momentum = optimizer.number("momentum") or 0.0
    return found.largest.value, 2 + 2 * (momentum if 0 <= momentum < 1 else 0.0)


def _overshoots(losses: tuple[float, ...]) -> bool:
    """Whether the loss rises above its start, short of what GEB601 accuses."""
    if not all(math.isfinite(loss) for loss in losses):
        return False
    scale = max(abs(losses[0]), 1e-6)
    return losses[0] + 0.05 * scale < max(losses) and losses[-1] < DIVERGED * scale
