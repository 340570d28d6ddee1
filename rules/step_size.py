"""GEB6, steps: too short to get anywhere."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.freshness import fresh_share
from auditor.rule import Context, Needs, Option, rule


@rule(
    "GEB602",
    "learning-rate-too-low",
    severity=Severity.WARNING,
    needs=Needs.PROBE | Needs.COMPILED,
    since="0.1",
    options=(
        Option(
            name="update-ratio",
            default=5e-5,
            meaning="least share of their norm that weights should move in a step",
        ),
        Option(
            name="progress",
            default=1e-3,
            meaning="least share of the loss that the trial steps should take off their batch",
        ),
    ),
)
def learning_rate_too_low(context: Context) -> Iterator[Finding | Skipped]:
    """The declared learning rate hardly moves the weights.

    ## What it does
    Looks at the first step of the declared optimizer at its declared rate, on a copy of fresh
    weights: by which share of their norm it moves them (median over layers; with momentum, what
    that adds up to). Warns when it is less than `update-ratio` and the trial steps, too, take less
    than `progress` off the loss of the very batch they are taken on.

    ## Why is this bad
    Healthy steps move weights by 10⁻⁴ to 10⁻² of their norm. At 10⁻⁵ it takes a hundred thousand
    steps to get as far as the weights are long; the loss looks flat, and the model hopeless.
    Keras gives every optimizer the same default rate of 0.001, which suits Adam; Adadelta was
    published with 1.0.

    ## Evidence
    ‖Δw‖/‖w‖ of the first step, and the losses before each trial step. On digits a small network
    under Adadelta falls from 2.41 to 2.34 in six epochs at 0.001, and to 0.12 at 1.0.

    ## Example
    ```python
    model.compile("adadelta", "sparse_categorical_crossentropy")
    ```

    ## Use instead
    ```python
    model.compile(keras.optimizers.Adadelta(1.0), "sparse_categorical_crossentropy")
    ```

    ## Options
    - `update-ratio`: least share of their norm that weights should move in a step, 5·10⁻⁵ by
      default.
    - `progress`: least share of the loss that the trial steps should take off, 10⁻³ by default.

    ## Known problems
    Trained weights are fine-tuned at low rates rightly, and a schedule may begin with a warm-up:
    neither is judged.

    ## References
    - Zeiler 2012, ADADELTA: an adaptive learning rate method, https://arxiv.org/abs/1212.5701
    - Karpathy, CS231n, Neural networks part 3 (ratio of updates to weights),
      https://cs231n.github.io/neural-networks-3/
    """
    graph, probe = context.graph, context.probe
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    losses = probe.trial_losses
    if optimizer is None or optimizer.schedule is not None or len(losses) < 2:
        yield context.skip("no trial steps at a constant declared rate")
        return
    if fresh_share(graph) != 1.0:
        yield context.skip("the weights are not fresh from known initializers")
        return
    ratios = [
        seen.update_ratio
        for seen in probe.calls.values()
        if seen.update_ratio is not None and math.isfinite(seen.update_ratio)
    ]
    if not ratios or not all(math.isfinite(loss) for loss in losses) or losses[0] == 0:
        return
    moved = statistics.median(ratios) / (1 - _momentum(optimizer))
    progress = (losses[0] - min(losses)) / abs(losses[0])
    if moved >= context.number("update-ratio") or progress >= context.number("progress"):
        return
    rate = optimizer.learning_rate
    at = f" of {rate:g}" if rate is not None else ""
    yield context.finding(
        f"At the declared learning rate{at} a step of {optimizer.name} moves the weights by "
        f"{moved:.1e} of their norm, and {len(losses) - 1} of them take {max(progress, 0):.2%} off "
        "the loss of their own batch.",
        evidence=(
            Evidence(
                name="step over weights",
                value=moved,
                unit="‖Δw‖/‖w‖",
                method="first step, median over layers",
            ),
            Evidence(name="loss at start", value=losses[0], method="one batch"),
            Evidence(name="loss after the trial", value=losses[-1], method="the same batch"),
        ),
        remedy="Take the learning rate the plan recommends; see its interval.",
        confidence=Confidence.MEDIUM,
    )


def _momentum(optimizer: OptimizerSettings) -> float:
    """What consecutive steps in one direction add up to is 1/(1 − momentum) of one step."""
    momentum = optimizer.number("momentum") or 0.0
    return momentum if optimizer.name == "sgd" and 0 < momentum < 1 else 0.0
