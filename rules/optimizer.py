"""GEB606: settings of an optimizer that keep it from working."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.schedules import rate_at
from auditor.rule import Context, Needs, Option, rule

#: First and second moment, by optimizer, with Keras' defaults.
ADAM_LIKE = frozenset({"adam", "adamw", "adamax", "nadam", "lamb"})
#: Shares of an average that are kept a step: at 1 the average never takes anything in.
KEPT = {
    **dict.fromkeys(sorted(ADAM_LIKE | {"lion"}), ("beta_1", "beta_2")),
    "rmsprop": ("rho", "momentum"),
    "adadelta": ("rho",),
    "sgd": ("momentum",),
}
#: Below its smallest normal number half precision has few digits, and much hardware none.
HALF = np.finfo(np.float16)
#: Share of its peak below which a rate moves nothing any more.
SPENT = 1e-3


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A setting that is wrong: what, why, what instead."""

    setting: str
    value: float | str
    why: str
    instead: str
    severity: Severity = Severity.WARNING
    confidence: Confidence = Confidence.HIGH


@rule(
    "GEB606",
    "optimizer-hyperparameters",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
    options=(
        Option(
            name="momentum",
            default=0.99,
            meaning="largest momentum, or share of the first moment kept a step",
            most=1.0,
        ),
        Option(name="epsilon", default=1.0, meaning="largest epsilon"),
        Option(
            name="steps",
            default=100,
            meaning="steps after which a schedule must not have spent its rate",
        ),
    ),
)
def optimizer_hyperparameters(context: Context) -> Iterator[Finding | Skipped]:
    """An optimizer's momentum, betas, epsilon or schedule keep it from working.

    ## What it does
    Reads the settings of the declared optimizer. Errors: an average that keeps all of itself (a
    beta, rho or momentum of 1), a negative learning rate. Warnings: a momentum or β₁ above
    `momentum`; β₁ at or above √β₂; an epsilon of zero, one that half-precision weights cannot
    hold, or one above `epsilon`; a learning rate of zero; a negative decay; `nesterov` without
    momentum; an average of weights (`use_ema`) that never moves; a schedule that grows without
    end, or has spent its rate after `steps` steps.

    ## Why is this bad
    With a momentum of 1 no step is ever forgotten, and with a β of 1 none is ever taken in, while
    the correction of the bias divides by zero. A first moment that remembers longer than the
    second makes steps out of gradients whose size is forgotten: Adam then diverges even on simple
    problems, and β₁ and β₂ are usually just swapped. An epsilon of zero divides 0 by 0 at
    every weight that has no gradient, such as a word not in the batch. `decay_steps` counts
    batches, not epochs: a schedule meant for 50 epochs is over after 50 batches.

    ## Evidence
    The settings as saved, with Keras' defaults for those that are not.

    ## Example
    ```python
    model.compile(keras.optimizers.Adam(1e-3, beta_1=0.999, beta_2=0.9), "mse")
    ```

    ## Use instead
    ```python
    model.compile(keras.optimizers.Adam(1e-3, beta_1=0.9, beta_2=0.999), "mse")
    ```

    ## Options
    - `momentum`: largest momentum, or share of the first moment kept a step, 0.99 by default.
    - `epsilon`: largest epsilon, 1.0 by default, as Inception was trained with.
    - `steps`: steps after which a schedule must not have spent its rate, 100 by default.

    ## Known problems
    A callback that sets the rate leaves its last one in the file; a rate of zero is therefore a
    warning. Schedules and optimizers of one's own are not judged.

    ## References
    - Kingma, Ba 2015, Adam: a method for stochastic optimization, section 4 (β₁ < √β₂),
      https://arxiv.org/abs/1412.6980
    - Reddi, Kale, Kumar 2018, On the convergence of Adam and beyond,
      https://arxiv.org/abs/1904.09237
    - Keras documentation, Optimizers, https://keras.io/api/optimizers/
    """
    optimizer = context.graph.compile.optimizer if context.graph.compile is not None else None
    if optimizer is None:
        yield context.skip("the model was saved without an optimizer")
        return
    for check in CHECKS:
        for fault in check(context, optimizer):
            yield context.finding(
                f"{optimizer.name}: {fault.why}.",
                evidence=(
                    Evidence(name=fault.setting, value=fault.value, method="compile settings"),
                ),
                remedy=fault.instead,
                severity=fault.severity,
                confidence=fault.confidence,
                place=fault.setting,
            )


def _averages(context: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    for name in KEPT.get(optimizer.name, ()):
        kept = optimizer.number(name)
        if kept is None or (name == "momentum" and kept == 0):
            continue
        if kept >= 1 or kept < 0:
            outcome = "forgets no step" if name == "momentum" else "never takes a gradient in"
            yield Fault(
                setting=name,
                value=kept,
                why=f"{name}={kept:g} makes an average that {outcome}"
                if kept >= 1
                else f"{name}={kept:g} is negative, so that the average changes sign at every step",
                instead=f"Use {name}={0.999 if name == 'beta_2' else 0.9}.",
                severity=Severity.ERROR,
            )
        elif name in ("momentum", "beta_1") and kept > context.number("momentum"):
            if _outlives(optimizer):
                continue  # the more telling of the two
            yield Fault(
                setting=name,
                value=kept,
                why=f"{name}={kept:g} averages over {1 / (1 - kept):,.0f} steps, so that the "
                "weights go on long after the gradient has turned",
                instead=f"Use {name}=0.9; up to 0.99 with a low learning rate.",
                confidence=Confidence.MEDIUM,
            )


def _moments(_: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    if _outlives(optimizer):
        first, second = _betas(optimizer)
        yield Fault(
            setting="beta_2",
            value=second,
            why=f"beta_1={first:g} remembers longer than beta_2={second:g}: steps are divided by "
            "a size that the gradients they are made of no longer have",
            instead="Use beta_1=0.9 and beta_2=0.999; Adam converges where β₁ < √β₂.",
        )


def _outlives(optimizer: OptimizerSettings) -> bool:
    """Whether Adam's first moment remembers longer than its second: β₁ ≥ √β₂."""
    first, second = _betas(optimizer)
    return optimizer.name in ADAM_LIKE and 0 <= second < 1 and second <= first * first < 1


def _betas(optimizer: OptimizerSettings) -> tuple[float, float]:
    return _or(optimizer.number("beta_1"), 0.9), _or(optimizer.number("beta_2"), 0.999)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _epsilon(context: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    epsilon = optimizer.number("epsilon")
    if epsilon is None:
        return
    if epsilon <= 0:
        yield Fault(
            setting="epsilon",
            value=epsilon,
            why=f"epsilon={epsilon:g} leaves 0/0, which is NaN, for every weight without a "
            "gradient",
            instead="Use epsilon=1e-7, Keras' default.",
        )
    elif epsilon > context.number("epsilon"):
        yield Fault(
            setting="epsilon",
            value=epsilon,
            why=f"epsilon={epsilon:g} is far above any gradient, so that steps are gradients over "
            "epsilon: plain descent at a small rate",
            instead="Use epsilon=1e-7, Keras' default; up to 1 where a recipe says so.",
        )
    elif epsilon < HALF.smallest_normal and _half_weights(context.graph):
        held = float(np.float16(epsilon))
        yield Fault(
            setting="epsilon",
            value=epsilon,
            why=f"epsilon={epsilon:g} is {held:.1g} in the half precision that weights and "
            "moments are kept in, and squared gradients vanish there too: steps become 0/0",
            instead='Keep weights in float32 (policy "mixed_float16" or "mixed_bfloat16"), or use '
            "epsilon=1e-3.",
        )


def _half_weights(graph: LayerGraph) -> bool:
    return any(
        weight.trainable and weight.dtype == "float16" and call.trainable
        for call in graph.calls
        for weight in call.weights
    )


def _rates(context: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    rate = optimizer.learning_rate
    if rate is None:
        return
    if rate < 0:
        yield Fault(
            setting="learning_rate",
            value=rate,
            why=f"a learning rate of {rate:g} goes up the gradient: the loss is maximized",
            instead="Use a positive rate; to maximize, change the sign of the loss.",
            severity=Severity.ERROR,
        )
    elif rate == 0 and optimizer.schedule is None:
        yield Fault(
            setting="learning_rate",
            value=rate,
            why="a learning rate of 0 changes no weight",
            instead="Compile with the rate to train on with, before saving.",
        )
    elif optimizer.schedule is not None:
        yield from _schedule(context, optimizer)


def _schedule(context: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    steps = int(context.number("steps"))
    # A rate read at so many steps: schedules count batches, and an epoch has hundreds.
    rates = [rate_at(optimizer, step) for step in range(0, steps + 1, max(steps // 20, 1))]
    known = [rate for rate in rates if rate is not None]
    late = [rate_at(optimizer, step) for step in (steps, 10 * steps, 1000 * steps)]
    if not known or None in late[:2]:
        return
    peak = max(known)
    name = optimizer.schedule or ""
    if peak > 0 and all(rate is None or rate < SPENT * peak for rate in late):
        yield Fault(
            setting="schedule",
            value=name,
            why=f"{name} has spent the learning rate after {steps} batches: {late[0]:.2g}, from "
            f"{peak:.2g}",
            instead="`decay_steps` counts batches: multiply epochs by the batches of an epoch.",
            confidence=Confidence.MEDIUM,
        )
    elif late[1] is not None and _grows(optimizer, 1000 * steps):
        yield Fault(
            setting="schedule",
            value=name,
            why=f"{name} raises the learning rate without end",
            instead="Use a `decay_rate` below 1.",
        )


def _grows(optimizer: OptimizerSettings, step: int) -> bool:
    """Whether an exponential schedule goes up."""
    decay = optimizer.schedule_config.get("decay_rate")
    return (
        optimizer.schedule == "ExponentialDecay"
        and isinstance(decay, (int, float))
        and decay > 1
        and (rate_at(optimizer, step) or math.inf) > (optimizer.learning_rate or 0.0)
    )


def _idle(_: Context, optimizer: OptimizerSettings) -> Iterator[Fault]:
    decay = optimizer.number("weight_decay")
    if decay is not None and decay < 0:
        yield Fault(
            setting="weight_decay",
            value=decay,
            why=f"a weight decay of {decay:g} makes every weight grow at each step",
            instead="Use a positive `weight_decay`, or none.",
        )
    if (
        optimizer.name == "sgd"
        and optimizer.config.get("nesterov") is True
        and not optimizer.number("momentum")
    ):
        yield Fault(
            setting="nesterov",
            value="true",
            why="nesterov=True does nothing without momentum",
            instead="Set `momentum=0.9` with it.",
        )
    average = optimizer.number("ema_momentum")
    if optimizer.config.get("use_ema") is True and average is not None and average >= 1:
        yield Fault(
            setting="ema_momentum",
            value=average,
            why=f"ema_momentum={average:g} keeps the averaged weights where they began",
            instead="Use ema_momentum=0.99 to 0.9999.",
        )


CHECKS: tuple[Callable[[Context, OptimizerSettings], Iterator[Fault]], ...] = (
    _averages,
    _moments,
    _epsilon,
    _rates,
    _idle,
)
